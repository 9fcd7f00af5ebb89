"""An interior-point method for one small quantile regression, in float64.

    min over x   sum_i (hi_i r_i^+ - lo_i r_i^-) + sum_j lam_j |x_j| + b'x,   r = y - A x
    max over a   y'a   s.t.   A'a + pen = b,   lo <= a <= hi,   |pen_j| <= lam_j

In: some rows of the problem with their boxes; b represents the rows that are left out. Out: x and a, with a
strictly inside its box.

The L1 term is a set of rows e_j with target 0 and box [-lam_j, lam_j], kept as a diagonal. Both bounds of a
have a slack (s1 = a - lo, s2 = hi - a) and a multiplier (u1, u2) with r = u2 - u1.

Papers: Portnoy and Koenker 1997, The Gaussian hare and the Laplacian tortoise, section 5; Mehrotra 1992.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.solvers._newton import newton_system

__all__ = ["InteriorPoint", "solve_interior_point"]

STEP_SHARE = 0.995
"""The fraction of the way to the boundary that a step goes."""

SHORT_STEPS = 4
"""This many steps in a row below a tenth mean that the omitted rows make the problem unbounded."""
START_MARGIN, START_SHIFT = 0.1, 0.3
"""How far inside its box a dual starts, and starting multipliers in units of the mean |residual|."""


class InteriorPoint(NamedTuple):
    """The result of the interior-point method.

    Attributes:
        coef: x, with exact zeros among the penalised coefficients.
        dual: a, only of the rows, strictly inside its box.
        steps: Newton steps taken.
        solved: whether gap and dual residual reached the required accuracy.
    """

    coef: Float[Tensor, " p"]
    dual: Float[Tensor, " n"]
    steps: int
    solved: bool


def solve_interior_point(
    rows: Float[Tensor, "n p"],
    targets: Float[Tensor, " n"],
    low: Float[Tensor, " n"],
    high: Float[Tensor, " n"],
    penalties: Float[Tensor, " m"],
    balance: Float[Tensor, " p"],
    coef: Float[Tensor, " p"],
    dual: Float[Tensor, " n"],
    accuracy: float,
    max_steps: int,
) -> InteriorPoint:
    """Mehrotra's predictor-corrector from a given point.

    Args:
        rows: A; the first m columns are penalised, an intercept is a last column of ones.
        targets: y.
        low: lo < 0.
        high: hi > 0.
        penalties: lam_j > 0 of the first m columns; m = 0 means none.
        balance: b.
        coef: starting x.
        dual: starting a; moved inside its box.
        accuracy: the complementarity gap to reach, in units of the objective.
        max_steps: Newton steps allowed.
    """
    num_rows, num_penalised = rows.shape[0], penalties.shape[0]
    y = torch.cat([targets, penalties.new_zeros(num_penalised)])
    lo, hi = torch.cat([low, -penalties]), torch.cat([high, penalties])

    def times(x: Tensor) -> Tensor:
        return torch.cat([rows @ x, x[:num_penalised]])

    def times_transposed(a: Tensor) -> Tensor:
        out = a[:num_rows] @ rows
        out[:num_penalised] += a[num_rows:]
        return out

    x = coef
    residual = y - times(x)
    width = hi - lo
    a = torch.cat([dual, (balance - dual @ rows)[:num_penalised]])
    a = torch.minimum(torch.maximum(a, lo + START_MARGIN * width), hi - START_MARGIN * width)
    unit = START_SHIFT * residual[:num_rows].abs().mean().clamp_min(1e-8)
    # Slack times multiplier starts at the same value in narrow and wide boxes.
    shift = unit * (width[:num_rows].mean() / width).clamp_max(1e12)
    # Row 0 belongs to the lower bound, row 1 to the upper.
    u = torch.stack([residual.neg().clamp_min(0.0), residual.clamp_min(0.0)]) + shift
    s = torch.stack([a - lo, hi - a])
    steps, short, solved = 0, 0, False
    while True:
        products = s * u
        gap = products.sum()
        missing = balance - times_transposed(a)
        wrong = torch.dot(missing.abs(), x.abs() + unit)
        if bool((gap < accuracy) & (wrong < accuracy)):
            solved = True
            break
        if steps == max_steps or short == SHORT_STEPS:
            break
        steps += 1
        ratio = u / s
        curvature = 1.0 / ratio.sum(0)
        solve = newton_system(rows, curvature, num_penalised)
        off = y - times(x) + u[0] - u[1]

        _, da = solve(off + u[1] - u[0], missing, False)
        ds = torch.stack([da, -da])
        du = -u - ratio * ds
        after = (s + _longest(s, ds, 1.0) * ds) * (u + _longest(u, du, 1.0) * du)
        mean = gap / products.numel()
        goal = mean * (after.sum() / gap) ** 3
        push = (goal - products - ds * du) / s
        dx, da = solve(off + push[0] - push[1], missing, True)
        ds = torch.stack([da, -da])
        du = push - ratio * ds
        if not bool(torch.isfinite(dx.sum() + ds.sum() + du.sum())):
            break
        primal, multiplier = _longest(s, ds, STEP_SHARE), _longest(u, du, STEP_SHARE)
        short = short + 1 if bool(torch.maximum(primal, multiplier) < 0.1) else 0
        a, s = a + primal * ds[0], s + primal * ds
        x, u = x + multiplier * dx, u + multiplier * du

    def value(x: Tensor) -> Tensor:
        residual = y - times(x)
        return torch.maximum(hi * residual, lo * residual).sum() + torch.dot(balance, x)

    # An interior-point solution has small numbers where the true solution has zeros.
    snapped = x.clone()
    slack, force = s.amin(0)[num_rows:] / penalties, u.amax(0)[num_rows:]
    snapped[:num_penalised].masked_fill_(slack > force / (x.abs().sum() + 1e-300), 0.0)
    if solved and bool(value(snapped) <= value(x) + accuracy):
        x = snapped
    return InteriorPoint(x, a[:num_rows], steps, solved)


def _longest(values: Tensor, change: Tensor, share: float) -> Tensor:
    """A share of the longest step that keeps all values non-negative, at most 1."""
    return share / (change / values).amin().neg().clamp_min(share)
