"""Quantile normalisation: maps a source's rewards to normal scores, based on its rewards for references.

In: the rewards of one source for reference responses, as distributions. Out: an increasing map, and
distributions transformed by it.

With F the average of the references' CDFs, x is mapped to the inverse normal CDF of (F(x) + F(x-)) / 2, so a
reference response drawn at random has a standard normal reward on every source's scale, up to atoms. The map
is stored as at most 255 knots and is linear between them. Beyond the outer knots it continues with slope
1 / (standard deviation of F), so that it never saturates and keeps the order of rewards beyond all
references.

Reference: quantile normalisation as proposed by Yan et al. 2024 (arXiv 2409.15360) for rewards of several
models; the scale, the atoms and the tails are ours.
"""

from __future__ import annotations

from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import Quantiles, RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.heads import Reference

__all__ = ["LEVELS", "QuantileMap"]

# The levels at which distributions without a list of atoms are evaluated: the middles of 100 equal shares.
LEVELS: Final = torch.arange(0.005, 1, 0.01, dtype=torch.float64)

_KNOTS = 255
_READ_PER_LAW = 32
_ROWS_AT_ONCE = 4096


@final
class QuantileMap:
    """An increasing, piecewise linear map of rewards to normal scores.

    Args:
        knots: rewards, [K], strictly ascending, K >= 2; float64.
        scores: what they are mapped to, [K], strictly ascending.
        slope: of the map below the first and above the last knot, positive.

    Raises:
        ArgumentError: the map would not be increasing.
    """

    def __init__(self, knots: Float[Tensor, " K"], scores: Float[Tensor, " K"], slope: float) -> None:
        rising = knots.shape == scores.shape and knots.ndim == 1 and len(knots) >= 2
        if not rising or not bool((knots.diff() > 0).all() and (scores.diff() > 0).all()) or not slope > 0:
            raise ArgumentError("a quantile map needs at least two knots and must be increasing")
        self.knots, self.scores, self.slope = knots.double(), scores.double(), float(slope)

    @classmethod
    def of(cls, reference: RewardDistribution) -> QuantileMap:
        """The map under which the reference rewards are standard normal.

        Raises:
            ArgumentError: the source gives every reference the same reward.
        """
        distributions = reference.to("cpu", torch.float64)
        read = (torch.arange(_READ_PER_LAW, dtype=torch.float64) + 0.5) / _READ_PER_LAW
        pooled = torch.sort(distributions.quantile(read).flatten()).values
        # Both ends are knots: beyond them the map is linear, which should apply only to new rewards.
        places = torch.linspace(0, len(pooled) - 1, _KNOTS, dtype=torch.float64)
        knots = torch.unique(pooled[places.round().long()])
        level = torch.zeros_like(knots)
        for start in range(0, len(distributions), _ROWS_AT_ONCE):
            part = distributions[start : start + _ROWS_AT_ONCE]
            points = knots.expand(len(part), -1)
            level += 0.5 * (part.cdf(points) + part.cdf_left(points)).sum(0)
        scores = torch.special.ndtri(level / len(distributions))
        # Knots that rounding put on the same level are redundant.
        apart = torch.cat((torch.ones(1, dtype=torch.bool), scores.diff() > 1e-9)) & scores.isfinite()
        if int(apart.sum()) < 2:
            raise ArgumentError(
                "every reference response has the same reward, so it has no scale; use other references or "
                "leave this source out"
            )
        return cls(knots[apart], scores[apart], 1 / Reference.of(distributions).std)

    def __call__(self, rewards: Tensor) -> Tensor:
        """Maps rewards of any shape; increasing, so quantiles are mapped to quantiles."""
        x = rewards.double()
        knots, scores = self.knots.to(x.device), self.scores.to(x.device)
        cell = (torch.searchsorted(knots, x.contiguous()) - 1).clamp(0, len(knots) - 2)
        part = (x - knots[cell]) / (knots[cell + 1] - knots[cell])
        inside = torch.lerp(scores[cell], scores[cell + 1], part.clamp(0, 1))
        beyond = (x - knots[-1]).clamp(min=0) + (x - knots[0]).clamp(max=0)
        return (inside + self.slope * beyond).to(rewards.dtype)

    def push(self, distribution: RewardDistribution) -> RewardDistribution:
        """The distribution of the mapped reward.

        Exact if the representation allows it (`RewardDistribution.transformed`): for atoms, and at the
        levels of `Quantiles`; any other distribution is evaluated at `LEVELS`.
        """
        exact = distribution.transformed(self)
        if exact is not None:
            return exact
        return Quantiles(self(distribution.quantile(LEVELS.to(distribution.device))), LEVELS)
