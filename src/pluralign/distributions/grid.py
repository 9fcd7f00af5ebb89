"""A distribution rounded to a grid of ratings: what people can give, and no number between or beyond.

    P(g_k) = F(g_k + h/2) - F(g_k - h/2), with everything below the first and above the last in these two

In: any distribution and the grid. Out: a `Categorical` over it. It is the inverse of spreading ratings by
U(-h/2, h/2), as fits do: a distribution over the grid that was spread comes back as it was.

Notation: F the distribution function, g_k the grid, h its step.
"""

from __future__ import annotations

import torch

from pluralign.distributions.base import RewardDistribution
from pluralign.distributions.categorical import Categorical
from pluralign.errors import ArgumentError

__all__ = ["rounded_to_grid"]

_MOST_POINTS = 10_000


def rounded_to_grid(distribution: RewardDistribution, low: float, high: float, step: float) -> Categorical:
    """The distribution of R rounded to the nearest of low, low + step, ..., high.

    A point that lies exactly between two ratings is shared equally by them.

    Args:
        distribution: B distributions, in the unit of the ratings.
        low: the lowest rating.
        high: the highest rating.
        step: distance of neighbouring ratings, positive; the grid ends at `high`.

    Returns:
        B distributions over the C points of the grid, ascending.

    Raises:
        ArgumentError: low is not below high, or the step does not divide the scale.

    >>> from pluralign.distributions import Point
    >>> rounded_to_grid(Point([2.5, 9.0]), 1, 5, 1).probs.tolist()
    [[0.0, 0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
    """
    steps = (high - low) / step if step > 0 else 0.0
    count = round(steps) if 0.5 < steps < _MOST_POINTS else 0
    if count == 0 or abs(steps - count) > 1e-3:
        raise ArgumentError(
            f"a grid from {low!r} to {high!r} in steps of {step!r}; needed: low below high, and a step that "
            f"divides the scale into 1 to {_MOST_POINTS - 1} equal parts"
        )
    grid = torch.linspace(low, high, count + 1, dtype=torch.float64)
    borders = (0.5 * (grid[:-1] + grid[1:])).to(distribution.device, distribution.dtype)
    points = borders.expand(len(distribution), -1)
    below = 0.5 * (distribution.cdf(points) + distribution.cdf_left(points))
    ends = torch.nn.functional.pad(torch.nn.functional.pad(below, (1, 0)), (0, 1), value=1.0)
    return Categorical(ends.diff(dim=-1).clamp(min=0), grid.to(below), validate=False)
