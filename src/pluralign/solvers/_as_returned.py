"""Objective and gap of the numbers that a user gets: coefficients of the features as given, in float64.

A fit is exact in standardised features. Where columns have large means beside what they vary by, its
coefficients of the features as given are large numbers that cancel, and rounding them moves the objective.
There it is evaluated again, from the coefficients as they are returned, and the gap is held against that.

In: a fit in given units. Out: the same with that objective and gap. It does not know how it was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.solvers._design import Design, block_rows, row_parts

__all__ = ["as_returned"]

_EPS = float(torch.finfo(torch.float64).eps)


def as_returned(
    fit: Any,
    design: Design,
    ratings: Float[Tensor, "A N"],
    levels: Sequence[float],
    weight: Float[Tensor, " N"] | None,
    l1: float,
    tol: float,
) -> Any:
    """The fit with objective and gap of its coefficients, where rounding may move them by a tenth of `tol`.

    Args:
        fit: a `QuantileFit` with a leading A.
        design: the features.
        ratings: what was fitted, on all rows.
        levels: K.
        weight: of the rows; None where all are equal.
        l1: penalty.
        tol: relative gap that was asked for.
    """
    rounding = 4.0 * _EPS * (fit.coef.abs() @ design.sizes() + fit.intercept.abs())
    if not bool((rounding > 0.1 * tol * fit.objective).any()):
        return fit
    objective = _objective(fit, design, ratings, levels, weight, l1)
    bound = fit.objective * (1.0 - fit.gap)
    gap = (objective - bound).clamp_min(0.0) / objective.clamp_min(torch.finfo(torch.float64).tiny)
    return fit._replace(objective=objective, gap=torch.where(objective <= rounding, 0.0, gap))


def _objective(
    fit: Any,
    design: Design,
    ratings: Float[Tensor, "A N"],
    levels: Sequence[float],
    weight: Float[Tensor, " N"] | None,
    l1: float,
) -> Float[Tensor, "A K"]:
    level = ratings.new_tensor(list(levels))
    num_rows, num_columns = design.features.shape
    total = torch.zeros_like(fit.objective)
    for part in row_parts(num_rows, block_rows(num_columns, ratings.device)):
        fitted = torch.einsum("nd,akd->akn", design.features[part].double(), fit.coef)
        off = ratings[:, None, part] - fitted - fit.intercept[:, :, None]
        loss = torch.maximum(level[:, None] * off, (level[:, None] - 1.0) * off)
        total += loss.sum(-1) if weight is None else loss @ weight[part]
    return total / num_rows + l1 * fit.coef.abs().sum(-1)
