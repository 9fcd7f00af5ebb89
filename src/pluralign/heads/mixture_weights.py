"""Weights of a mixture with known components: the unique maximum of a concave function on the simplex.

In: counts a [P] > 0, log-likelihoods [R, P] and weights [R] of R observations. Out: w [P] > 0 with sum 1 that
maximises

    F(w) = sum_p a_p log w_p + sum_r weight_r log sum_p w_p L_rp

With n = sum_p a_p + sum_r weight_r the constraint may be written as the
term -n sum_p w_p, and the optimum is where n w_p = a_p + sum_r weight_r R_rp, with the responsibilities
R_rp = w_p L_rp / (L_r w). In relative changes d = dw / w, Newton's method has the Hessian
diag(a) + R' diag(weight) R, which is well scaled however small a weight is; the counts start large and
decrease to a (an interior-point method). EM would take thousands of steps if personas predict nearly the
same.
"""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import ConvergenceWarning

__all__ = ["mixture_weights"]

_STEPS = 200
_TOLERANCE = 1e-11
_ROUGHLY = 0.1  # tolerance for the larger counts, in units of the smallest of them
_SMALLER = 0.1
_TO_THE_BOUNDARY = 0.95


def mixture_weights(
    counts: Float[Tensor, " P"], log_likelihood: Float[Tensor, "R P"], weight: Float[Tensor, " R"]
) -> Float[Tensor, " P"]:
    """Solves for w as above; float64, to a residual of 1e-11 n.

    Args:
        counts: a, positive.
        log_likelihood: log L, finite.
        weight: not negative.

    Warns:
        ConvergenceWarning: the residual is larger after 200 steps.
    """
    likelihood = (log_likelihood - log_likelihood.amax(1, keepdim=True)).exp()
    total = counts.sum() + weight.sum()
    least = total / len(counts)
    w = torch.full_like(counts, 1 / len(counts))
    for _ in range(_STEPS):
        larger = torch.maximum(counts, least)
        gradient, shared = _gradient(w, larger, likelihood, weight)
        final = bool((larger == counts).all())
        if gradient.abs().max() <= (_TOLERANCE * total if final else _ROUGHLY * least):
            if final:
                break
            least = _SMALLER * least
            continue
        change = torch.linalg.solve(torch.diag(larger) + (shared.T * weight) @ shared, gradient)
        step = min(1.0, _TO_THE_BOUNDARY / max(float(-change.min()), 1e-300))
        # F is concave along the step; going as far beyond the maximum as before it is not progress.
        slope = gradient @ change
        while _slope(w, step * change, larger, likelihood, weight) < -0.5 * step * slope:
            step *= 0.5
        w = w * (1 + step * change)
    else:
        warnings.warn(
            f"mixture weights are off by {float(gradient.abs().max()):.1e} votes after {_STEPS} steps",
            ConvergenceWarning,
            stacklevel=2,
        )
    return w / w.sum()


def _gradient(w: Tensor, counts: Tensor, likelihood: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """dF / d log w with the constraint's term, [P], and the responsibilities [R, P]."""
    joint = likelihood * w
    shared = joint / joint.sum(1, keepdim=True)
    return counts + weight @ shared - (counts.sum() + weight.sum()) * w, shared


def _slope(w: Tensor, move: Tensor, counts: Tensor, likelihood: Tensor, weight: Tensor) -> Tensor:
    """The slope of F along the relative move, at its end."""
    gradient, _ = _gradient(w * (1 + move), counts, likelihood, weight)
    return (gradient / (1 + move)) @ move
