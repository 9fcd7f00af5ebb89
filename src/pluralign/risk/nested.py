"""`Nested`: one measure over people, another over what the model does not know.

    worst_case(cvar:0.1)    the smallest, over the members, of the mean of the worst tenth of people
    uwo:1(mean)             the mean over members of their means, minus the variance between them
    cvar:0.5(mean)          the mean of the worse half of the members' means

In: a distribution with members (an ensemble of any family, or Gaussian heads). The inner measure gives one
utility per member; the outer one acts on these as if they were the members' means. So one that compares heads
sees the inner utilities with each member's own standard deviation, and any other sees their distribution over
members.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from pluralign.distributions import Categorical, GaussianEnsemble, RewardDistribution
from pluralign.errors import RiskError
from pluralign.risk.measures import RiskMeasure

__all__ = ["Nested"]


@final
@dataclass(frozen=True)
class Nested(RiskMeasure):
    """`outer` over the members of `inner` of each member's distribution.

    Args:
        outer: any measure.
        inner: a measure of one distribution, which compares no members itself.

    Raises:
        RiskError: the inner measure compares members, or one of them is nested; when called, on a
            distribution without members.

    Reference: ours. With `inner` the mean, the outer measures are those of Coste et al. 2023 and Yan et al.
        2024.

    >>> from pluralign.distributions import Ensemble, Point
    >>> from pluralign.risk import Mean, WorstCase
    >>> Nested(WorstCase(), Mean())(Ensemble([Point([1.0]), Point([3.0])]))
    tensor([1.])
    """

    name: ClassVar[str] = "nested"
    allowed: ClassVar[str] = "a risk measure"
    compares_heads: ClassVar[bool] = True
    outer: RiskMeasure
    inner: RiskMeasure

    def __post_init__(self) -> None:
        """Checks that the two can be nested."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, RiskMeasure) or isinstance(value, Nested):
                raise RiskError(
                    f"{field.name}: received {value}; needed: a risk measure that is not nested itself, "
                    "such as mean, cvar:0.1, worst_case"
                )
        if self.inner.compares_heads:
            raise RiskError(
                f"{self}: the inner measure is taken of each member alone, and {self.inner} compares "
                "members; put it "
                f"outside, as in {self.inner}(mean)"
            )

    @property
    def equivariant(self) -> bool:
        """Whether both are."""
        return self.outer.equivariant and self.inner.equivariant

    def __str__(self) -> str:
        """The specification that `parse` accepts, such as `worst_case(cvar:0.1)`."""
        return f"{self.outer}({self.inner})"

    def _utility(self, distribution: RewardDistribution) -> Tensor:
        members = distribution.members()
        heads = distribution.heads()
        if members is None or heads is None:
            raise RiskError(
                f"the risk measure {self} compares members, and {type(distribution).__name__} has none; "
                "fit an ensemble "
                f"(ensemble=H), or use {self.inner} alone"
            )
        values = torch.stack([self.inner(member) for member in members], -1)
        if self.outer.compares_heads:
            return self.outer(GaussianEnsemble(values, heads.stds, heads.weights, validate=False))
        return self.outer(Categorical(heads.weights, values, validate=False))
