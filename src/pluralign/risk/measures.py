"""The risk measures: each turns a `RewardDistribution` into a utility, the number that a policy sees.

There is one frozen class per measure, which is called on a distribution and returns [B]. `str` of a measure
is its specification, which `parse` accepts. Parameters are in units of the rewards that they act on.

    mean             E[R]                              monotone  equivariant
    median           Q(1/2)                            monotone  equivariant
    quantile:t       Q(t)                              monotone  equivariant
    cvar:a           mean of the worst fraction a      monotone  equivariant  concave
    entropic:l       -(1/l) log E[exp(-l R)]           monotone  equivariant  concave for l >= 0
    exponential:l    E[-exp(-l R)]                     monotone
    mean_std:k       E[R] - k std                                equivariant
    nominal          mean of the most confident head; warns      equivariant
    worst_case       smallest mean of the heads        in each head's mean    equivariant
    best_case        largest mean of the heads         in each head's mean    equivariant
    uwo:k            E[R] - k variance between heads             equivariant
    robust:w         w nominal + (1 - w) worst_case              equivariant

`nested` applies one measure to each member and another one over the members: `worst_case(cvar:0.1)`.

Monotone: a reward that is surely higher never has a lower utility. Equivariant: R + c adds c to the utility.

A new measure is one class here and one line in the table of `parsing`.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from pluralign.checks import as_finite
from pluralign.distributions import Heads, RewardDistribution
from pluralign.errors import RiskError, RiskWarning

__all__ = [
    "UWO",
    "BestCase",
    "CVaR",
    "Entropic",
    "Exponential",
    "Mean",
    "MeanStd",
    "Median",
    "Nominal",
    "Quantile",
    "RiskMeasure",
    "Robust",
    "WorstCase",
]


@dataclass(frozen=True)
class RiskMeasure(ABC):
    """A function from distributions of reward to utilities, with at most one parameter."""

    name: ClassVar[str]
    """Its name in specifications."""
    allowed: ClassVar[str] = "a finite number"
    """Description of the allowed parameter values."""
    compares_heads: ClassVar[bool] = False
    """Whether it compares the heads of a distribution, or the members of an ensemble."""
    moves_along: ClassVar[bool] = False
    """What `equivariant` answers."""

    @property
    def equivariant(self) -> bool:
        """Whether the utility of R + c is that of R plus c, for every distribution and every number c."""
        return self.moves_along

    def __call__(self, distribution: RewardDistribution) -> Float[Tensor, " B"]:
        """The utility of each distribution, shape [B], in the dtype and on the device of the distribution.

        Raises:
            RiskError: if this is not a distribution, or the measure needs heads and the distribution has
                none.
        """
        if not isinstance(distribution, RewardDistribution):
            raise RiskError(f"{self} acts on a RewardDistribution, received {type(distribution).__name__}")
        return self._utility(distribution)

    @abstractmethod
    def _utility(self, distribution: RewardDistribution) -> Tensor: ...

    def __str__(self) -> str:
        """The specification that `parse` accepts, such as `cvar:0.1`."""
        parameters = (float(getattr(self, field.name)) for field in dataclasses.fields(self))
        return ":".join([self.name, *(repr(value).removesuffix(".0") for value in parameters)])

    def __post_init__(self) -> None:
        """Converts parameters to finite floats and checks that the measure allows them."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            number = as_finite(value)
            if math.isnan(number) or not self._allows(number):
                raise RiskError(f"the parameter of {self.name} must be {self.allowed}, received {value!r}")
            object.__setattr__(self, field.name, number)

    def _allows(self, value: float) -> bool:
        return True

    def _heads(self, distribution: RewardDistribution) -> Heads:
        heads = distribution.heads()
        if heads is None:
            raise RiskError(
                f"the risk measure {self.name} compares heads, and {type(distribution).__name__} has none; "
                "use mean, cvar:a, entropic:l or mean_std:k, or a model with several heads: an ensemble of "
                "any family (ensemble=H when it is fitted), or Gaussian heads"
            )
        return heads


@final
@dataclass(frozen=True)
class Mean(RiskMeasure):
    """E[R]."""

    name: ClassVar[str] = "mean"
    moves_along: ClassVar[bool] = True

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        return distribution.mean()


@final
@dataclass(frozen=True)
class Median(RiskMeasure):
    """The lower median Q(1/2)."""

    name: ClassVar[str] = "median"
    moves_along: ClassVar[bool] = True

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        return distribution.quantile(0.5)


@final
@dataclass(frozen=True)
class Quantile(RiskMeasure):
    """The lower quantile Q(t), 0 < t < 1."""

    name: ClassVar[str] = "quantile"
    moves_along: ClassVar[bool] = True
    allowed: ClassVar[str] = "a level in (0, 1)"
    level: float

    def _allows(self, value: float) -> bool:
        return 0 < value < 1

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        return distribution.quantile(self.level)


