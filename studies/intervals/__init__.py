"""Which interval over groups covers what it says, for means and for other statistics."""

from __future__ import annotations

from collections.abc import Iterator

from studies.intervals import means, statistics
from studies.study import Arm, Settings, Study


def _means(seed: int) -> Iterator[Settings]:
    for sizes in ("equal", "emobank"):
        for groups in (5, 10, 20, 80):
            for effects in means.EFFECTS:
                yield {"sizes": sizes, "groups": groups, "effects": effects, "seed": seed}


def _statistics(seed: int) -> Iterator[Settings]:
    for statistic in statistics.STATISTICS:
        for groups in (5, 10, 20, 80):
            yield {"statistic": statistic, "groups": groups, "seed": seed}


STUDY = Study(
    "intervals",
    "Which interval over groups covers what it says?",
    {
        "means": Arm(_means, means.run, seeds=1, threads=1),
        "statistics": Arm(_statistics, statistics.run, seeds=1, threads=1),
    },
)
