"""A lower bound on the optimum, from a dual vector that is feasible in float64.

Weak duality: every d with

    t - 1 <= d_i <= t,   sum_i w_i d_i = 0 (with an intercept),   |g_j| <= lam_j,   g = sum_i w_i d_i f_i / N

bounds the optimum from below by sum_i w_i d_i y_i / N. An interior point gives an almost feasible one; it is
moved onto the equalities, then scaled into the inequalities. Scaling keeps equalities and 0 is always
feasible, so that a bad d gives a weak bound, never a false one.

In: the dual of the free rows and the sums over the fixed ones.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.solvers._newton import factorise, weighted_gram

__all__ = ["lower_bound"]

ROUNDING = 1e-11
"""An equality counts as met within this share of the mean |w d| |f|."""


def lower_bound(
    rows: Float[Tensor, "n P"],
    targets: Float[Tensor, " n"],
    low: Float[Tensor, " n"],
    high: Float[Tensor, " n"],
    dual: Float[Tensor, " n"],
    fixed_gradient: Float[Tensor, " P"],
    fixed_value: float,
    limits: Float[Tensor, " P"],
    num_rows: int,
) -> tuple[float, Float[Tensor, " n"], Float[Tensor, " P"]]:
    """Repairs a dual vector and returns its bound.

    Args:
        rows: the free rows, all columns, an intercept as a last column of ones.
        targets: of the free rows.
        low: w (t - 1).
        high: w t.
        dual: w d of the free rows, not necessarily feasible.
        fixed_gradient: sum of w d f over the fixed rows, each at an end of its box.
        fixed_value: sum of w d y over the fixed rows.
        limits: lam_j of every column; 0 makes it an equality (the intercept; all columns at l1 = 0).
        num_rows: N, which turns sums into means.

    Returns:
        The bound, the repaired dual of the free rows before scaling, and the gradient g before scaling.
    """
    dual = torch.minimum(torch.maximum(dual, low), high)
    equal = limits == 0.0
    tolerance = ROUNDING * num_rows
    for _ in range(3):
        gradient = dual @ rows + fixed_gradient
        off = gradient[equal]
        if off.numel() == 0 or float(off.abs().amax()) <= 1e-2 * tolerance:
            break
        # Rows far from the ends of their box can move most.
        slack = torch.minimum(dual - low, high - dual).clamp_min(0.0)
        tied = rows[:, equal]
        factor = factorise(weighted_gram(tied, slack))
        move = slack * (tied @ torch.cholesky_solve(off[:, None], factor)[:, 0])
        dual = dual - torch.nan_to_num(move, nan=0.0, posinf=0.0, neginf=0.0)
    gradient = dual @ rows + fixed_gradient
    if equal.any() and float(gradient[equal].abs().amax()) > tolerance:
        return 0.0, dual, gradient / num_rows
    ratios = [torch.where(dual > 0.0, high / dual, low / dual)[dual != 0.0], dual.new_ones(1)]
    bounded = gradient[~equal] / num_rows
    ratios.append((limits[~equal] / bounded.abs())[bounded != 0.0])
    share = float(torch.cat(ratios).amin())
    value = share * (float(dual @ targets) + fixed_value) / num_rows
    return max(value, 0.0), dual, gradient / num_rows
