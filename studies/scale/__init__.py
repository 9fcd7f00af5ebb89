"""Many rows: the engine on Ray beside the local one, a worker killed on the way, and memory against rows."""

from __future__ import annotations

from studies.scale import cache_size, engines, memory
from studies.study import Arm, Study, once

STUDY = Study(
    "scale",
    "Do engines give the same files, how fast are they, and does memory stay flat as rows grow?",
    {
        "engines": Arm(
            once(*({"case": name} for name in engines.CASES)),
            engines.run,
            seeds=1,
            threads=1,
            packages=("ray",),
        ),
        "cache": Arm(
            once(*({"width": width} for width in cache_size.WIDTHS)), cache_size.run, seeds=1, threads=1
        ),
        "memory": Arm(once(*memory.RUNS), memory.run, seeds=1, threads=1, packages=("ray",)),
    },
)
