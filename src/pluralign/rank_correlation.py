"""Spearman's rank correlation, with one rule at its edges: None where a side is constant, an error where a
side is too short or holds NaN.

In: columns of numbers. Out: ranks and a correlation. It lies below every other part, so that all may use it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor

from pluralign.errors import ArgumentError

__all__ = ["correlation", "mean_ranks", "spearman"]


def spearman(first: Real[Tensor, " N"], second: Real[Tensor, " N"]) -> float | None:
    """Pearson's correlation of the ranks, where equal values share their mean rank.

    Args:
        first: [N], N >= 2; infinities can be ranked.
        second: [N].

    Returns:
        A number in [-1, 1]; None where one side is constant, because there is no correlation then.

    Raises:
        ArgumentError: the shapes are not both [N] with N >= 2, or a value is NaN.
    """
    if first.ndim != 1 or first.shape != second.shape or len(first) < 2:
        raise ArgumentError(
            "a rank correlation needs two columns of one length, at least 2; received shapes "
            f"{list(first.shape)} and {list(second.shape)}"
        )
    return correlation(mean_ranks(first), mean_ranks(second))


def mean_ranks(values: Real[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The rank of each value, from 1, the mean of them for equal values; float64.

    Raises:
        ArgumentError: a value is NaN.
    """
    if bool(values.isnan().any()):
        raise ArgumentError("a rank correlation cannot rank NaN: leave such rows out")
    _, place, counts = torch.unique(values.double(), return_inverse=True, return_counts=True)
    ranks: Tensor = counts.cumsum(0) - (counts.double() - 1) / 2
    return ranks[place]


def correlation(first: Float[Tensor, " N"], second: Float[Tensor, " N"]) -> float | None:
    """Pearson's correlation of two columns in float64; None where one of them is constant."""
    sides = torch.stack([first, second])
    sides = sides - sides.mean(1, keepdim=True)
    scale = float(sides.norm(dim=1).prod())
    return float((sides[0] @ sides[1] / scale).clamp(-1, 1)) if scale > 0 else None
