"""Ours against what people use today, next to each other in one process: ratios are the result.

Arms: `policy` training against TRL, offline, and `ppo`, online; `tuning` of reward models against TRL; the
quantile `solver` against scikit-learn and statsmodels; `embeddings` against the plain loop, and against
`sentence_transformers`; `transport` losses against POT; five Gaussian `heads` against one; `tables` of
up to a million rows against pyarrow and pandas; `serving` against a plain server, and a
`soak` of it by clients that must not lose a reward; the `explorer` in a browser; `programs` in a sandbox
against plain processes.
"""

from __future__ import annotations

from studies.speed import (
    embeddings,
    explorer,
    heads,
    policy,
    ppo,
    programs,
    serving,
    soak,
    solver,
    tables,
    transport,
    tuning,
)
from studies.study import Arm, Study, once

STUDY = Study(
    "speed",
    "How fast is it, beside what people use today?",
    {
        "policy": Arm(policy.grid, policy.run, seeds=3, threads=1, packages=("trl",)),
        "tuning": Arm(tuning.grid, tuning.run, seeds=3, threads=1, packages=("trl",)),
        "ppo": Arm(ppo.grid, ppo.run, seeds=3, threads=1),
        "solver": Arm(
            once(*({"case": name} for name in solver.CASES)),
            solver.run,
            seeds=1,
            threads=1,
            packages=("scipy", "scikit-learn", "statsmodels"),
        ),
        "embeddings": Arm(once({}), embeddings.run, seeds=1, threads=1, packages=("tokenizers",)),
        "sentence_transformers": Arm(
            once({}),
            embeddings.run_sentence_transformers,
            seeds=1,
            threads=1,
            packages=("tokenizers", "sentence-transformers"),
        ),
        "transport": Arm(once({}), transport.run, seeds=1, threads=1, packages=("POT",)),
        "heads": Arm(once({}), heads.run, seeds=1, threads=1),
        "serving": Arm(once({}), serving.run, seeds=1, threads=1, packages=("fastapi", "uvicorn")),
        "soak": Arm(once({}), soak.run, seeds=1, packages=("aiohttp", "fastapi", "uvicorn")),
        "explorer": Arm(
            once({}), explorer.run, seeds=1, threads=2, packages=("fastapi", "uvicorn", "playwright")
        ),
        "tables": Arm(once(*tables.RUNS), tables.run, seeds=1, threads=1, packages=("pyarrow", "pandas")),
        "programs": Arm(once({}), programs.run, seeds=1, threads=1),
    },
)
