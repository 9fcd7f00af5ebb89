"""Two ways to combine the quantiles of several attributes under gate weights.

    vincentize   averages quantile functions, q_k = sum_a g_a q_ak, as in QRM. Attributes are treated as
                 comonotone, so two opinions far apart become one in between: no modes are created.
    mixture      averages CDFs, F = sum_a g_a F_a. An attribute is drawn, then a reward from it: two
                 opinions far apart stay two.

Their means agree only if the mean is linear in the given values: `vincentize` has the average of the means,
while `mixture` is evaluated at the given levels, which cuts off the tails beyond the outer ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions.checks import check_shape, require
from pluralign.distributions.quantiles import Quantiles
from pluralign.distributions.special import as_shares, divide

__all__ = ["mixture", "vincentize"]


def vincentize(
    values: Float[Tensor, "B A K"],
    weights: Float[Tensor, "B A"],
    levels: Tensor | Sequence[float],
    *,
    validate: bool = True,
) -> Quantiles:
    """Gate-weighted average of quantile functions, q_k = sum_a g_a q_ak.

    Values that cross are first sorted within each attribute; the result's `crossing_rate` is the attributes'
    mean rate before sorting.

    Args:
        values: quantiles of A attributes, [B, A, K].
        weights: gate weights, [B, A], not negative. They need not sum to 1: QRM's published gate scales them.
        levels: [K], as in `Quantiles`.
        validate: check the values of all.

    Raises:
        ArgumentError: if shapes do not fit or, when validating, a value is illegal.

    Reference: Vincent 1912; Ratcliff 1979; Dorka 2024 (arXiv 2409.10164).
    """
    distributions, weights = _attributes(values, weights, levels, validate)
    ordered = distributions.values.reshape(values.shape)
    mixed = torch.einsum("ba,bak->bk", weights, ordered)
    return _with_crossing_rate(Quantiles(mixed, levels, validate=validate), distributions, values.shape[1])


def mixture(
    values: Float[Tensor, "B A K"],
    weights: Float[Tensor, "B A"],
    levels: Tensor | Sequence[float],
    *,
    validate: bool = True,
) -> Quantiles:
    """Mixture of the attributes, F = sum_a g_a F_a, given by its exact quantiles at the same levels.

    F is piecewise linear with jumps, so it is inverted exactly. Between the levels the result is linear
    again, like every `Quantiles`.

    Args:
        values: quantiles of A attributes, [B, A, K].
        weights: gate weights, [B, A], not negative, normalised here to sum to 1.
        levels: [K], as in `Quantiles`.
        validate: check the values of all.

    Raises:
        ArgumentError: if shapes do not fit or, when validating, a value is illegal.
    """
    distributions, weights = _attributes(values, weights, levels, validate)
    rows, attributes, num_levels = values.shape
    shares = as_shares(weights)
    knots = distributions.values.reshape(rows, attributes * num_levels).sort(-1).values
    points = knots.unsqueeze(1).expand(-1, attributes, -1).flatten(0, 1)

    def mixed_cdf(*, left: bool) -> Tensor:
        return torch.einsum(
            "ba,bam->bm",
            shares,
            distributions._cdf(points, left=left).reshape(rows, attributes, knots.shape[-1]),
        )

    at, before = mixed_cdf(left=False), mixed_cdf(left=True)
    targets = distributions.levels.expand(rows, -1).contiguous()
    # Sums of weights miss a level by rounding; without slack a level on a flat piece would jump across that
    # piece.
    slack = 8 * torch.finfo(values.dtype).eps
    index = torch.searchsorted(at.detach().cummax(-1).values + slack, targets).clamp(max=knots.shape[-1] - 1)
    previous = (index - 1).clamp(min=0)
    start, end = at.gather(-1, previous), before.gather(-1, index)
    part = torch.where(index > 0, divide(targets - start, end - start), 1.0)
    part = torch.where(targets >= end - slack, 1.0, part).clamp(0, 1)
    inverted = torch.lerp(knots.gather(-1, previous), knots.gather(-1, index), part)
    return _with_crossing_rate(Quantiles(inverted, levels, validate=validate), distributions, attributes)


def _attributes(
    values: Tensor, weights: Tensor, levels: Tensor | Sequence[float], validate: bool
) -> tuple[Quantiles, Tensor]:
    """The attributes' distributions as one batch of B * A rows, and the checked weights."""
    check_shape(values, "values", ("B", "A", "K"))
    check_shape(weights, "weights", tuple(values.shape[:2]))
    if validate:
        require(weights.isfinite() & (weights >= 0), "weights must be finite and not negative")
        require(weights.sum(-1) > 0, "each row of weights needs a positive one")
    distributions = Quantiles(values.flatten(0, 1), levels, validate=validate)
    return distributions, weights.to(distributions.dtype)


def _with_crossing_rate(result: Quantiles, distributions: Quantiles, attributes: int) -> Quantiles:
    result.crossing_rate = distributions.crossing_rate.reshape(-1, attributes).mean(-1)
    return result
