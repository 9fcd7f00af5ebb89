"""Distributions whose quantile function is piecewise linear: one algebra for points, quantiles, categories,
samples.

Each such distribution is a sequence of segments. Segment s carries the probability between the levels
cum_(s-1) and cum_s, spread uniformly over [lower_s, upper_s]; an atom is a segment of width 0. Segments do
not overlap and ascend:

    lower_1 <= upper_1 <= lower_2 <= ... <= upper_S,      0 = cum_0 <= cum_1 <= ... <= cum_S = 1

Every result is exact up to rounding and differentiable in the segments.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from pluralign.distributions.base import RewardDistribution
from pluralign.distributions.checks import check_draws
from pluralign.distributions.special import divide, log_mean_exp, log_sinhc, safe_sqrt
from pluralign.precision import widened

__all__ = ["PiecewiseLinear", "Segments"]


class Segments(NamedTuple):
    """Segments of B distributions, each [B, S], in ascending order."""

    lower: Tensor
    upper: Tensor
    cum: Tensor

    @property
    def nodes(self) -> Tensor:
        """Levels between the segments with 0 in front, [B, S + 1]."""
        return torch.nn.functional.pad(self.cum, (1, 0))

    @property
    def mass(self) -> Tensor:
        """Probability of each segment, [B, S]."""
        return self.nodes.diff(dim=-1)

    @property
    def middle(self) -> Tensor:
        """Mean of each segment, [B, S]."""
        return 0.5 * self.lower + 0.5 * self.upper


class PiecewiseLinear(RewardDistribution):
    """Abstract base: a distribution given by its segments; subclasses supply only `_segments`."""

    @abstractmethod
    def _segments(self) -> Segments: ...

    def mean(self) -> Tensor:
        """E[R], [B]."""
        segments = self._segments()
        return (segments.mass * segments.middle).sum(-1)

    def std(self) -> Tensor:
        """Standard deviation of R, [B]."""
        segments = self._segments()
        offset = segments.middle - self.mean().unsqueeze(-1)
        width = segments.upper - segments.lower
        # Squares are taken in units of the largest deviation, so that 1e30 and 1e-30 survive float32.
        unit = (offset.abs() + width).detach().amax(-1, keepdim=True)
        square = divide(offset, unit) ** 2 + divide(width, unit) ** 2 / 12
        return unit.squeeze(-1) * safe_sqrt((segments.mass * square).sum(-1))

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws by inverting the CDF; differentiable in the values of the distribution."""
        check_draws(n, generator)
        levels = torch.rand(len(self), n, generator=generator, dtype=self.dtype, device=self.device)
        return self._quantile(levels)

    def prob_greater(self, other: RewardDistribution) -> Tensor:
        """P(R1 > R2) + P(R1 = R2) / 2 for independent rewards, exact, [B]."""
        first, second = self._paired(other)
        if isinstance(second, PiecewiseLinear):
            return _area_under(first, second)
        return 1 - second.prob_greater(first)

    def wasserstein(self, other: RewardDistribution) -> Tensor:
        """Integral of |F1 - F2|, exact for two piecewise linear distributions, [B]."""
        first, second = self._paired(other)
        if isinstance(second, PiecewiseLinear):
            return _area_between(first, second)
        return super().wasserstein(other)

    # --- primitives -----------------------------------------------------------------------------------------

    def _cvar(self, fraction: float) -> Tensor:
        segments = self._segments()
        fraction = max(fraction, torch.finfo(self.dtype).tiny)  # what the dtype takes for 0 has no mass
        taken = torch.minimum((fraction - segments.nodes[:, :-1]).clamp(min=0), segments.mass)
        part = divide(taken, segments.mass)
        return (taken * torch.lerp(segments.lower, segments.upper, 0.5 * part)).sum(-1) / taken.sum(-1)

    def _certainty_equivalent(self, aversion: float) -> Tensor:
        lower, upper, cum = map(widened, self._segments())
        segments = Segments(lower, upper, cum)
        mean = (segments.mass * segments.middle).sum(-1)
        offset = segments.middle - mean.unsqueeze(-1)
        exponents = -aversion * offset + log_sinhc(0.5 * aversion * (upper - lower))
        return mean - log_mean_exp(segments.mass, exponents) / aversion

    def _quantile(self, levels: Tensor) -> Tensor:
        segments = self._segments()
        # Level 0 is the lowest reward with positive probability: segments without mass are skipped.
        levels = levels.clamp(min=torch.finfo(levels.dtype).tiny).contiguous()
        index = torch.searchsorted(segments.cum.detach().contiguous(), levels.detach())
        index = index.clamp(max=segments.cum.shape[-1] - 1)
        part = divide(levels - segments.nodes.gather(-1, index), segments.mass.gather(-1, index)).clamp(0, 1)
        return torch.lerp(segments.lower.gather(-1, index), segments.upper.gather(-1, index), part)

    def _cdf(self, x: Tensor, *, left: bool = False) -> Tensor:
        segments = self._segments()
        passed, lower, width, mass = _locate(segments, x, left=left)
        return segments.nodes.gather(-1, passed) + mass * divide(x - lower, width).clamp(0, 1)

    def _density(self, x: Tensor, *, left: bool = False) -> Tensor:
        _, lower, width, mass = _locate(self._segments(), x, left=left)
        inside = x > lower if left else x >= lower
        return torch.where(inside, divide(mass, width), 0.0)

    def _integrated_cdf(self, x: Tensor) -> Tensor:
        segments = self._segments()
        passed, lower, width, mass = _locate(segments, x, left=False)
        # Relative to the mean, so that a large common offset costs no digits.
        centre = (segments.mass * segments.middle).sum(-1, keepdim=True).detach()
        moment = torch.nn.functional.pad((segments.mass * (segments.middle - centre)).cumsum(-1), (1, 0))
        below = segments.nodes.gather(-1, passed) * (x - centre) - moment.gather(-1, passed)
        return below + 0.5 * mass * (x - lower).clamp(min=0) * divide(x - lower, width).clamp(0, 1)

    def _knots(self) -> Tensor:
        # Every representation starts with an atom, so the upper ends contain all knots.
        return self._segments().upper

    def _half_gini(self) -> Tensor:
        segments = self._segments()
        start, end = segments.nodes[:, :-1], segments.cum
        inside = (start + end) / 2 - (start * start + start * end + end * end) / 3
        within = ((segments.upper - segments.lower) * inside).sum(-1)
        between = (segments.lower[:, 1:] - segments.upper[:, :-1]) * (end * (1 - end))[:, :-1]
        return within + between.sum(-1)