@final
@dataclass(frozen=True)
class CVaR(RiskMeasure):
    """Mean of the worst fraction a of outcomes, 0 < a <= 1; 1 is the mean (Rockafellar and Uryasev 2000)."""

    name: ClassVar[str] = "cvar"
    moves_along: ClassVar[bool] = True
    allowed: ClassVar[str] = "a fraction in (0, 1]"
    fraction: float

    def _allows(self, value: float) -> bool:
        return 0 < value <= 1

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        return distribution.cvar(self.fraction)


@final
@dataclass(frozen=True)
class Entropic(RiskMeasure):
    """Certainty equivalent -(1/l) log E[exp(-l R)]; l > 0 avoids risk, l < 0 seeks it, 0 is the mean.

    Under a KL-regularised objective with coefficient b, l = 1/b is the choice that the KL weight itself
    implies.
    """

    name: ClassVar[str] = "entropic"
    moves_along: ClassVar[bool] = True
    aversion: float

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        return distribution.entropic(self.aversion)


@final
@dataclass(frozen=True)
class Exponential(RiskMeasure):
    """QRM's utility E[-exp(-l R)], l > 0 (Dorka 2024, arXiv 2409.10164)."""

    name: ClassVar[str] = "exponential"
    allowed: ClassVar[str] = "a positive number"
    aversion: float

    def _allows(self, value: float) -> bool:
        return value > 0

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        return distribution.exponential(self.aversion)


@final
@dataclass(frozen=True)
class MeanStd(RiskMeasure):
    """E[R] - k std. Not monotone: 10 with probability .1 and 0 otherwise has 1 - 3 k, a certain 0 has 0."""

    name: ClassVar[str] = "mean_std"
    moves_along: ClassVar[bool] = True
    factor: float

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        return distribution.mean() - self.factor * distribution.std()


@final
@dataclass(frozen=True)
class Nominal(RiskMeasure):
    """Mean of the head with the smallest standard deviation, the first of equals (Yan et al. 2024).

    It warns: a head is often the most confident for no good reason, and selecting by this measure was not
    better than selecting by a single head (`docs/explanations/gaussian_ensemble.md`: best of 32 in the lab).
    With one head it is the mean, and does not warn.
    """

    name: ClassVar[str] = "nominal"
    moves_along: ClassVar[bool] = True
    compares_heads: ClassVar[bool] = True

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        heads = self._heads(distribution)
        if heads.means.shape[-1] > 1:
            warnings.warn(
                "the risk measure nominal takes the mean of the head with the smallest std, and selecting by "
                "it was not better than selecting by a single head (best of 32 in our lab: 2.20 and 2.22; "
                "worst_case 3.15). Use worst_case, or mean",
                RiskWarning,
                stacklevel=3,
            )
        return _most_confident_mean(heads)


@final
@dataclass(frozen=True)
class WorstCase(RiskMeasure):
    """Smallest mean of the heads, whatever their weights (Yan et al. 2024; Coste et al. 2023)."""

    name: ClassVar[str] = "worst_case"
    moves_along: ClassVar[bool] = True
    compares_heads: ClassVar[bool] = True

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        return self._heads(distribution).means.amin(-1)


@final
@dataclass(frozen=True)
class BestCase(RiskMeasure):
    """Largest mean of the heads, whatever their weights."""

    name: ClassVar[str] = "best_case"
    moves_along: ClassVar[bool] = True
    compares_heads: ClassVar[bool] = True

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        return self._heads(distribution).means.amax(-1)


@final
@dataclass(frozen=True)
class UWO(RiskMeasure):
    """Mean minus k times the (population) variance of the heads' means (Coste et al. 2023, equation 3).

    Heads are weighted by their weights, which are equal by default.
    """

    name: ClassVar[str] = "uwo"
    moves_along: ClassVar[bool] = True
    compares_heads: ClassVar[bool] = True
    factor: float

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        heads = self._heads(distribution)
        mean = distribution.mean()
        variance = (heads.weights * (heads.means - mean.unsqueeze(-1)) ** 2).sum(-1)
        return mean - self.factor * variance


@final
@dataclass(frozen=True)
class Robust(RiskMeasure):
    """w * nominal + (1 - w) * worst_case, 0 <= w <= 1: BRME's objective J_w at the level of rewards.

    Reference: Yan et al. 2024 (arXiv 2409.15360); .4 and .6 were their best weights.
    """

    name: ClassVar[str] = "robust"
    moves_along: ClassVar[bool] = True
    compares_heads: ClassVar[bool] = True
    allowed: ClassVar[str] = "a weight in [0, 1]"
    weight: float

    def _allows(self, value: float) -> bool:
        return 0 <= value <= 1

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        heads = self._heads(distribution)
        return self.weight * _most_confident_mean(heads) + (1 - self.weight) * heads.means.amin(-1)


def _most_confident_mean(heads: Heads) -> Tensor:
    """Mean of the head with the smallest standard deviation, the first of equals, [B]."""
    surest = heads.stds.argmin(-1, keepdim=True)
    return heads.means.gather(-1, surest).squeeze(-1)
