"""Policies that write programs in the lab, trained on tests: methods, the finite Z, ties, number of tests."""

from __future__ import annotations

from studies.programs_lab import training
from studies.study import Arm, Study

STUDY = Study(
    "programs_lab",
    "What does a verified reward with atoms change: which method, which Z, tied prompts, how many tests?",
    {
        "grid": Arm(training.grid, training.perform, seeds=1, threads=1),
        "before": Arm(lambda seed: [{"seed": seed}], training.before, threads=1),
        "methods": Arm(training.methods, training.perform, threads=1),
        "ties": Arm(training.ties, training.perform, threads=1),
        "tests": Arm(training.tests, training.perform, threads=1),
        "verifier": Arm(lambda seed: [{"seed": seed}], training.verifier, threads=1),
    },
)