def _locate(segments: Segments, x: Tensor, *, left: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The number of segments wholly at or below x (below, if left), and the next one: lower, width, mass.

    Past the last segment the mass returned is 0.
    """
    last = segments.upper.shape[-1] - 1
    passed = torch.searchsorted(segments.upper.detach().contiguous(), x.detach().contiguous(), right=not left)
    index = passed.clamp(max=last)
    lower, upper = segments.lower.gather(-1, index), segments.upper.gather(-1, index)
    mass = torch.where(passed > last, 0.0, segments.mass.gather(-1, index))
    return passed, lower, upper - lower, mass


def _area_under(first: PiecewiseLinear, second: PiecewiseLinear) -> Tensor:
    """P(R1 > R2) + P(R1 = R2) / 2 = integral of F2 dF1 along the path (F1, F2) from (0, 0) to (1, 1).

    The path is a polygon: linear between knots, and a straight jump where both distributions have an atom,
    which counts ties by one half. Equal knots go back and forth along one line and cancel.
    """
    knots = torch.cat((first._knots(), second._knots()), -1).sort(-1).values

    def path(distribution: PiecewiseLinear) -> Tensor:
        return torch.stack((distribution._cdf(knots, left=True), distribution._cdf(knots)), -1).flatten(1)

    across, height = path(first), path(second)
    area = (across.diff(dim=-1) * 0.5 * (height[:, 1:] + height[:, :-1])).sum(-1)
    return area.clamp(0, 1)


def _area_between(first: PiecewiseLinear, second: PiecewiseLinear) -> Tensor:
    """Integral of |F1 - F2|, which is linear between the knots of both distributions."""
    knots = torch.cat((first._knots(), second._knots()), -1).sort(-1).values
    start = (first._cdf(knots) - second._cdf(knots))[:, :-1]
    end = (first._cdf(knots, left=True) - second._cdf(knots, left=True))[:, 1:]
    total = start.abs() + end.abs()
    same_sign = start * end >= 0
    height = torch.where(same_sign, 0.5 * total, 0.5 * divide(start * start + end * end, total))
    return (knots.diff(dim=-1) * height).sum(-1)
