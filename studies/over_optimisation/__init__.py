"""Over-optimisation in the lab."""

from __future__ import annotations

from studies.over_optimisation import best_of_n
from studies.study import Arm, Study

STUDY = Study(
    "over_optimisation",
    "What is the best of n responses worth to people, by family and risk measure?",
    {
        "best_of_n": Arm(best_of_n.grid, best_of_n.run, threads=1),
        "ensembles": Arm(best_of_n.grid, best_of_n.run_ensembles, threads=1),
    },
)
