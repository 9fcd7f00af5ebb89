"""The lambdas of debiasing: how much of a bias variable has to come off each attribute.

    lambda_a = the smallest lambda of a grid for which Spearman(r_a - lambda b, b) <= threshold

In: predicted mean rewards and a bias variable on reference responses. Out: lambdas. Pure functions, which do
not know heads, texts or what the bias is.

Paper: Wang et al. 2024 (ArmoRM), arXiv 2406.12845, section 3.2; the grid is that of the published code, where
an attribute that never reaches the threshold gets a lambda of 1 silently; here it gets none, and is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["LAMBDAS", "Lambdas", "smallest_lambdas", "spearman"]

LAMBDAS: tuple[float, ...] = (
    *(0.0, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15),
    *(round(0.05 * k, 2) for k in range(4, 20)),
)


@dataclass(frozen=True)
class Lambdas:
    """What a search found, per attribute.

    Attributes:
        values: [A]; None where no lambda of the grid reaches the threshold.
        before: [A], Spearman correlation with the bias variable before.
        after: [A], and with the lambda that was found; without one, as before.
    """

    values: tuple[float | None, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]


def smallest_lambdas(
    means: Float[Tensor, "N A"],
    bias: Float[Tensor, " N"],
    threshold: float = 0.03,
    grid: Sequence[float] = LAMBDAS,
) -> Lambdas:
    """The smallest lambda of the grid per attribute that takes the correlation to the threshold.

    Args:
        means: predicted mean rewards of N reference responses on the [0, 1] scale.
        bias: the bias variable of the same responses, in the same kind of unit.
        threshold: the largest Spearman correlation that is allowed.
        grid: lambdas in increasing order, from 0.

    Returns:
        A lambda, or None, and the correlations for each attribute.
    """
    ranks = _ranks(bias)
    found = [_smallest(means[:, a], bias, ranks, threshold, grid) for a in range(means.shape[1])]
    values, before, after = zip(*found, strict=True)
    return Lambdas(values, before, after)


def _smallest(
    mean: Tensor, bias: Tensor, bias_ranks: Tensor, threshold: float, grid: Sequence[float]
) -> tuple[float | None, float, float]:
    before = _correlation(_ranks(mean), bias_ranks)
    for value in grid:
        after = _correlation(_ranks(mean - value * bias), bias_ranks)
        if after <= threshold:
            return value, before, after
    return None, before, before


def spearman(first: Float[Tensor, " N"], second: Float[Tensor, " N"]) -> float:
    """Rank correlation with mean ranks for ties; 0 where one side does not vary."""
    return _correlation(_ranks(first), _ranks(second))


def _ranks(values: Tensor) -> Tensor:
    """Mean ranks, float64."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts.double() - 1) / 2)[inverse]
    return ranks


def _correlation(first: Tensor, second: Tensor) -> float:
    a, b = first - first.mean(), second - second.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else 0.0
