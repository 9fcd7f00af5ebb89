"""First stage for many rows: from a fit on a sample to one near the optimum over all rows, in a few passes.

With N rows the second stage can stay small only if predictions are within about P / N of the optimum, and a
fit of n rows is within sqrt(P / n). Newton steps on the smoothed loss close the distance: the check function
is replaced by a parabola where |r| < h, so that only the rows of this band have curvature,

    g = -sum_i w_i d_i f_i / N,   d_i = t - 1 + clip(r_i / 2h + 1/2, 0, 1),
    H = sum_band w_i f_i f_i' / (2hN),

and h shrinks with the error, until the band holds a few rows per column. Each step reads all rows once;
the Hessian uses at most `BAND` rows per column. With a penalty each step solves a lasso on the screened
columns.

In: a task and a fit. Out: a better fit, and the dual above.

Papers: Chen 2007, A finite smoothing algorithm for quantile regression; He, Pan, Tan and Zhou 2023, Smoothed
quantile regression with large-scale inference (the uniform kernel). Shrinking by counts of rows is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.solvers._admm import RoughFit
from pluralign.solvers._newton import factorise, weighted_gram
from pluralign.solvers._task import Task, check_loss

__all__ = ["sharpen"]

FIRST_SHARE, SHRINK = 0.25, 0.25
"""Share of the rows in the first band at the median, and the factor from one step to the next."""
LAST = 6
"""Rows per active column in the last band."""
BAND = 10
"""Maximum rows per column in a Hessian."""
LEAST_CURVATURE = 0.3
"""Of a column, as a share of the intercept's."""
MAX_PASSES = 12
SCREEN = 0.75
"""Columns move where |gradient| reaches this share of their L1 weight."""
LASSO_STEPS, LASSO_SPLIT, OVER_RELAXATION = 150, 0.05, 1.7


class _Pass(NamedTuple):
    """The results of one pass over all rows; `gradient` is that of the smoothed loss."""

    objective: Float[Tensor, " M"]
    gradient: Float[Tensor, "M Q"]
    band: list[Int[Tensor, " n"]]


