"""`Ensemble`: the mixture of members that each predict a whole distribution; what an ensemble of heads
predicts.

    F = sum_h w_h F_h          Var R = sum_h w_h Var_h  +  sum_h w_h (m_h - m)^2
                                       people differ          the members do

Everything is exact up to rounding, because the mixture is again a distribution of a known kind: of Gaussians
a `GaussianEnsemble`, of atoms a `Categorical`, and of piecewise linear distributions one whose distribution
function is linear between the ends of all segments. The members stay at hand for measures that compare them.

Notation: H members, F_h distribution function, m_h mean and w_h weight of a member.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from pluralign.distributions.base import Heads, Parameters, RewardDistribution
from pluralign.distributions.categorical import Categorical
from pluralign.distributions.checks import TensorLike, as_float, check_shape, require
from pluralign.distributions.gaussian import GaussianEnsemble
from pluralign.distributions.piecewise import PiecewiseLinear, Segments
from pluralign.errors import ArgumentError

__all__ = ["Ensemble"]

_SUM_TOLERANCE = 1e-2


@final
class Ensemble(RewardDistribution):
    """The mixture of H members.

    Args:
        members: H distributions of one batch shape; either all are `GaussianEnsemble`s, or none is.
        weights: [H], not negative, summing to 1 (within 1e-2; normalised); None for equal weights.
        validate: check the weights' values.

    Attributes:
        weights: [B, H].
        crossing_rate: [B], mean over the members, for members that have one.

    Raises:
        ArgumentError: there is no member, batch shapes differ, kinds do not go together, or a weight is
            illegal.

    >>> Ensemble([Categorical([[1.0]], [0.0]), Categorical([[1.0]], [2.0])]).std()
    tensor([1.])
    """

    _batched: ClassVar[tuple[str, ...]] = ("weights",)

    def __init__(
        self,
        members: Sequence[RewardDistribution],
        weights: TensorLike | None = None,
        *,
        validate: bool = True,
    ) -> None:
        given = () if isinstance(members, RewardDistribution) else tuple(members)  # its rows are no members
        if not given or not all(isinstance(one, RewardDistribution) for one in given):
            kinds = ", ".join(type(one).__name__ for one in given) or "none"
            raise ArgumentError(f"members must be reward distributions, at least one; received {kinds}")
        if len({one.batch_shape for one in given}) > 1:
            shapes = ", ".join(str(list(one.batch_shape)) for one in given)
            raise ArgumentError(f"members must have one batch shape, received {shapes}")
        gaussian = [isinstance(one, GaussianEnsemble) for one in given]
        if any(gaussian) != all(gaussian) or not all(
            isinstance(one, GaussianEnsemble | PiecewiseLinear) for one in given
        ):
            kinds = ", ".join(dict.fromkeys(type(one).__name__ for one in given))
            raise ArgumentError(
                "members must all be Gaussian, or all have piecewise linear quantile functions; received "
                f"{kinds}"
            )
        wide = max((one.dtype for one in given), key=lambda dtype: torch.finfo(dtype).bits)
        self._members = tuple(one.to(given[0].device, wide) for one in given)
        first = self._members[0].mean()
        share = torch.full((len(given),), 1 / len(given), dtype=wide) if weights is None else weights
        shares = as_float(share, "weights", like=first)
        check_shape(shares, "weights", (len(given),))
        if validate:
            require(shares.isfinite() & (shares >= 0), "weights must be finite and not negative")
            require((shares.sum() - 1).abs() <= _SUM_TOLERANCE, "the weights of the members must sum to 1")
        self._validate = validate
        self.weights: Tensor = (shares / shares.sum()).expand(len(first), -1)
        self._mixture: RewardDistribution | None = None

    def parameters(self) -> Parameters:
        """The weights, and the members."""
        return super().parameters()._replace(members=self.members())

    def members(self) -> tuple[RewardDistribution, ...]:
        """The members, in order."""
        return self._members

    def heads(self) -> Heads:
        """Mean, standard deviation and weight of each member."""
        means, stds = (
            torch.stack(part, -1) for part in zip(*((m.mean(), m.std()) for m in self._members), strict=True)
        )
        return Heads(means, stds, self.weights)

    def mixture(self) -> RewardDistribution:
        """The same distribution without its members."""
        if self._mixture is None:
            self._mixture = _mixed(self._members, self.weights, self._validate)
        return self._mixture

    @property
    def crossing_rate(self) -> Tensor | None:
        """Mean crossing rate of the members, [B]; None where they have none."""
        rates = [getattr(one, "crossing_rate", None) for one in self._members]
        found = [rate for rate in rates if rate is not None]
        return torch.stack(found, -1).mean(-1) if found and len(found) == len(rates) else None

    # --- by the mixture -------------------------------------------------------------------------------------

    def mean(self) -> Tensor:
        """E[R], [B]."""
        return (self.weights * torch.stack([one.mean() for one in self._members], -1)).sum(-1)

    def std(self) -> Tensor:
        """Standard deviation of R, within and between members, [B]."""
        return self.mixture().std()

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws from the mixture, each time from a new member; differentiable in the members' values."""
        return self.mixture().sample(n, generator=generator)

    def prob_greater(self, other: RewardDistribution) -> Tensor:
        """P(R1 > R2) + P(R1 = R2) / 2 for independent rewards and members, [B]."""
        return self.mixture().prob_greater(other)

    def wasserstein(self, other: RewardDistribution) -> Tensor:
        """Integral of |F1 - F2|, [B]."""
        return self.mixture().wasserstein(other)

    def scale_shift(self, scale: TensorLike, shift: TensorLike) -> Self:
        """The distribution of `scale * R + shift`, scale > 0; both [] or [B]."""
        new = copy.copy(self)
        new._members = tuple(one.scale_shift(scale, shift) for one in self._members)
        new._mixture = None
        return new

    def point_masses(self) -> tuple[Tensor, Tensor] | None:
        """Atoms and their probabilities if all members are discrete."""
        return self.mixture().point_masses()

    def transformed(self, increasing: Callable[[Tensor], Tensor]) -> RewardDistribution | None:
        """The ensemble of the transformed members, if all are discrete, which is where that is exact."""
        found = [one.transformed(increasing) for one in self._members if one.point_masses() is not None]
        kept = [one for one in found if one is not None]
        if len(kept) < len(self._members):
            return None
        new = copy.copy(self)
        new._members, new._mixture = tuple(kept), None
        return new

    def _cvar(self, fraction: float) -> Tensor:
        return self.mixture()._cvar(fraction)

    def _certainty_equivalent(self, aversion: float) -> Tensor:
        return self.mixture()._certainty_equivalent(aversion)

    def _quantile(self, levels: Tensor) -> Tensor:
        return self.mixture()._quantile(levels)

    def _cdf(self, x: Tensor, *, left: bool = False) -> Tensor:
        parts = torch.stack([one._cdf(x, left=left) for one in self._members], -1)
        return (self.weights.unsqueeze(1) * parts).sum(-1)

    def _density(self, x: Tensor, *, left: bool = False) -> Tensor:
        parts = torch.stack([one._density(x, left=left) for one in self._members], -1)
        return (self.weights.unsqueeze(1) * parts).sum(-1)

    def _integrated_cdf(self, x: Tensor) -> Tensor:
        parts = torch.stack([one._integrated_cdf(x) for one in self._members], -1)
        return (self.weights.unsqueeze(1) * parts).sum(-1)

    def _knots(self) -> Tensor:
        return torch.cat([one._knots() for one in self._members], -1)

    def _half_gini(self) -> Tensor:
        return self.mixture()._half_gini()

    @property
    def _level_dtype(self) -> torch.dtype:
        return self._members[0]._level_dtype

    def _replace(self, change: Callable[[Tensor], Tensor], *, shared: bool = False) -> Self:
        new = super()._replace(change, shared=shared)
        new._members = tuple(one._replace(change, shared=shared) for one in self._members)
        new._mixture = None
        return new

    def __repr__(self) -> str:
        return f"Ensemble({', '.join(map(repr, self._members))})"


