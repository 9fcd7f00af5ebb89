"""Policies in the lab: which offline method helps people, at what distance, and why.

Arms: `grid` searches each method's settings by gold reward on a seed of its own; every other arm waits for
it and runs with the best. `before` is the language model itself.
"""

from __future__ import annotations

from functools import partial

from studies.lab_policy import training
from studies.lab_policy.runs import ARMS
from studies.study import Arm, Study

STUDY = Study(
    "lab_policy",
    "Which offline method helps people, at what distance, and why?",
    {
        "grid": Arm(training.grid, partial(training.perform, "grid"), seeds=1),
        "before": Arm(lambda seed: [{"seed": seed}], training.before),
        **{arm: Arm(partial(training.after_grid, arm), partial(training.perform, arm)) for arm in ARMS},
    },
)