def sharpen(
    task: Task,
    coef: Float[Tensor, "M P"],
    intercept: Float[Tensor, " M"],
    sample: Int[Tensor, " n"],
    progress: Callable[[float], None],
) -> RoughFit:
    """Newton steps with a shrinking band; a step that raises the true objective is cut.

    Args:
        task: the fits.
        coef: starting point, in f-space.
        intercept: starting point.
        sample: rows that determine the width of the bands; not those of the fit, which lie closer to it.
        progress: called with the approximate share of passes done.

    Returns:
        The best point found, with dual and gradient of the last one.
    """
    few = task.subset(sample)
    num_fits, num_columns = coef.shape
    num_rows = task.design.num_rows
    best, best_coef, best_intercept = torch.full_like(intercept, torch.inf), coef, intercept
    dual = coef.new_empty((num_fits, num_rows), dtype=torch.float32)
    share = 4.0 * FIRST_SHARE * (task.level * (1.0 - task.level))[:, 0]
    last = False
    for passes in range(1, MAX_PASSES + 1):
        columns = (coef != 0.0).sum(1) if task.l1 else torch.full_like(best, num_columns)
        fewest = LAST * (columns + 1.0) / num_rows
        width = _width(few, coef, intercept, torch.maximum(share, fewest))
        stride = max(1, int(share.amin() * num_rows) // (2 * BAND * (num_columns + 1)))
        found = _pass_over(task, coef, intercept, width, stride, dual if last else None)
        good = found.objective <= best
        best = torch.where(good, found.objective, best)
        best_coef = torch.where(good[:, None], coef, best_coef)
        best_intercept = torch.where(good, intercept, best_intercept)
        if last:
            break
        # A worse point is moved most of the way back.
        coef, intercept = coef.lerp(best_coef, 0.75), intercept.lerp(best_intercept, 0.75)
        for m in good.nonzero()[:, 0].tolist():
            per_row = stride / (2.0 * float(width[m]) * num_rows)
            coef[m], intercept[m] = _step(
                task, coef[m], intercept[m], found.gradient[m], found.band[m], per_row
            )
        last = bool((good & (share <= fewest)).all()) or passes == MAX_PASSES - 1
        left = float((share / fewest).amax().clamp_min(1.0).log()) / -math.log(SHRINK)
        progress(passes / (passes + math.ceil(left) + 1))
        share = torch.where(good, SHRINK * share, share)
    progress(1.0)
    return RoughFit(best_coef, best_intercept, found.gradient[:, :num_columns], dual, passes)


def _width(few: Task, coef: Tensor, intercept: Tensor, share: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """Half-widths of the bands that contain these shares of the rows."""
    near = [residual.abs() for _, _, residual in few.residuals(coef, intercept, few.attribute)]
    ordered = torch.cat(near, dim=1).sort(dim=1).values
    place = (share * ordered.shape[1]).long().clamp(1, ordered.shape[1] - 1)
    # Ratings with ties can put a whole band at 0.
    return ordered.gather(1, place[:, None])[:, 0].clamp_min(1e-6)


def _pass_over(
    task: Task, coef: Tensor, intercept: Tensor, width: Tensor, stride: int, dual: Tensor | None
) -> _Pass:
    """One pass; only every `stride`-th row can be in a band; the dual times weights is written to `dual`."""
    level, num_rows = task.level, task.design.num_rows
    loss, totals = torch.zeros_like(intercept), torch.zeros_like(intercept)
    sums = coef.new_zeros((coef.shape[0], task.design.features.shape[1]))
    slope = 0.5 / width[:, None]
    bands = []
    for part, block, residual in task.residuals(coef, intercept, task.attribute):
        loss += task.weigh(check_loss(residual, level), part).sum(1)
        fits, rows = (residual[:, ::stride].abs() < width[:, None]).nonzero(as_tuple=True)
        bands.append(torch.stack([fits, part.start + stride * rows]))
        push = residual.mul_(slope).add_(0.5).clamp_(0.0, 1.0).sub_(1.0 - level)
        push = task.weigh(push, part)
        sums.addmm_(push, block)
        totals += push.sum(1)
        if dual is not None:
            dual[:, part] = push
    fits, rows = torch.cat(bands, dim=1)
    order = fits.argsort(stable=True)
    counts = fits.bincount(minlength=coef.shape[0]).tolist()
    return _Pass(
        loss / num_rows + task.penalty(coef),
        task.join_sums(sums, totals) / num_rows,
        list(rows[order].split(counts)),
    )


def _step(
    task: Task, coef: Tensor, intercept: Tensor, gradient: Tensor, band: Tensor, per_row: float
) -> tuple[Float[Tensor, " P"], Float[Tensor, ""]]:
    """One fit's Newton step on its screened columns.

    `gradient` is sum w d f / N, and `per_row` the weight in the Hessian of a row in the band.
    """
    penalties = task.penalties
    if penalties is None:
        chosen = torch.arange(coef.shape[0], device=coef.device)
    else:
        chosen = ((coef != 0.0) | (gradient[: coef.shape[0]].abs() >= SCREEN * penalties)).nonzero()[:, 0]
    step = max(1, band.shape[0] // (BAND * (chosen.shape[0] + 1)))
    rows = band[::step]
    features = task.with_intercept(task.design.take(rows, chosen))
    if features.numel() == 0:
        return coef, intercept
    curvature = features.new_full((rows.shape[0],), per_row * band.shape[0] / rows.shape[0])
    if task.weights is not None:
        curvature = curvature * task.weights[rows]
    start, pull = coef[chosen], gradient[: coef.shape[0]][chosen]
    if task.fit_intercept:
        start, pull = torch.cat([start, intercept[None]]), torch.cat([pull, gradient[-1:]])
    hessian = weighted_gram(features, curvature)
    # A column that is mostly 0 may have no row in the band; its variance over all rows is 1.
    lacking = (LEAST_CURVATURE * curvature.sum() - hessian.diagonal()).clamp_min(0.0)
    hessian.diagonal().add_(lacking)
    if penalties is None:
        found = start + torch.cholesky_solve(pull[:, None], _factor(hessian, 1e-6))[:, 0]
    else:
        linear = (curvature * (features @ start)) @ features + lacking * start + pull
        found = _lasso(hessian, linear, start, penalties[chosen])
    if not bool(torch.isfinite(found).all()):
        return coef, intercept
    moved = torch.zeros_like(coef)
    moved[chosen] = found[: chosen.shape[0]]
    return moved, found[-1] if task.fit_intercept else intercept


def _factor(matrix: Tensor, share: float) -> Tensor:
    matrix = matrix.clone()
    matrix.diagonal().add_(share * matrix.diagonal().mean())
    return factorise(matrix)


def _lasso(hessian: Tensor, linear: Tensor, start: Tensor, penalties: Tensor) -> Tensor:
    """Approximate min over x of x'Hx / 2 - linear'x + sum_j lam_j |x_j|, by ADMM; an intercept, last, is
    free."""
    split = LASSO_SPLIT * hessian.diagonal().mean()
    inverse = torch.cholesky_inverse(_factor(hessian, LASSO_SPLIT))
    limit = torch.cat([penalties, penalties.new_zeros(start.shape[0] - penalties.shape[0])]) / split
    x, dual = start, torch.zeros_like(start)
    for _ in range(LASSO_STEPS):
        smooth = inverse @ (linear + split * (x - dual))
        shifted = OVER_RELAXATION * smooth + (1.0 - OVER_RELAXATION) * x + dual
        dual = torch.clamp(shifted, -limit, limit)
        x = shifted - dual
    return x
