"""The lambdas of debiasing: how much of a bias variable has to be subtracted from each attribute.

    lambda_a = the smallest lambda of a grid for which Spearman(r_a - lambda b, b) <= threshold

In: predicted mean rewards and a bias variable on reference responses. Out: lambdas. Pure functions.

Paper: Wang et al. 2024 (ArmoRM), arXiv 2406.12845, section 3.2; the grid is that of the published code, where
an attribute that never reaches the threshold silently gets a lambda of 1; here it gets none, and a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pluralign.rank_correlation import correlation, mean_ranks

__all__ = ["LAMBDAS", "Lambdas", "smallest_lambdas"]

LAMBDAS: tuple[float, ...] = (
    *(0.0, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15),
    *(round(0.05 * k, 2) for k in range(4, 20)),
)


@dataclass(frozen=True)
class Lambdas:
    """The result of the search, per attribute.

    Attributes:
        values: [A]; None if no lambda in the grid reaches the threshold.
        before: [A], Spearman correlation with the bias variable without debiasing.
        after: [A], the correlation with the lambda found; without one, the same as before.
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
    """The smallest lambda in the grid per attribute that reduces the correlation to the threshold.

    Args:
        means: predicted mean rewards of N reference responses on the [0, 1] scale.
        bias: the bias variable of the same responses, in the same kind of unit.
        threshold: the largest allowed Spearman correlation.
        grid: lambdas in increasing order, from 0.

    Returns:
        A lambda, or None, and the correlations for each attribute.
    """
    ranks = mean_ranks(bias)
    found = [_smallest(means[:, a], bias, ranks, threshold, grid) for a in range(means.shape[1])]
    values, before, after = zip(*found, strict=True)
    return Lambdas(values, before, after)


def _smallest(
    mean: Tensor, bias: Tensor, bias_ranks: Tensor, threshold: float, grid: Sequence[float]
) -> tuple[float | None, float, float]:
    # An attribute or a bias that does not vary has no correlation, so nothing has to be subtracted.
    before = correlation(mean_ranks(mean), bias_ranks) or 0.0
    for value in grid:
        after = correlation(mean_ranks(mean - value * bias), bias_ranks) or 0.0
        if after <= threshold:
            return value, before, after
    return None, before, before
