"""Gaussian ensembles in the lab, where mean and spread of what people think are known exactly."""

from __future__ import annotations

from studies.brme import ensembles
from studies.study import Arm, Study

STUDY = Study(
    "brme",
    "Do Gaussian heads learn the noise, do they differ, and what do their measures choose?",
    {
        "spread": Arm(ensembles.grid, ensembles.spread, threads=1),
        "heads": Arm(ensembles.grid, ensembles.heads, threads=1),
        "choice": Arm(ensembles.grid, ensembles.choice, threads=1),
    },
)
