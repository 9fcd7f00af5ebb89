"""Judges of different scale, severity, bias and noise: does it help to combine them by ranks?"""

from __future__ import annotations

from studies.judges import panels
from studies.study import Arm, Study

STUDY = Study(
    "judges",
    "Does it help to put judges on one scale by their ranks before they are averaged?",
    {"panels": Arm(panels.grid, panels.run, threads=1)},
)
