"""A distribution over categories on a grid, with the same noise as the ratings on that grid.

In: distributions and the step of the grid. Out: the distributions of reward + U(-step/2, step/2). Otherwise,
losses on ratings with noise would penalise categories for not being continuous, and families could not be
compared.
"""

from __future__ import annotations

import torch

from pluralign.distributions import Quantiles, RewardDistribution
from pluralign.errors import ArgumentError

__all__ = ["spread_distribution"]

_LEVELS = 200  # the true distribution is piecewise linear between its kinks, so these are almost exact


def spread_distribution(distribution: RewardDistribution, step: float) -> Quantiles:
    """The distribution of a category's reward + U(-step/2, step/2), at the midpoints of 200 equal shares.

    Args:
        distribution: N distributions whose atoms are `step` apart, in ascending order.
        step: step of the grid, positive.

    Raises:
        ArgumentError: the distributions have no atoms.
    """
    masses = distribution.point_masses()
    if masses is None:
        raise ArgumentError(
            f"spread_distribution needs a distribution of atoms, received {type(distribution).__name__}"
        )
    atoms, probs = masses
    levels = ((torch.arange(_LEVELS, dtype=distribution.dtype) + 0.5) / _LEVELS).to(distribution.device)
    ends = probs.cumsum(-1)
    ends = ends / ends[:, -1:]
    place = torch.searchsorted(ends, levels.expand(len(ends), -1).contiguous())
    share = torch.diff(ends, dim=-1, prepend=torch.zeros_like(ends[:, :1]))
    inside = (levels - (ends - share).gather(1, place)) / share.gather(1, place)
    return Quantiles(atoms.gather(1, place) + step * (inside - 0.5), levels, validate=False)
