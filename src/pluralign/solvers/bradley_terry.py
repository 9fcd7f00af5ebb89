"""Exact linear Bradley-Terry: ridge-penalised logistic regression on differences, by Newton's method.

In: differences of features, chosen minus rejected, [N, D]. Out: the weights [D] and the size of the last
gradient. There is no intercept: swapping the sides of a pair must flip the sign of the score.

    minimise  sum_i w_i log(1 + exp(-d_i . v)) / sum_i w_i  +  (l2 / 2) ||v||^2
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from pluralign.errors import ArgumentError

__all__ = ["BradleyTerryFit", "fit_bradley_terry"]

_CHUNK_ROWS = 16_384
_MAX_ITERATIONS = 100


class BradleyTerryFit(NamedTuple):
    """Weights [D] and diagnostics of a Bradley-Terry fit.

    `gradient_norm` is the largest absolute entry of the gradient at `coef`.
    """

    coef: Tensor
    objective: float
    gradient_norm: float
    iterations: int


def fit_bradley_terry(
    differences: Float[Tensor, "N D"],
    *,
    l2: float,
    sample_weight: Float[Tensor, " N"] | None = None,
    tol: float = 1e-8,
) -> BradleyTerryFit:
    """Minimises the penalised Bradley-Terry loss to a gradient of at most `tol`.

    Rows are read in chunks, so only the D x D Hessian is held in addition to the features.

    Args:
        differences: [N, D], features of the chosen minus features of the rejected response, finite.
        l2: ridge penalty, positive; it makes the optimum unique even if the pairs are separable.
        sample_weight: [N], non-negative; equal weights by default.
        tol: largest absolute entry of the gradient at which to stop.

    Returns:
        The optimum, in float64 on the device of the features.

    Raises:
        ArgumentError: no rows, values that are not finite, a penalty that is not positive, bad weights.
    """
    num_rows, width = differences.shape
    if num_rows == 0:
        raise ArgumentError("received no pairs; at least 1 is needed")
    if not l2 > 0:
        raise ArgumentError(
            f"l2 = {l2}: a positive penalty is needed, without it separable pairs have no optimum"
        )
    if not bool(torch.isfinite(differences).all()):
        raise ArgumentError("the differences of features hold NaN or infinite values")
    weight = torch.ones(num_rows, dtype=torch.float64, device=differences.device)
    if sample_weight is not None:
        weight = sample_weight.to(weight)
        if weight.shape != (num_rows,) or not bool((weight >= 0).all()) or not float(weight.sum()) > 0:
            raise ArgumentError(f"sample_weight must be {num_rows} non-negative numbers that are not all 0")
    weight = weight / weight.sum()
    coef = torch.zeros(width, dtype=torch.float64, device=differences.device)

    value, gradient, hessian = _derivatives(differences, weight, coef, l2)
    iteration = 0
    while float(gradient.abs().max()) > tol and iteration < _MAX_ITERATIONS:
        step = torch.cholesky_solve(gradient[:, None], torch.linalg.cholesky(hessian))[:, 0]
        slope = float(gradient @ step)
        size = 1.0
        while (
            _objective(differences, weight, coef - size * step, l2) > value - 1e-4 * size * slope
            and size > 1e-8
        ):
            size /= 2
        coef = coef - size * step
        value, gradient, hessian = _derivatives(differences, weight, coef, l2)
        iteration += 1
        if size <= 1e-8:  # limited by rounding; the gradient shows how good this is
            break
    return BradleyTerryFit(coef, value, float(gradient.abs().max()), iteration)


def _objective(differences: Tensor, weight: Tensor, coef: Tensor, l2: float) -> float:
    total = 0.5 * l2 * float(coef @ coef)
    for start in range(0, len(differences), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        total += float(weight[rows] @ softplus(-(differences[rows].double() @ coef)))
    return total


def _derivatives(
    differences: Tensor, weight: Tensor, coef: Tensor, l2: float
) -> tuple[float, Tensor, Tensor]:
    value = 0.5 * l2 * float(coef @ coef)
    gradient = l2 * coef
    hessian = l2 * torch.eye(len(coef), dtype=coef.dtype, device=coef.device)
    for start in range(0, len(differences), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        features = differences[rows].double()
        margin = features @ coef
        probability = torch.sigmoid(-margin)
        value += float(weight[rows] @ softplus(-margin))
        gradient = gradient - features.T @ (weight[rows] * probability)
        # The Hessian only sets the direction, so the features' precision is enough; the gradient decides.
        curvature = (weight[rows] * probability * (1 - probability)).to(differences.dtype)
        hessian = hessian + (differences[rows].T @ (differences[rows] * curvature[:, None])).double()
    return value, gradient, hessian
