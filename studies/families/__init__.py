"""All families against held-out raters of three sets of real ratings."""

from __future__ import annotations

from studies.families import distances
from studies.study import Arm, Study

STUDY = Study(
    "families",
    "How near does each family come to people it has not seen, and what does it need for that?",
    {"distances": Arm(distances.grid, distances.run, seeds=1, threads=1)},
)
