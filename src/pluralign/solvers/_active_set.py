"""Which rows and columns of one fit are worked on, and the sums over all the others.

Rows far from the quantile have a known dual, an end of their box, and enter only through sums ("globbing");
columns whose gradient is below their L1 weight have coefficient 0. Sets start from a rough fit and grow.

In: a task and a rough fit. Out: one `ActiveSet` per fit, and for every fit and row the side on which it is
fixed.

Notation: side +1 fixes d at t, -1 at t - 1, 0 leaves the row free.

Paper: Portnoy and Koenker 1997, The Gaussian hare and the Laplacian tortoise, section 4.
Screening the columns is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.solvers._admm import RoughFit
from pluralign.solvers._task import Task, check_loss

__all__ = ["ActiveSet", "choose_sets", "free_rows", "nearest_fixed"]

FEWEST_ROWS = 300
ROWS_PER_COLUMN = 2
SCREEN = 0.75
"""Columns enter where |gradient| reaches this share of their L1 weight."""
INSIDE = 1e-4
"""A dual at least this share of its box away from both ends has a row near the quantile."""


@dataclass
class ActiveSet:
    """One fit, its free rows and columns, and the sums over the fixed rows.

    Attributes:
        index: index of the fit in the batch.
        attribute: row of the targets.
        level: t.
        coef: coefficients of the last round, in f-space.
        intercept: of the last round.
        objective: the smallest value so far, in units of the targets.
        columns: in the interior point.
        free: rows in the interior point.
        start: w d of the free rows.
        fixed_gradient: sum of w d f over the fixed rows, an intercept's last.
        fixed_value: sum of w d y over the fixed rows.
    """

    index: int
    attribute: int
    level: float
    coef: Float[Tensor, " P"]
    intercept: Float[Tensor, ""]
    objective: float
    columns: Int[Tensor, " p"]
    free: Int[Tensor, " n"]
    start: Float[Tensor, " n"]
    fixed_gradient: Float[Tensor, " Q"]
    fixed_value: float


def choose_sets(
    task: Task, rough: RoughFit, constants: Float[Tensor, " M"], fits: range
) -> tuple[list[ActiveSet], Int[Tensor, "m N"]]:
    """Sets and sides of some of the fits, from the rough fit or, if it is better, from the constant."""
    part = slice(fits.start, fits.stop)
    level, attribute = task.level[part], task.attribute[part]
    coef, intercept = rough.coef[part].double(), rough.intercept[part].double()
    gradient, near_dual = rough.gradient[part], rough.dual[part].nan_to_num(0.0)
    residual, objective = _residuals(task, coef, intercept, attribute, level)
    side = torch.empty_like(residual, dtype=torch.int8)
    sets = []
    for k, m in enumerate(fits):
        # The fit without features is exact if it is the best, and a start where the rough one diverged.
        plain = task.targets[attribute[k]] - constants[m]
        value = float(task.weigh(check_loss(plain, level[k]), slice(None)).mean())
        if not float(objective[k]) < value:
            coef[k], intercept[k], objective[k], residual[k] = 0.0, constants[m], value, plain
        columns = _columns(task, coef[k], gradient[k].double())
        free = _near(task, residual[k], near_dual[k], level[k], columns.shape[0])
        side[k] = torch.where(residual[k] > 0.0, 1, -1).masked_fill_(free, 0)
        rows = free.nonzero()[:, 0]
        sets.append(
            ActiveSet(
                index=k,
                attribute=int(attribute[k]),
                level=float(level[k]),
                coef=coef[k],
                intercept=intercept[k],
                objective=float(objective[k]),
                columns=columns,
                free=rows,
                start=near_dual[k][rows].double(),
                fixed_gradient=coef[k],
                fixed_value=0.0,
            )
        )
    gradients, values = _fixed_sums(task, side, attribute, level)
    for k, active in enumerate(sets):
        active.fixed_gradient, active.fixed_value = gradients[k], float(values[k])
    return sets, side


def free_rows(task: Task, active: ActiveSet, side: Int[Tensor, " N"], rows: Int[Tensor, " n"]) -> None:
    """Moves rows from the fixed to the free ones, with the dual at which they were fixed."""
    dual = _dual(side[rows], task.targets.new_tensor(active.level))
    dual = dual if task.weights is None else dual * task.weights[rows]
    block = task.with_intercept(task.design.take(rows))
    active.fixed_gradient = active.fixed_gradient - dual @ block
    active.fixed_value -= float(dual @ task.targets[active.attribute][rows])
    active.free = torch.cat([active.free, rows])
    active.start = torch.cat([active.start, dual])
    side[rows] = 0


def nearest_fixed(task: Task, active: ActiveSet, side: Int[Tensor, " N"]) -> Int[Tensor, " n"]:
    """As many fixed rows as there are free ones, the ones nearest to the fit."""
    attribute = torch.tensor([active.attribute], device=side.device)
    level = task.targets.new_tensor([[active.level]])
    residual, _ = _residuals(task, active.coef[None], active.intercept[None], attribute, level)
    distance = residual[0].abs().masked_fill_(side == 0, torch.inf)
    count = min(active.free.shape[0], side.shape[0] - active.free.shape[0])
    return ((distance <= distance.kthvalue(count).values) & (side != 0)).nonzero()[:, 0]


def _columns(task: Task, coef: Float[Tensor, " P"], gradient: Float[Tensor, " P"]) -> Int[Tensor, " p"]:
    penalties = task.penalties
    if penalties is None:
        return torch.arange(coef.shape[0], device=coef.device)
    return ((coef != 0.0) | (gradient.abs() >= SCREEN * penalties)).nonzero()[:, 0]


def _near(task: Task, residual: Tensor, dual: Tensor, level: Tensor, num_columns: int) -> Tensor:
    """Rows that may be on either side: the smallest residuals, and duals inside their box."""
    count = min(residual.shape[0], max(FEWEST_ROWS, ROWS_PER_COLUMN * (num_columns + 1)))
    distance = residual.abs()
    near = distance <= distance.kthvalue(count).values * (1.0 + 1e-6) + 1e-12
    share = dual.double() if task.weights is None else dual.double() / task.weights
    return near | ((share > level - 1.0 + INSIDE) & (share < level - INSIDE))


def _residuals(
    task: Task, coef: Tensor, intercept: Tensor, attribute: Tensor, level: Tensor
) -> tuple[Float[Tensor, "m N"], Float[Tensor, " m"]]:
    """Residuals in float32, to choose rows by, and the objective."""
    kept = coef.new_empty((coef.shape[0], task.design.num_rows), dtype=torch.float32)
    loss = torch.zeros_like(intercept)
    for part, _, residual in task.residuals(coef, intercept, attribute):
        loss += task.weigh(check_loss(residual, level), part).sum(1)
        kept[:, part] = residual
    return kept, loss / task.design.num_rows + task.penalty(coef)


def _fixed_sums(
    task: Task, side: Int[Tensor, "m N"], attribute: Int[Tensor, " m"], level: Float[Tensor, "m 1"]
) -> tuple[Float[Tensor, "m Q"], Float[Tensor, " m"]]:
    """Sums of w d f and of w d y over the fixed rows."""
    sums = level.new_zeros((side.shape[0], task.design.features.shape[1]))
    totals, values = level.new_zeros(side.shape[0]), level.new_zeros(side.shape[0])
    for part, block in task.design.blocks():
        dual = task.weigh(_dual(side[:, part], level), part)
        sums.addmm_(dual, block)
        totals += dual.sum(1)
        values += (dual * task.targets[:, part][attribute]).sum(1)
    return task.join_sums(sums, totals), values


def _dual(side: Int[Tensor, "*shape"], level: Tensor) -> Float[Tensor, "*shape"]:
    return torch.where(side > 0, level, level - 1.0).masked_fill_(side == 0, 0.0)
