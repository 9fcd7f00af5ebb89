"""Real ratings and votes: calibration and accuracy on people that the model has not seen."""

from __future__ import annotations

from studies.real_data import cross_fit
from studies.study import Arm, Study, once

STUDY = Study(
    "real_data",
    "What does a model know of people it has not seen, over all responses and within a prompt?",
    {"cross_fit": Arm(once(*({"data": name} for name in cross_fit.SETS)), cross_fit.run, seeds=1)},
)