@final
class _Pieces(PiecewiseLinear):
    """A piecewise linear distribution by its segments, [B, S] each."""

    _batched: ClassVar[tuple[str, ...]] = ("lower", "upper", "cum")

    def __init__(self, lower: Tensor, upper: Tensor, cum: Tensor, validate: bool) -> None:
        self.lower, self.upper, self.cum = lower, upper, cum
        self._validate = validate

    def scale_shift(self, scale: TensorLike, shift: TensorLike) -> Self:
        """The distribution of `scale * R + shift`, scale > 0; both [] or [B]."""
        scales, shifts = (part.unsqueeze(-1) for part in self._affine(scale, shift))
        new = copy.copy(self)
        new.lower, new.upper = scales * self.lower + shifts, scales * self.upper + shifts
        return new

    def _segments(self) -> Segments:
        return Segments(self.lower, self.upper, self.cum)


def _mixed(
    members: Sequence[RewardDistribution], weights: Tensor, validate: bool
) -> GaussianEnsemble | PiecewiseLinear:
    gaussian = [one for one in members if isinstance(one, GaussianEnsemble)]
    if gaussian:
        means, stds, inner = (
            torch.cat(part, -1)
            for part in zip(*((g.means, g.stds, g.weights) for g in gaussian), strict=True)
        )
        counts = torch.tensor([one.means.shape[1] for one in gaussian], device=weights.device)
        return GaussianEnsemble(means, stds, inner * weights.repeat_interleave(counts, -1), validate=validate)
    masses = [one.point_masses() for one in members]
    known = [mass for mass in masses if mass is not None]
    if len(known) == len(masses):
        if _same_atoms([mass[0] for mass in known], validate):  # keeps the categories
            probs = torch.stack([mass[1] for mass in known], 1)
            return Categorical((weights.unsqueeze(-1) * probs).sum(1), known[0][0], validate=validate)
        parts = [w.unsqueeze(-1) * mass[1] for w, mass in zip(weights.unbind(-1), known, strict=True)]
        atoms = torch.cat([mass[0] for mass in known], -1)
        return Categorical(torch.cat(parts, -1), atoms, validate=validate)
    return _pieces([one for one in members if isinstance(one, PiecewiseLinear)], weights, validate)


