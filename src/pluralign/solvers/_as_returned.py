"""Objective and gap of the numbers that a user gets: coefficients of the features as given, in float64.

A fit is exact in standardised features. Where columns have large means beside what they vary by, its
coefficients of the features as given are large numbers that cancel, and rounding them moves the objective.
There it is evaluated again, from the coefficients as they are returned, and the gap is held against that.

In: a fit in given units. Out: that objective and gap. It does not know how the fit was found.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.solvers._design import block_rows, row_parts
from pluralign.solvers._task import Task, check_loss

__all__ = ["as_returned"]

_EPS, _TINY = float(torch.finfo(torch.float64).eps), float(torch.finfo(torch.float64).tiny)


def as_returned(
    coef: Float[Tensor, "A K D"],
    intercept: Float[Tensor, "A K"],
    objective: Float[Tensor, "A K"],
    gap: Float[Tensor, "A K"],
    task: Task,
    targets: Float[Tensor, "A N"],
    tol: float,
) -> tuple[Float[Tensor, "A K"], Float[Tensor, "A K"]]:
    """Objective and gap of a fit, where rounding of its coefficients may move them by a tenth of `tol`.

    Args:
        coef: of the features as given.
        intercept: of them.
        objective: in exact numbers.
        gap: to a bound, relative to that objective.
        task: what was solved.
        targets: in given units.
        tol: relative gap that was asked for.
    """
    rounding = 4.0 * _EPS * (coef.abs() @ task.design.sizes() + intercept.abs())
    if not bool((rounding > 0.1 * tol * objective).any()):
        return objective, gap
    found = _objective(coef, intercept, task, targets)
    over = (found - objective * (1.0 - gap)).clamp_min(0.0)
    return found, torch.where(found <= rounding, 0.0, over / found.clamp_min(_TINY))


def _objective(
    coef: Float[Tensor, "A K D"],
    intercept: Float[Tensor, "A K"],
    task: Task,
    targets: Float[Tensor, "A N"],
) -> Float[Tensor, "A K"]:
    features, weight = task.design.features, task.weights
    level = targets.new_tensor(task.levels)[:, None]
    total = torch.zeros_like(intercept)
    for part in row_parts(len(features), block_rows(features.shape[1], features.device)):
        fitted = torch.einsum("nd,akd->akn", features[part].double(), coef)
        off = targets[:, None, part] - fitted - intercept[:, :, None]
        loss = check_loss(off, level)
        total += loss.sum(-1) if weight is None else loss @ weight[part]
    penalty: Tensor = task.l1 * coef.abs().sum(-1)
    return total / len(features) + penalty
