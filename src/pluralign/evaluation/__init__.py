"""Evaluation: how good is a reward model on people and texts that it has not seen?

`evaluate` and `cross_fit` compare a model with its baselines, `compare` several models or policies with each
other, and `dominance` asks whether one is better for everybody; `rewardbench`, `rewardbench2` and `rm_bench`
compute the scores of the published benchmarks, `three_way` those of votes with ties, `evaluate_programs`
pass@k of a policy's programs; the formulas are in
`metrics` and `intervals`.
"""

from __future__ import annotations

from pluralign.evaluation.comparison import compare
from pluralign.evaluation.dominance import dominance
from pluralign.evaluation.intervals import Interval, difference_interval, mean_interval
from pluralign.evaluation.programs import evaluate_programs
from pluralign.evaluation.rewardbench import rewardbench, rewardbench2
from pluralign.evaluation.rm_bench import rm_bench
from pluralign.evaluation.suite import cross_fit, evaluate
from pluralign.evaluation.three_way import three_way

__all__ = [
    "Interval",
    "compare",
    "cross_fit",
    "difference_interval",
    "dominance",
    "evaluate",
    "evaluate_programs",
    "mean_interval",
    "rewardbench",
    "rewardbench2",
    "rm_bench",
    "three_way",
]