def _same_atoms(atoms: Sequence[Tensor], validate: bool) -> bool:
    """Whether all have the same atoms; on an accelerator, which has to be waited for, only if validating."""
    if len({one.shape for one in atoms}) > 1 or not (validate or atoms[0].device.type == "cpu"):
        return False
    return all(torch.equal(one, atoms[0]) for one in atoms[1:])


def _pieces(members: Sequence[PiecewiseLinear], weights: Tensor, validate: bool) -> _Pieces:
    """The mixture: linear between the ends of the members' segments, with jumps there."""
    segments = [one._segments() for one in members]
    knots = torch.cat([part for one in segments for part in (one.lower, one.upper)], -1).sort(-1).values

    def levels(*, left: bool) -> Tensor:
        parts = torch.stack([one._cdf(knots, left=left) for one in members], -1)
        return (weights.unsqueeze(1) * parts).sum(-1)

    # Up to a knot in a line, then the jump at it.
    cum = torch.stack((levels(left=True), levels(left=False)), -1).flatten(1)
    start = torch.cat((knots[:, :1], knots[:, :-1]), -1)
    lower = torch.stack((start, knots), -1).flatten(1)
    upper = knots.repeat_interleave(2, -1)
    cum = cum.clamp(0, 1).cummax(-1).values
    return _Pieces(lower, upper, cum / cum[:, -1:], validate)
