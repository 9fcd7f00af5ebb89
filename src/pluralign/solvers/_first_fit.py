"""First stage: a rough fit of all levels and targets, by ADMM on all rows, or on a few and then refined on
all.

In: a task. Out: coefficients, gradient and dual that show the second stage which rows and columns matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.solvers._admm import RoughFit, rough_fit
from pluralign.solvers._design import build_design
from pluralign.solvers._smoothed import sharpen
from pluralign.solvers._task import Task

__all__ = ["first_fit"]

ITERATIONS = 50, 120
"""Minimum and maximum ADMM iterations; they grow with the rows per column, so that few rows need to be
freed."""
FEW_ROWS = 10_000
ROWS_PER_COLUMN = 50
ROUGH_LEVEL = 1e-6
"""The float32 stage does not fit levels closer to 0 or 1: it would round 1 - 1e-8 to 1, whose box is
empty."""
MANY = 3
"""Refining pays off from this many times the sample, and if a Hessian of P^2 costs less than the rows."""


def first_fit(task: Task, constants: Float[Tensor, " M"], progress: Callable[[float], None]) -> RoughFit:
    """The rough fit.

    Args:
        task: the fits.
        constants: the best intercepts without features.
        progress: called with the share that is done.
    """
    rows = _few_rows(task.design.num_rows, task.design.num_columns)
    if rows is None:
        return _admm(task, constants, progress)
    fitted, others = rows.to(task.design.features.device)
    own = build_design(task.design.features[fitted], centered=task.fit_intercept, whiten=task.l1 == 0.0)
    few = replace(task.subset(fitted), design=own)
    start = _admm(few, constants, lambda share: progress(0.5 * share))
    coef, intercept = task.design.from_given(*own.to_given(start.coef.double(), start.intercept.double()))
    sharp = sharpen(task, coef, intercept, others, lambda share: progress(0.5 + 0.5 * share))
    return sharp._replace(steps=start.steps + sharp.steps)


def _few_rows(num_rows: int, num_columns: int) -> Int[Tensor, "2 n"] | None:
    """Two disjoint fixed random samples of rows, in order; None if there are too few rows."""
    few = max(FEW_ROWS, ROWS_PER_COLUMN * num_columns)
    if num_rows < max(MANY * few, num_columns**2 // 4):
        return None
    chosen = torch.randperm(num_rows, generator=torch.Generator().manual_seed(0))[: 2 * few]
    return chosen.reshape(2, few).sort(dim=1).values


def _admm(task: Task, constants: Tensor, progress: Callable[[float], None]) -> RoughFit:
    single = task.design.single()
    penalties = task.penalties
    iterations = _iterations(*single.shape)
    return rough_fit(
        single,
        task.targets.float(),
        constants.float().reshape(task.targets.shape[0], -1),
        single.new_tensor(task.levels).clamp(ROUGH_LEVEL, 1.0 - ROUGH_LEVEL),
        None if task.weights is None else task.weights.float(),
        None if penalties is None else penalties.float(),
        task.fit_intercept,
        iterations,
        lambda done: progress(done / iterations),
    )


def _iterations(num_rows: int, num_columns: int) -> int:
    least, most = ITERATIONS
    scaled: float = least * (num_rows / (130.0 * max(1, num_columns))) ** 0.4
    return min(most, max(least, round(scaled)))
