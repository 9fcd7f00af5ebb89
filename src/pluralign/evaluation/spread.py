"""A law over categories on a grid, spread as the ratings on that grid are.

In: laws and the step of the grid. Out: the laws of reward + U(-step/2, step/2). Losses that compare
predictions with spread ratings would else count against categories that they are not continuous, and families
could not be compared. It knows no ratings.
"""

from __future__ import annotations

import torch

from pluralign.distributions import Categorical, Quantiles

__all__ = ["spread_law"]

_LEVELS = 200  # between the kinks of the true law, which is piecewise linear, these lose next to nothing


def spread_law(law: Categorical, step: float) -> Quantiles:
    """The law of a category's reward + U(-step/2, step/2), at the middles of 200 equal shares.

    Args:
        law: N laws whose atoms lie `step` apart.
        step: of the grid, positive.
    """
    levels = ((torch.arange(_LEVELS, dtype=law.dtype) + 0.5) / _LEVELS).to(law.device)
    ends = law.probs.cumsum(-1)
    ends = ends / ends[:, -1:]
    place = torch.searchsorted(ends, levels.expand(len(ends), -1).contiguous())
    share = torch.diff(ends, dim=-1, prepend=torch.zeros_like(ends[:, :1]))
    inside = (levels - (ends - share).gather(1, place)) / share.gather(1, place)
    return Quantiles(law.atoms.gather(1, place) + step * (inside - 0.5), levels, validate=False)
