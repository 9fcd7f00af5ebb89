"""`GaussianEnsemble`: heads that each predict a Gaussian (BRME); together, their mixture.

Everything is in closed form except quantiles, which are found by bisection in float64 and get their gradients
from the implicit function theorem: dQ = -(dF / d parameter) / f at Q. A standard deviation of 0 makes a head
an atom.
Notation: head h has mean mu_h, standard deviation s_h and weight w_h.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from pluralign.distributions.base import Heads, RewardDistribution
from pluralign.distributions.checks import TensorLike, as_float, check_draws, check_shape, require
from pluralign.distributions.piecewise import PiecewiseLinear
from pluralign.distributions.special import (
    bisect,
    divide,
    hypot,
    log_mean_exp,
    normal_cdf,
    normal_density,
    normal_excess,
    safe_sqrt,
)
from pluralign.precision import wide_dtype, widened

__all__ = ["GaussianEnsemble"]

_SUM_TOLERANCE = 1e-2  # weights must sum to 1 up to bfloat16 rounding; they are normalised
_BISECTIONS = 64  # a bracket shrinks to the resolution of float64
_REACH, _CELLS = 9.0, 18  # knots: cells of one standard deviation; beyond the reach lies less than 1e-18
# Gauss-Legendre nodes and weights on [-1, 1] for the mean of Phi over less than a standard deviation.
_NODES = (0.1834346424956498, 0.5255324099163290, 0.7966664774136267, 0.9602898564975363)
_NODE_WEIGHTS = (0.3626837833783620, 0.3137066458778873, 0.2223810344533745, 0.1012285362903763)


@final
class GaussianEnsemble(RewardDistribution):
    """The mixture of H Gaussian heads; H = 1 is one Gaussian.

    Args:
        means: [B, H].
        stds: [B, H], not negative; 0 makes the head an atom.
        weights: [H] or [B, H], not negative, summing to 1 (within 1e-2; normalised); None for equal weights.
        validate: check the values of all.

    Attributes:
        means, stds, weights: each [B, H].

    Raises:
        ArgumentError: if shapes do not fit or, when validating, a value is illegal.

    Reference: Yan et al. 2024 (arXiv 2409.15360) for the heads; treating them as a mixture is ours.

    >>> GaussianEnsemble([[0.0, 2.0]], [[1.0, 1.0]]).std()
    tensor([1.4142])
    """

    _batched: ClassVar[tuple[str, ...]] = ("means", "stds", "weights")

    def __init__(
        self, means: TensorLike, stds: TensorLike, weights: TensorLike | None = None, *, validate: bool = True
    ) -> None:
        self.means: Tensor = as_float(means, "means")
        if self.means.ndim != 2 or self.means.shape[-1] == 0:
            check_shape(self.means, "means", ("B", "H"))
        rows, heads = self.means.shape
        self.stds: Tensor = as_float(stds, "stds", like=self.means)
        check_shape(self.stds, "stds", (rows, heads))
        share = torch.full_like(self.means, 1 / heads) if weights is None else weights
        given = as_float(share, "weights", like=self.means)
        check_shape(given, "weights", (heads,), (rows, heads))
        total = given.sum(-1, keepdim=True)
        self._validate = validate
        if validate:
            require(self.means.isfinite(), "means must be finite")
            require(self.stds.isfinite() & (self.stds >= 0), "stds must be finite and not negative")
            require(given.isfinite() & (given >= 0), "weights must be finite and not negative")
            require((total - 1).abs() <= _SUM_TOLERANCE, "the weights of the heads must sum to 1")
        self.weights: Tensor = (given / total).expand(rows, heads)

    def mean(self) -> Tensor:
        """E[R], [B]."""
        return (self.weights * self.means).sum(-1)

    def std(self) -> Tensor:
        """Standard deviation of R, within and between heads, [B]."""
        offset = self.means - self.mean().unsqueeze(-1)
        # Squares are taken in units of the largest deviation, so that 1e30 and 1e-30 survive float32.
        unit = torch.maximum(offset.abs(), self.stds).detach().amax(-1, keepdim=True)
        square = divide(offset, unit) ** 2 + divide(self.stds, unit) ** 2
        return unit.squeeze(-1) * safe_sqrt((self.weights * square).sum(-1))

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws a head, then from it; differentiable in means and stds, not in weights."""
        check_draws(n, generator)
        shape, kind, device = (len(self), n), self.dtype, self.device
        cum = self.weights.detach().cumsum(-1)
        level = torch.rand(shape, generator=generator, dtype=kind, device=device) * cum[:, -1:]
        head = torch.searchsorted(cum, level, right=True).clamp(max=cum.shape[-1] - 1)
        noise = torch.randn(shape, generator=generator, dtype=kind, device=device)
        return self.means.gather(-1, head) + self.stds.gather(-1, head) * noise

    def prob_greater(self, other: RewardDistribution) -> Tensor:
        """P(R1 > R2) + P(R1 = R2) / 2 for independent rewards, in closed form, [B]."""
        first, second = self._paired(other)
        if isinstance(second, GaussianEnsemble):
            difference = first.means.unsqueeze(-1) - second.means.unsqueeze(-2)
            scale = hypot(first.stds.unsqueeze(-1), second.stds.unsqueeze(-2))
            greater = 0.5 * (normal_cdf(difference, scale) + normal_cdf(difference, scale, left=True))
            total = torch.einsum("bh,bk,bhk->b", first.weights, second.weights, greater)
            return total.clamp(0, 1)  # products of weights sum to 1 up to rounding
        if isinstance(second, PiecewiseLinear):
            segments = second._segments()
            return 1 - (segments.mass * first._average_cdf(segments.lower, segments.upper)).sum(-1)
        return 1 - second.prob_greater(first)

    def scale_shift(self, scale: TensorLike, shift: TensorLike) -> Self:
        """The distribution of `scale * R + shift`, scale > 0; both [] or [B]."""
        scales, shifts = (part.unsqueeze(-1) for part in self._affine(scale, shift))
        new = copy.copy(self)
        new.means, new.stds = scales * self.means + shifts, scales * self.stds
        return new

    def heads(self) -> Heads:
        """The heads, for measures that compare them."""
        return Heads(self.means, self.stds, self.weights)

    def members(self) -> tuple[GaussianEnsemble, ...]:
        """Each head as a distribution of its own."""
        return tuple(
            GaussianEnsemble(mean.unsqueeze(-1), std.unsqueeze(-1), validate=False)
            for mean, std in zip(self.means.unbind(-1), self.stds.unbind(-1), strict=True)
        )

    # --- primitives -----------------------------------------------------------------------------------------

    @property
    def _level_dtype(self) -> torch.dtype:
        return wide_dtype(self.device)  # 1 - 1e-8 is 1 in float32, where a Gaussian has no finite quantile

    def _cvar(self, fraction: float) -> Tensor:
        # Q - E[(Q - R)+] / a is largest at the quantile, so the quantile's own gradient drops out (envelope
        # theorem).
        wide = self.to(dtype=wide_dtype(self.device))
        level = torch.full((len(self), 1), fraction, dtype=wide.dtype, device=self.device)
        at = wide._quantile(level).detach()
        return (at - wide._integrated_cdf(at) / fraction).squeeze(-1).to(self.dtype)

    def _certainty_equivalent(self, aversion: float) -> Tensor:
        wide = self.to(dtype=wide_dtype(self.device))
        mean = wide.mean()
        exponents = 0.5 * (aversion * wide.stds) ** 2 - aversion * (wide.means - mean.unsqueeze(-1))
        return mean - log_mean_exp(wide.weights, exponents) / aversion

    def _quantile(self, levels: Tensor) -> Tensor:
        wide, levels = self.to(dtype=wide_dtype(self.device)), widened(levels)
        with torch.no_grad():
            heads = torch.special.ndtri(levels).unsqueeze(-1) * wide.stds.unsqueeze(1)
            heads = wide.means.unsqueeze(1) + torch.where(wide.stds.unsqueeze(1) > 0, heads, 0.0)
            used = wide.weights.unsqueeze(1) > 0
            low = torch.where(used, heads, torch.inf).amin(-1)
            high = torch.where(used, heads, -torch.inf).amax(-1)
            _, found = bisect(lambda x: wide._cdf(x) < levels, low, high, _BISECTIONS)
            # Level 0 is the lower end of the lowest head, level 1 the upper end of the highest, infinite
            # unless atoms.
            found = torch.where(levels <= 0, low, torch.where(levels >= 1, high, found))
            finite = torch.where(found.isfinite(), found, 0.0)
            density = torch.where(found.isfinite(), wide._density(finite), 0.0)
        # The value is `found`; the gradient is that of the implicit function F(Q) = t.
        miss = wide._cdf(finite) - levels
        return (found - divide(miss - miss.detach(), density)).to(self.dtype)

    def _standardised(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x - mu_h, s_h and w_h with dimensions [B, X, H]."""
        return x.unsqueeze(-1) - self.means.unsqueeze(1), self.stds.unsqueeze(1), self.weights.unsqueeze(1)

    def _cdf(self, x: Tensor, *, left: bool = False) -> Tensor:
        difference, scale, weight = self._standardised(x)
        return (weight * normal_cdf(difference, scale, left=left)).sum(-1)

    def _density(self, x: Tensor, *, left: bool = False) -> Tensor:
        difference, scale, weight = self._standardised(x)
        return (weight * normal_density(difference, scale)).sum(-1)

    def _integrated_cdf(self, x: Tensor) -> Tensor:
        difference, scale, weight = self._standardised(x)
        return (weight * normal_excess(difference, scale)).sum(-1)

    def _average_cdf(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Mean of (F(x) + F(x-)) / 2 over x uniform on [lower, upper], [B, S]."""
        start, scale, weight = self._standardised(lower)
        end, _, _ = self._standardised(upper)
        width = end - start
        by_integral = divide(normal_excess(end, scale) - normal_excess(start, scale), width)
        # Over short intervals that difference cancels; there Phi is a polynomial to the last digit.
        middle, half = start + 0.5 * width, 0.5 * width
        by_points = torch.zeros_like(by_integral)
        for node, share in zip(_NODES, _NODE_WEIGHTS, strict=True):
            for x in (middle - node * half, middle + node * half):
                by_points = by_points + 0.25 * share * (
                    normal_cdf(x, scale) + normal_cdf(x, scale, left=True)
                )
        return (
            weight * torch.where((width > scale) | ((scale == 0) & (width > 0)), by_integral, by_points)
        ).sum(-1)

    def _knots(self) -> Tensor:
        mesh = torch.linspace(-_REACH, _REACH, _CELLS + 1, dtype=self.dtype, device=self.device)
        return (self.means.unsqueeze(-1) + self.stds.unsqueeze(-1) * mesh).flatten(1)

    def _half_gini(self) -> Tensor:
        difference = self.means.unsqueeze(-1) - self.means.unsqueeze(-2)
        scale = hypot(self.stds.unsqueeze(-1), self.stds.unsqueeze(-2))
        # E|m + s Z| = 2 E[(m + s Z)+] - m, and the m cancel in the sum over both orders.
        return torch.einsum("bh,bk,bhk->b", self.weights, self.weights, normal_excess(difference, scale))
