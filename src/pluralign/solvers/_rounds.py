"""Second stage: an interior-point solve on a few rows and columns, a check of the others, repeated.

Each round solves the free rows and columns of every unfinished fit, checks the signs of all rows, for all
these fits in one matrix product, and the gradients of all columns; violators join. The result is certified
whether or not the rounds finished.

In: a task and a rough fit. Out: fits in f-space with objective and certified gap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.solvers._active_set import ActiveSet, choose_sets, free_rows, nearest_fixed
from pluralign.solvers._admm import RoughFit
from pluralign.solvers._certificate import lower_bound
from pluralign.solvers._interior_point import solve_interior_point
from pluralign.solvers._task import Task, check_loss

__all__ = ["CertifiedFit", "refine", "relative_gap"]

TOGETHER = 32
"""Number of fits whose rounds share their passes over the rows; more would need more memory for rows x
fits."""
MAX_ROUNDS = 30
MAX_STEPS = 60
ACCURACY = 0.2
"""Gap of an interior-point solve as a share of the gap to certify; less if a round frees nothing."""
ROUNDING = 1e-14
"""With targets of unit size, a smaller objective (per unit of coefficients) is 0 up to rounding."""


class CertifiedFit(NamedTuple):
    """Fits in f-space with their objective, a certified lower bound on it and the relative gap between."""

    coef: Float[Tensor, "M P"]
    intercept: Float[Tensor, " M"]
    objective: Float[Tensor, " M"]
    bound: Float[Tensor, " M"]
    gap: Float[Tensor, " M"]
    steps: int


@dataclass
class _UnfinishedFit:
    """The state of one fit.

    `best_...` are the coefficients with the smallest objective; `unbounded` means that the last
    interior-point solve failed because too few rows were free.
    """

    active: ActiveSet
    best_coef: Tensor
    best_intercept: Tensor
    bound: float = 0.0
    accuracy: float = ACCURACY
    steps: int = 0
    unbounded: bool = False
    done: bool = False

    def gap(self) -> float:
        return relative_gap(self.active.objective, self.bound, self.best_coef)


def relative_gap(objective: float, bound: float, coef: Float[Tensor, " P"]) -> float:
    """(objective - bound) / objective; 0 if the objective is 0 up to rounding."""
    if objective <= ROUNDING * (1.0 + float(coef.abs().sum())):
        return 0.0
    return max(0.0, objective - bound) / objective


def refine(
    task: Task,
    rough: RoughFit,
    constants: Float[Tensor, " M"],
    tol: float,
    max_iterations: int,
    progress: Callable[[int], None],
) -> CertifiedFit:
    """Solves every fit to a certified relative gap of `tol`, or as far as the steps allow.

    Args:
        task: the fits.
        rough: the first stage's result.
        constants: the best intercepts without features; 0 if no intercept is fitted.
        tol: relative gap to certify.
        max_iterations: maximum interior-point steps for each fit.
        progress: called after every interior-point solve and every check with the number of finished fits.
    """
    fits: list[_UnfinishedFit] = []
    for start in range(0, constants.shape[0], TOGETHER):
        chosen = range(start, min(start + TOGETHER, constants.shape[0]))
        fits += _refine_some(task, rough, constants, chosen, tol, max_iterations, progress)
    return CertifiedFit(
        torch.stack([fit.best_coef for fit in fits]),
        torch.stack([fit.best_intercept for fit in fits]),
        constants.new_tensor([fit.active.objective for fit in fits]),
        constants.new_tensor([fit.bound for fit in fits]),
        constants.new_tensor([fit.gap() for fit in fits]),
        max(fit.steps for fit in fits),
    )


def _refine_some(
    task: Task,
    rough: RoughFit,
    constants: Tensor,
    chosen: range,
    tol: float,
    max_iterations: int,
    progress: Callable[[int], None],
) -> list[_UnfinishedFit]:
    """The rounds of some fits, which share their passes."""
    sets, side = choose_sets(task, rough, constants, chosen)
    fits = [_UnfinishedFit(active, active.coef, active.intercept) for active in sets]
    for fit in fits:
        fit.done = fit.gap() <= tol
    for _ in range(MAX_ROUNDS):
        unfinished = [fit for fit in fits if not fit.done]
        done = chosen.start + len(fits) - len(unfinished)
        progress(done)
        if not unfinished:
            break
        for fit in unfinished:
            _solve(task, fit, tol, max_iterations)
            progress(done)
        _check(task, unfinished, side, tol, max_iterations)
    return fits


def _solve(task: Task, fit: _UnfinishedFit, tol: float, max_iterations: int) -> None:
    """An interior-point solve on a fit's rows and columns, and the resulting bound."""
    active, num_rows, num_columns = fit.active, task.design.num_rows, task.design.num_columns
    rows = task.with_intercept(task.design.take(active.free))
    weight = rows.new_ones(rows.shape[0]) if task.weights is None else task.weights[active.free]
    low, high = weight * (active.level - 1.0), weight * active.level
    targets = task.targets[active.attribute][active.free]
    penalties = task.penalties
    limits = rows.new_zeros(num_columns) if penalties is None else penalties
    chosen, coef = active.columns, active.coef[active.columns]
    if task.fit_intercept:
        limits = torch.cat([limits, limits.new_zeros(1)])
        chosen = torch.cat([chosen, chosen.new_tensor([num_columns])])
        coef = torch.cat([coef, active.intercept[None]])
    found = solve_interior_point(
        rows[:, chosen],
        targets,
        low,
        high,
        limits[:0] if penalties is None else num_rows * penalties[active.columns],
        -active.fixed_gradient[chosen],
        coef,
        active.start,
        accuracy=fit.accuracy * tol * num_rows * active.objective,
        max_steps=min(MAX_STEPS, max_iterations - fit.steps),
    )
    fit.steps += found.steps
    more = active.free.shape[0] < num_rows and fit.steps < max_iterations
    fit.unbounded = not found.solved and more
    if fit.unbounded:
        active.coef, active.intercept = fit.best_coef, fit.best_intercept
        return
    active.coef = torch.zeros_like(active.coef)
    active.coef[active.columns] = found.coef[: active.columns.shape[0]]
    if task.fit_intercept:
        active.intercept = found.coef[-1]
    bound, active.start, gradient = lower_bound(
        rows, targets, low, high, found.dual, active.fixed_gradient, active.fixed_value, limits, num_rows
    )
    fit.bound = max(fit.bound, bound)
    if penalties is not None:
        over = gradient[:num_columns].abs() > penalties * (1.0 + 0.1 * tol)
        over[active.columns] = True
        active.columns = over.nonzero()[:, 0]


