"""Exact linear Bradley-Terry: ridge-penalised logistic regression on differences, by Newton's method.

In: features of texts and which text was chosen over which; or differences of features. Out: the weights [D]
and the size of the last gradient. There is no intercept: swapping the sides of a pair must flip the sign of
the score.

    minimise  sum_i w_i log(1 + exp(-d_i . v)) / sum_i w_i  +  (l2 / 2) ||v||^2,   d_i = x_chosen - x_rejected
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.nn.functional import softplus

from pluralign.errors import ArgumentError
from pluralign.solvers._newton import factorise
from pluralign.solvers._validation import check_float64
from pluralign.solvers.pair_design import PairDesign, RowDesign

__all__ = ["BradleyTerryFit", "fit_bradley_terry"]

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
    differences: Float[Tensor, "P D"] | PairDesign,
    *,
    l2: float,
    sample_weight: Real[Tensor, " P"] | None = None,
    tol: float = 1e-8,
) -> BradleyTerryFit:
    """Minimises the penalised Bradley-Terry loss to a gradient of at most `tol`.

    Pairs that share texts cost no more than the texts: in addition to the features, only a few numbers per
    pair and the D x D Hessian are held.

    Args:
        differences: features of the chosen minus those of the rejected response; or texts and their pairs,
            `PairDesign(features, chosen, rejected)`.
        l2: ridge penalty, positive; it makes the optimum unique also where the pairs are separable.
        sample_weight: [P], non-negative; all alike when absent.
        tol: largest absolute entry of the gradient at which to stop.

    Returns:
        The optimum, in float64 on the device of the features.

    Raises:
        ArgumentError: no rows, values that are not finite, a penalty that is not positive, bad weights.
    """
    if not l2 > 0:
        raise ArgumentError(
            f"l2 = {l2}: a positive penalty is needed, without it separable pairs have no optimum"
        )
    if differences.shape[0] == 0:
        raise ArgumentError("received no pairs; at least 1 is needed")
    design = differences if isinstance(differences, PairDesign) else RowDesign(differences)
    check_float64(design.device)
    weight = _shares(sample_weight, design.shape[0], design.device)
    coef = torch.zeros(design.shape[1], dtype=torch.float64, device=design.device)
    margin = design.margins(coef)
    value = _objective(margin, weight, coef, l2)
    iteration, stalled = 0, False
    while True:
        probability = torch.sigmoid(-margin)
        gradient = l2 * coef - design.total(weight * probability)
        norm = float(gradient.abs().max())
        if norm <= tol or iteration == _MAX_ITERATIONS or stalled:
            break
        # The Hessian only steers, so the precision of the features is enough for it; the gradient decides.
        hessian = design.gram(weight * probability * (1 - probability))
        hessian.diagonal().add_(l2)
        step = torch.cholesky_solve(gradient[:, None], factorise(hessian))[:, 0]
        slope = float(gradient @ step)
        size = 1.0
        while True:
            there = coef - size * step
            margin = design.margins(there)
            found = _objective(margin, weight, there, l2)
            if found <= value - 1e-4 * size * slope or size <= 1e-8:
                break
            size /= 2
        coef, value = there, found
        iteration += 1
        stalled = size <= 1e-8  # limited by rounding; the gradient shows how good this is
    return BradleyTerryFit(coef, value, norm, iteration)


def _shares(sample_weight: Tensor | None, count: int, device: torch.device) -> Tensor:
    """[P], summing to 1."""
    weight = torch.ones(count, dtype=torch.float64, device=device)
    if sample_weight is not None:
        weight = sample_weight.to(weight)
        if weight.shape != (count,) or not bool((weight >= 0).all()) or not float(weight.sum()) > 0:
            raise ArgumentError(f"sample_weight must be {count} non-negative numbers that are not all 0")
    return weight / weight.sum()


def _objective(margin: Tensor, weight: Tensor, coef: Tensor, l2: float) -> float:
    return 0.5 * l2 * float(coef @ coef) + float(weight @ softplus(-margin))
