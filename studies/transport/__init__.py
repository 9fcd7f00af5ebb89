"""Which loss learns the crowd from few raters; the speed of transport is an arm of `speed`."""

from __future__ import annotations

from studies.study import Arm, Study
from studies.transport import raters

STUDY = Study(
    "transport",
    "Which loss of the categorical family learns the crowd from few raters?",
    {"raters": Arm(lambda seed: [{"seed": seed}], raters.run, threads=1)},
)