def _check(
    task: Task, fits: list[_UnfinishedFit], side: Int[Tensor, "m N"], tol: float, max_iterations: int
) -> None:
    """Finishes fits that are certified; for the others, frees the rows on the wrong side."""
    objective, wrong = _evaluate(task, [fit.active for fit in fits], side)
    for fit, value, rows in zip(fits, objective, wrong, strict=True):
        active, sides = fit.active, side[fit.active.index]
        if value < active.objective:
            active.objective = value
            fit.best_coef, fit.best_intercept = active.coef, active.intercept
        fit.done = fit.gap() <= tol or fit.steps >= max_iterations
        if fit.done:
            continue
        if fit.unbounded:
            rows = torch.unique(torch.cat([rows, nearest_fixed(task, active, sides)]))
        if rows.shape[0] == 0:
            fit.accuracy *= 0.1
        else:
            free_rows(task, active, sides, rows)


def _evaluate(
    task: Task, sets: list[ActiveSet], side: Int[Tensor, "m N"]
) -> tuple[list[float], list[Int[Tensor, " n"]]]:
    """Objectives, and fixed rows on the wrong side, in one pass over all rows."""
    coef = torch.stack([active.coef for active in sets])
    intercept = torch.stack([active.intercept for active in sets])
    index = torch.tensor([active.index for active in sets], device=side.device)
    attribute = torch.tensor([active.attribute for active in sets], device=side.device)
    level = coef.new_tensor([active.level for active in sets])[:, None]
    loss = torch.zeros_like(intercept)
    found = []
    for part, _, residual in task.residuals(coef, intercept, attribute):
        loss += task.weigh(check_loss(residual, level), part).sum(1)
        fits, rows = (residual.mul_(side[index, part]) < 0.0).nonzero(as_tuple=True)
        found.append(torch.stack([fits, rows + part.start]))
    fits, rows = torch.cat(found, dim=1)
    counts = fits.bincount(minlength=len(sets)).tolist()
    wrong = list(rows[fits.argsort(stable=True)].split(counts))
    return (loss / task.design.num_rows + task.penalty(coef)).tolist(), wrong
