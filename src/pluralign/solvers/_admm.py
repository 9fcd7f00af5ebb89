"""First stage: all levels and targets at once, roughly, in float32.

ADMM on  min sum_i w_i rho_t(e_i) / N + sum_j lam_j |u_j|  s.t.  e = y - F v - c,  u = v.

In: features in f-space and targets of unit size. Out: coefficients, and a dual vector inside its box,
accurate enough to determine which rows lie near the quantile and which columns matter.

Notation: columns M = A * K run attribute-major; `state` p [M, N] holds both the residual, p - clip(p), and
the scaled dual, clip(p), where clip is onto [(t - 1) w / s, t w / s]. The penalty s does not appear in the
linear system, so that one factorisation of F'F/N + k I serves every level, target and iteration.

Paper: Boyd et al. 2011, Distributed optimization and statistical learning via ADMM, section 3 and 3.4.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.solvers._design import block_rows, row_parts

__all__ = ["RoughFit", "rough_fit"]

OVER_RELAXATION = 1.7
SPLIT = 0.03
"""Weight k of the constraint u = v, relative to that of the residuals."""


class RoughFit(NamedTuple):
    """Approximate primal and dual solution.

    `dual` is w_i d_i, inside its box; `steps` counts iterations and passes over the rows.
    """

    coef: Float[Tensor, "M P"]
    intercept: Float[Tensor, " M"]
    gradient: Float[Tensor, "M P"]
    dual: Float[Tensor, "M N"]
    steps: int


def rough_fit(
    features: Float[Tensor, "N P"],
    targets: Float[Tensor, "A N"],
    constants: Float[Tensor, "A K"],
    levels: Float[Tensor, " K"],
    weights: Float[Tensor, " N"] | None,
    penalties: Float[Tensor, " P"] | None,
    fit_intercept: bool,
    iterations: int,
    progress: Callable[[int], None],
) -> RoughFit:
    """Runs a fixed number of iterations.

    Args:
        features: float32, columns of unit size; uncorrelated if `penalties` is None.
        targets: float32, one row per attribute, of unit size.
        constants: the best intercept without features, the starting point.
        levels: in (0, 1).
        weights: positive, mean 1; None means all 1.
        penalties: lam_j of each column; None means none.
        fit_intercept: whether c is free (columns must then be centred).
        iterations: number of iterations.
        progress: called with the number of iterations done.
    """
    num_rows, num_columns = features.shape
    num_levels = levels.shape[0]
    size = num_levels * targets.shape[0]
    spread = torch.stack([(targets - constant[:, None]).abs().mean(1) for constant in constants.T], dim=1)
    strength = (8.0 * (levels * (1.0 - levels)).sqrt() / spread.clamp_min(1e-6)).reshape(size, 1)
    high = levels.repeat(targets.shape[0])[:, None] / strength
    low = (levels - 1.0).repeat(targets.shape[0])[:, None] / strength
    threshold = None if penalties is None else penalties / (SPLIT * strength)
    solve = _solver(features, penalties is not None)

    coef = features.new_zeros((size, num_columns))
    split, split_dual = coef, coef
    intercept = constants.reshape(size) if fit_intercept else features.new_zeros(size)
    state = features.new_empty((size, num_rows))
    # Float32 features, and about four numbers per fit, in every row.
    blocks = list(row_parts(num_rows, block_rows(num_columns // 2 + 2 * size, features.device)))

    def box(part: slice) -> tuple[Tensor, Tensor]:
        return (low, high) if weights is None else (low * weights[part], high * weights[part])

    for step in range(iterations):
        force, level_sum = torch.zeros_like(coef), features.new_zeros(size)
        for part in blocks:
            target = targets[:, part].repeat_interleave(num_levels, 0)
            below, above = box(part)
            rows = features[part]
            if step == 0:
                residual = target - intercept[:, None]
                inside = torch.where(residual > 0, above, below)
                updated = residual + inside
            else:
                old = state[:, part]
                inside = torch.clamp(old, below, above)
                residual = target - torch.addmm(intercept[:, None], coef, rows.T)
                # a (y - F v) + (1 - a) e + h, with e = p - h
                updated = residual.mul_(OVER_RELAXATION)
                updated.add_(old, alpha=1.0 - OVER_RELAXATION).add_(inside, alpha=OVER_RELAXATION)
                inside = torch.clamp(updated, below, above)
            state[:, part] = updated
            target_sum = target.sub_(updated).add_(inside, alpha=2.0)
            force.addmm_(target_sum, rows)
            level_sum += target_sum.sum(1)
        if threshold is not None and step > 0:
            relaxed = OVER_RELAXATION * coef + (1.0 - OVER_RELAXATION) * split
            shifted = relaxed + split_dual
            split_dual = torch.clamp(shifted, -threshold, threshold)
            split = shifted - split_dual
        target_sum = force / num_rows
        coef = solve(target_sum if threshold is None else target_sum + SPLIT * (split - split_dual))
        if fit_intercept:
            intercept = level_sum / num_rows
        progress(step + 1)

    gradient = torch.zeros_like(coef)
    for part in blocks:
        dual = torch.clamp(state[:, part], *box(part)).mul_(strength)
        state[:, part] = dual
        gradient.addmm_(dual, features[part])
    return RoughFit(coef if threshold is None else split, intercept, gradient / num_rows, state, iterations)


def _solver(features: Tensor, split: bool) -> Callable[[Tensor], Tensor]:
    """X -> X (F'F/N + k I)^-1; whitened features need none."""
    if not split:
        return lambda wanted: wanted
    gram = (features.T @ features) / features.shape[0]
    gram.diagonal().add_(SPLIT)
    inverse = torch.linalg.inv(gram.double()).float()
    return lambda wanted: wanted @ inverse
