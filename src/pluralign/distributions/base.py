"""`RewardDistribution`: the interface between every reward model and every risk measure.

A batch of B one-dimensional distributions of reward. This file holds the methods that users call: it checks
and reshapes arguments, and each representation supplies a few primitives with fixed shapes:

    _quantile(t [B, T])      inf {x : F(x) >= t}
    _cdf(x [B, X], left)     F(x) = P(R <= x); with left, P(R < x)
    _density(x, left)        slope of F from the right (from the left)
    _integrated_cdf(x)       integral of F up to x = E[(x - R)+]
    _knots()                 points between which F is smooth
    _half_gini()             E|R - R'| / 2 for two independent draws

Notation: R the reward, F its CDF, Q its quantile function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions.batch import Batch
from pluralign.distributions.checks import (
    TensorLike,
    as_float,
    as_number,
    check_fraction,
    check_shape,
    require,
)
from pluralign.distributions.quadrature import cdf_distance
from pluralign.errors import ArgumentError

__all__ = ["Heads", "Parameters", "RewardDistribution", "Variances"]


class Heads(NamedTuple):
    """The mean, standard deviation and weight of each head of a distribution."""

    means: Float[Tensor, "B H"]
    stds: Float[Tensor, "B H"]
    weights: Float[Tensor, "B H"]


class Variances(NamedTuple):
    """The two parts of a variance by the law of total variance; they sum to the square of `std`.

    Attributes:
        within: [B], mean of the members' variances: how people differ, as far as each member says.
        between: [B], variance of the members' means: what the model does not know; 0 without members.
    """

    within: Float[Tensor, " B"]
    between: Float[Tensor, " B"]


class Parameters(NamedTuple):
    """The arguments that rebuild a distribution.

    Attributes:
        own: those with one row per distribution of the batch.
        shared: those that all rows have in common.
        members: the distributions that it is a mixture of.
    """

    own: dict[str, Tensor]
    shared: dict[str, Tensor]
    members: tuple[RewardDistribution, ...] = ()


class RewardDistribution(Batch, ABC):
    """A batch of B one-dimensional distributions of reward.

    Instances are immutable: methods return new ones. Every result has the dtype and the device of the
    parameters. With `validate=False` no method reads a tensor's values on the host, so none waits for the
    accelerator; invalid values then give meaningless numbers instead of errors.
    """

    _derived: ClassVar[tuple[str, ...]] = ()  # batched attributes that are not arguments of the class

    is_point: ClassVar[bool] = False
    """Whether every row is a single certain reward, which every risk measure returns unchanged."""

    # --- what each representation supplies ------------------------------------------------------------------

    @abstractmethod
    def mean(self) -> Float[Tensor, " B"]:
        """E[R], shape [B]."""

    @abstractmethod
    def std(self) -> Float[Tensor, " B"]:
        """Standard deviation of R, shape [B]; its gradient is 0 where it is 0."""

    @abstractmethod
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Float[Tensor, "B n"]:
        """Draws n independent rewards per row, shape [B, n]; the same generator state gives the same draws.

        Raises:
            ArgumentError: if n is not a whole number of at least 0, or `generator` is not a torch.Generator.
        """

    @abstractmethod
    def prob_greater(self, other: RewardDistribution) -> Float[Tensor, " B"]:
        """P(R1 > R2) + P(R1 = R2) / 2 for independent R1 (this distribution) and R2 (`other`), shape [B].

        The two orders sum to 1. It is not the probability that a person prefers the first response: the same
        person rates both, so their rewards are not independent.

        Args:
            other: any representation with the same batch shape.

        Raises:
            ArgumentError: if the batch shapes differ.
        """

    @abstractmethod
    def scale_shift(self, scale: TensorLike, shift: TensorLike) -> Self:
        """The distribution of `scale * R + shift`, for example to bring [0, 1] back to a rating scale.

        Args:
            scale: positive, shape [] or [B].
            shift: shape [] or [B].

        Raises:
            ArgumentError: if a shape does not fit, a value is not finite or a scale is not positive.
        """

    @abstractmethod
    def _cvar(self, fraction: float) -> Tensor: ...

    @abstractmethod
    def _certainty_equivalent(self, aversion: float) -> Tensor: ...

    @abstractmethod
    def _quantile(self, levels: Tensor) -> Tensor: ...

    @abstractmethod
    def _cdf(self, x: Tensor, *, left: bool = False) -> Tensor: ...

    @abstractmethod
    def _density(self, x: Tensor, *, left: bool = False) -> Tensor: ...

    @abstractmethod
    def _integrated_cdf(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _knots(self) -> Tensor: ...

    @abstractmethod
    def _half_gini(self) -> Tensor: ...

    # --- what some representations can supply ---------------------------------------------------------------

    def point_masses(self) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]] | None:
        """Rewards and their probabilities if the distribution is discrete; otherwise None."""
        return None

    @property
    def tail_masses(self) -> tuple[float, float]:
        """Mass of the atoms at the lowest and at the highest reward, where each row has such ends: nothing is
        known beyond them."""
        return 0.0, 0.0

    def transformed(self, increasing: Callable[[Tensor], Tensor]) -> RewardDistribution | None:
        """The distribution of an increasing function of R if this representation can hold it, otherwise None.

        Args:
            increasing: maps rewards of any shape, value by value.
        """
        return None

    def heads(self) -> Heads | None:
        """The heads that measures such as `worst_case` compare; None if there are none."""
        return None

    def members(self) -> tuple[RewardDistribution, ...] | None:
        """The distributions of which this is the mixture, for measures of members; None if there are none."""
        return None

    def mixture(self) -> RewardDistribution:
        """The same distribution without its members."""
        return self

    # --- summaries ------------------------------------------------------------------------------------------

    def variances(self) -> Variances:
        """The variance within and between members (heads), [B] each; all within where there are none."""
        heads = self.heads()
        if heads is None:
            within = self.std().square()
            return Variances(within, torch.zeros_like(within))
        offset = heads.means - (heads.weights * heads.means).sum(-1, keepdim=True)
        parts = (heads.stds.square(), offset.square())
        return Variances(*((heads.weights * part).sum(-1) for part in parts))

    def cvar(self, fraction: float) -> Float[Tensor, " B"]:
        """Mean of the worst fraction of outcomes: (1/a) * integral of Q(t) over t in (0, a).

        Args:
            fraction: a in (0, 1]; 1 gives the mean.

        Returns:
            shape [B].

        Raises:
            ArgumentError: if the fraction is outside (0, 1].

        Reference: Rockafellar and Uryasev 2000, for rewards (lower tail) instead of losses.
        """
        fraction = check_fraction(fraction, "the fraction of cvar", zero=False, one=True)
        return self.mean() if fraction == 1.0 else self._cvar(fraction)

    def entropic(self, aversion: float) -> Float[Tensor, " B"]:
        """Certainty equivalent -(1/l) log E[exp(-l R)]; its limit at l = 0 is the mean.

        Computed around the mean by log-sum-exp, so that neither large nor tiny |l| loses digits.

        Args:
            aversion: l, finite, in 1/units of reward; l > 0 avoids risk, l < 0 seeks it.

        Returns:
            shape [B]; at most the mean for l > 0.

        Raises:
            ArgumentError: if l is not finite.
        """
        aversion = as_number(aversion, "the risk aversion of entropic")
        return self.mean() if aversion == 0.0 else self._certainty_equivalent(aversion).to(self.dtype)

    def exponential(self, aversion: float) -> Float[Tensor, " B"]:
        """Expected exponential utility E[-exp(-l R)], the utility of QRM (arXiv 2409.10164).

        Args:
            aversion: l > 0, in 1/units of reward.

        Returns:
            shape [B], negative; it orders distributions like `entropic(l)`, and is -inf where it
            overflows.

        Raises:
            ArgumentError: if l is not finite and positive.
        """
        aversion = as_number(aversion, "the risk aversion of exponential")
        if aversion <= 0.0:
            raise ArgumentError(
                f"the risk aversion of exponential must be positive, received {aversion}: "
                "at or below 0 the utility would not increase with the reward"
            )
        return -torch.exp(-aversion * self._certainty_equivalent(aversion)).to(self.dtype)

    def quantile(self, level: TensorLike) -> Float[Tensor, " B"] | Float[Tensor, "B T"]:
        """Lower quantile Q(t) = inf {x : F(x) >= t}; t = 0 gives the lowest, 1 the highest possible reward.

        Args:
            level: t in [0, 1], a number or [] -> [B]; a 1-D tensor [T] -> [B, T].

        Raises:
            ArgumentError: if a level is outside [0, 1] or the shape does not fit.
        """
        if isinstance(level, float):
            check_fraction(level, "the level of a quantile", zero=True, one=True)
            wide = torch.full((len(self), 1), level, dtype=self._level_dtype, device=self.device)
            return self._quantile(wide).squeeze(-1)
        levels = as_float(level, "the level of a quantile", like=self._first)
        check_shape(levels, "the level of a quantile", (), ("T",))
        if self._validate:
            require((levels >= 0) & (levels <= 1), "quantile levels must lie in [0, 1]")
        result = self._quantile(levels.reshape(1, -1).expand(len(self), -1))
        return result.squeeze(-1) if levels.ndim == 0 else result

    def cdf(self, x: TensorLike) -> Float[Tensor, " B"] | Float[Tensor, "B X"]:
        """F(x) = P(R <= x), continuous from the right.

        Args:
            x: [] or [B] -> [B]; [B, X] -> [B, X]. Infinities are allowed.

        Raises:
            ArgumentError: if the shape does not fit or a value is NaN.
        """
        return self._shaped(x, lambda points: self._cdf(points))

    def cdf_left(self, x: TensorLike) -> Float[Tensor, " B"] | Float[Tensor, "B X"]:
        """P(R < x), the limit of `cdf` from the left; `cdf(x) - cdf_left(x)` is the mass of the atom at x.

        Args:
            x: shapes as in `cdf`.

        Raises:
            ArgumentError: as in `cdf`.
        """
        return self._shaped(x, lambda points: self._cdf(points, left=True))

    # --- comparisons ----------------------------------------------------------------------------------------

    def wasserstein(self, other: RewardDistribution) -> Float[Tensor, " B"]:
        """Wasserstein-1 distance, the integral of |F1 - F2|, shape [B].

        Exact between representations with piecewise linear quantile functions; with a `GaussianEnsemble` on
        either side the sign changes of F1 - F2 are found numerically (error below 1e-6 of the spread) and the
        integral between them is in closed form.

        Args:
            other: any representation with the same batch shape.

        Raises:
            ArgumentError: if the batch shapes differ.
        """
        first, second = self._paired(other)
        return cdf_distance(first, second).to(first.dtype)

    def crps(self, target: TensorLike) -> Float[Tensor, " B"]:
        """Continuous ranked probability score, the integral of (F(x) - 1{x >= y})^2, averaged over raters.

        Computed as E|R - y| - E|R - R'| / 2. Lower is better; its expectation is minimal for the true
        distribution.

        Args:
            target: ratings y, [B], or [B, R] padded with NaN.

        Returns:
            shape [B].

        Raises:
            ArgumentError: if the shape does not fit, a rating is infinite or a row has none.

        Reference: Gneiting and Raftery 2007, equations 20 and 21 (negatively oriented).
        """
        ratings = as_float(target, "the target of crps", like=self._first)
        check_shape(ratings, "the target of crps", (len(self),), (len(self), "R"))
        ratings = ratings.unsqueeze(-1) if ratings.ndim == 1 else ratings
        present = ~ratings.isnan()
        if self._validate:
            require(present.any(-1), "crps: every row needs at least one rating, a row holds only NaN")
            require(~ratings.isinf(), "crps: ratings must be finite; NaN marks a missing one")
        mean = self.mean().unsqueeze(-1)
        y = torch.where(present, ratings, mean.detach())
        score = mean - y + 2 * self._integrated_cdf(y) - self._half_gini().unsqueeze(-1)
        return torch.where(present, score, 0.0).sum(-1) / present.sum(-1)

    def parameters(self) -> Parameters:
        """The arguments that rebuild this distribution, by name."""
        own = [name for name in self._batched if name not in self._derived]
        return Parameters(
            {name: getattr(self, name) for name in own}, {name: getattr(self, name) for name in self._shared}
        )

    # --- shared machinery -----------------------------------------------------------------------------------

    @property
    def _level_dtype(self) -> torch.dtype:
        """The dtype of levels that come as Python numbers."""
        return self.dtype

    def _paired(self, other: RewardDistribution) -> tuple[Self, RewardDistribution]:
        """Both distributions in the wider of their dtypes, or an error if they do not match."""
        if not isinstance(other, RewardDistribution):
            raise ArgumentError(f"expected a RewardDistribution, received {type(other).__name__}")
        if other.batch_shape != self.batch_shape:
            raise ArgumentError(
                f"the two batches must have one shape, received {list(self.batch_shape)} "
                f"and {list(other.batch_shape)}"
            )
        wide = torch.promote_types(self.dtype, other.dtype)
        return self.to(dtype=wide), other.mixture().to(dtype=wide)

    def _shaped(self, x: TensorLike, function: Callable[[Tensor], Tensor]) -> Tensor:
        points = as_float(x, "x", like=self._first)
        rows = len(self)
        check_shape(points, "x", (), (rows,), (rows, "X"))
        if self._validate:
            require(~points.isnan(), "x must not be NaN")
        if points.ndim == 2:
            return function(points)
        return function(points.expand(rows).unsqueeze(-1)).squeeze(-1)

    def _affine(self, scale: TensorLike, shift: TensorLike) -> tuple[Tensor, Tensor]:
        """Scale and shift as checked tensors of shape [] or [B]."""
        scales, shifts = (as_float(v, n, like=self._first) for v, n in ((scale, "scale"), (shift, "shift")))
        check_shape(scales, "scale", (), (len(self),))
        check_shape(shifts, "shift", (), (len(self),))
        if self._validate:
            require((scales > 0) & scales.isfinite(), "scale must be positive and finite")
            require(shifts.isfinite(), "shift must be finite")
        return scales, shifts
