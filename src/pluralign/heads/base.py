"""The base class of all heads: attributes with their scales, a reference unit, and three kinds of
predictions.

In: embeddings of responses [N, D] and of prompts [N, P]. Out: reward distributions. A folder stores only
`state_dict()` and `spec()`.

Units: a head's raw reward (for ratings: the mix of attributes, each mapped to [0, 1]) is centred on the
mean of the reference responses and divided by the reference standard deviation, so that the parameter of
a risk measure means the same for every family. Attributes are predicted on their original scales.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pluralign.distributions import RewardDistribution, rounded_to_grid
from pluralign.errors import ArgumentError
from pluralign.heads import schema
from pluralign.heads.categories import Categories
from pluralign.heads.debias import LengthUnit
from pluralign.heads.linearity import Linearity
from pluralign.heads.steering import Steering
from pluralign.precision import widened

__all__ = ["RAW_UNITS", "Attribute", "Head", "HeadInputs", "Reference"]


@dataclass(frozen=True)
class Attribute:
    """One thing that people rate.

    Attributes:
        name: as in the data.
        low: the lowest rating of its original scale.
        high: the highest rating of its original scale.
        step: the distance between neighbouring ratings if they lie on a grid, otherwise None.
    """

    name: str
    low: float
    high: float
    step: float | None = None

    @property
    def span(self) -> float:
        """Width of the original scale."""
        return self.high - self.low


@dataclass(frozen=True)
class Reference:
    """The unit of reward: mean and standard deviation of the raw reward over the reference responses.

    The standard deviation is that of the marginal distribution, sqrt(mean of variances + variance of means),
    so families with and without spread are both scaled by how much a reference response's reward varies.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std > 0 or self.std == float("inf") or not abs(self.mean) < float("inf"):
            raise ArgumentError(
                f"a reference needs a finite mean and a positive, finite std; received mean {self.mean}, "
                f"std {self.std}"
            )

    @classmethod
    def of(cls, raw: RewardDistribution) -> Reference:
        """Measures the reference on the raw reward of reference responses; std 1 if it does not vary.

        A constant head can have a spread of a few units in the last place, which counts as none.
        """
        given = raw.mean()
        mean = widened(given)
        rounding = 4 * torch.finfo(given.dtype).eps * float(mean.abs().max())
        variance = widened(raw.std()).square().mean() + mean.var(unbiased=False)
        std = float(variance.sqrt())
        return cls(float(mean.mean()), std if std > max(1e-12, rounding) else 1.0)

    def standardise(self, raw: RewardDistribution) -> RewardDistribution:
        """Puts a raw reward on the reference scale: 0 is the mean reference response, 1 its std."""
        return raw.scale_shift(1 / self.std, -self.mean / self.std)


RAW_UNITS = Reference()  # for a head that has not seen reference responses yet


class HeadInputs(NamedTuple):
    """The inputs of a head for N conversations: `head.distribution(*inputs)`.

    Attributes:
        response: [N, D], the responses' vectors.
        prompt: [N, P], the prompts' vectors.
        length: [N], the responses' lengths in the head's `length_unit`; None if it has none.
    """

    response: Float[Tensor, "N D"]
    prompt: Float[Tensor, "N P"]
    length: Float[Tensor, " N"] | None = None


class Head(nn.Module, abc.ABC):
    """From embeddings to reward distributions. Subclasses are final, one per family.

    Everything that callers need to know about a family is a method or property here, with a default that fits
    most families; subclasses override it. No caller checks the class of a head.

    Args:
        attributes: the predicted attributes, in the order of the parameters.
        reference: the unit of reward.
    """

    family: str
    """The name in `pluralign.families.FAMILIES`: of the class, or of the members of an ensemble."""
    own_ensemble: ClassVar[bool] = False
    """Whether its recipe fits several heads itself, so that no ensemble is made of it."""
    reads_categories: ClassVar[bool] = False
    """Whether its recipe treats numbers from 0 to 5 of the attribute `category` as the six categories."""

    num_heads: int = 1
    """Number of parallel heads that each predict the whole reward; if there are several, evaluation checks
    whether their disagreement predicts errors."""

    def __init__(self, attributes: tuple[Attribute, ...], reference: Reference) -> None:
        super().__init__()
        self.attributes = attributes
        self.reference = reference

    @abc.abstractmethod
    def raw(
        self,
        response: Float[Tensor, "N D"],
        prompt: Float[Tensor, "N P"],
        length: Float[Tensor, " N"] | None = None,
        *,
        steering: Steering | None = None,
    ) -> RewardDistribution:
        """The reward distribution before it is put on the reference scale; arguments as `distribution`."""

    @abc.abstractmethod
    def attribute_distributions(self, response: Float[Tensor, "N D"]) -> dict[str, RewardDistribution]:
        """One distribution per attribute, each on its original scale."""

    @abc.abstractmethod
    def gate_weights(self, prompt: Float[Tensor, "N P"]) -> Float[Tensor, "N A"]:
        """The weight of each attribute in the mix; rows sum to 1."""

    @abc.abstractmethod
    def spec(self) -> dict[str, Any]:
        """The description that, with the state dict, rebuilds this head; serialisable as JSON."""

    @classmethod
    @abc.abstractmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """An empty head of the stored shape, to load a state dict into."""

    @classmethod
    @abc.abstractmethod
    def check_spec(cls, spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless `spec()` could have returned `spec`; allocates nothing.

        Args:
            spec: the parsed JSON.
            where: its position, for messages.
        """

    @classmethod
    @abc.abstractmethod
    def tensor_shapes(cls, spec: dict[str, Any]) -> schema.TensorShapes:
        """Dtype and shape of every tensor in the state dict of a head with this checked `spec`."""

    def check_state(self) -> None:
        """Raises `ArgumentError` if a loaded state dict holds numbers that no fit produces."""

    @classmethod
    def has_heads(cls, spec: dict[str, Any]) -> bool:
        """Whether risk measures that compare heads apply to the predictions of a head with this `spec`."""
        return False

    @property
    def has_gate(self) -> bool:
        """Whether `gate_weights` were learned and depend on the prompt."""
        return False

    def categories_of(self, attribute: str) -> Categories | None:
        """The categories that an attribute's ratings fall into, in the order of its distributions' atoms.

        Args:
            attribute: its name.

        Returns:
            None if the distributions are over the whole scale.
        """
        return None

    def rounded(self, distributions: Mapping[str, RewardDistribution]) -> dict[str, RewardDistribution]:
        """Distributions of the attributes over the ratings that people can give: what people are shown.

        Args:
            distributions: by name, from `attribute_distributions`.

        Returns:
            A `Categorical` over the grid where an attribute's ratings are on one; else, and for categories
            that are bins of the scale, the same distribution.
        """
        found = dict(distributions)
        for a in self.attributes:
            if a.name in found and (step := self.grid_step(a)) is not None:
                found[a.name] = rounded_to_grid(found[a.name], a.low, a.high, step)
        return found

    def grid_step(self, attribute: Attribute) -> float | None:
        """Distance of the ratings to which predictions of an attribute are rounded for people, or None."""
        held = self.categories_of(attribute.name)
        return attribute.step if held is None or held.edges is None else None

    @property
    def length_unit(self) -> LengthUnit | None:
        """The unit of `length`; None if this head does not use it."""
        return None

    def distribution(
        self,
        response: Float[Tensor, "N D"],
        prompt: Float[Tensor, "N P"],
        length: Float[Tensor, " N"] | None = None,
        *,
        steering: Steering | None = None,
    ) -> RewardDistribution:
        """The reward distribution in units of the reference standard deviation.

        Args:
            response: the responses' vectors.
            prompt: the prompts' vectors.
            length: the responses' lengths in `length_unit`, for a head that is debiased for length.
            steering: replaces the gate, from `Steering.of`; None for the gate.

        Raises:
            ArgumentError: not the width that this head was fitted on, or a length is missing.
        """
        return self.reference.standardise(self.raw(response, prompt, length, steering=steering))

    def linearity(self, steering: Steering | None = None) -> Linearity:
        """What is known about how utilities depend on the response's vector, for every text.

        Args:
            steering: replaces the gate, as in `distribution`.

        Returns:
            By default nothing is known: whether a utility is linear can only be measured.
        """
        return Linearity()

    def with_parts(self, **parts: Any) -> Self:
        """The same head with other parts, such as `reference`, `gate` or `debias`; tensors are shared."""
        new = copy.copy(self)
        for kind in ("_modules", "_buffers", "_parameters"):
            setattr(new, kind, dict(getattr(self, kind)))
        for name, part in parts.items():
            setattr(new, name, part)
        return new

    def in_units_of(
        self,
        response: Float[Tensor, "N D"],
        prompt: Float[Tensor, "N P"],
        length: Float[Tensor, " N"] | None = None,
    ) -> Self:
        """The same head with its unit measured on reference responses; arguments as `distribution`."""
        return self.with_parts(reference=Reference.of(self.raw(response, prompt, length)))

    def preference_probability(
        self, chosen: RewardDistribution, rejected: RewardDistribution
    ) -> Float[Tensor, " N"]:
        """P(the first is preferred), for rewards on the reference scale; independent rewards by default."""
        return chosen.prob_greater(rejected)

    @property
    def predicts_ties(self) -> bool:
        """Whether it has seen ties of comparisons, so that `vote_probabilities` is not None."""
        return False

    def vote_probabilities(
        self, first: RewardDistribution, second: RewardDistribution
    ) -> Float[Tensor, "N 3"] | None:
        """P(first is better), P(tie), P(second is better), for rewards on the reference scale.

        Returns:
            None for a head that has not seen ties of comparisons: how often people call two responses equal
            does not follow from their rewards.
        """
        return None

    def _base_spec(self, width: int) -> dict[str, Any]:
        return {
            "width": width,
            "attributes": [asdict(a) for a in self.attributes],
            "reference": asdict(self.reference),
        }

    @staticmethod
    def _base_schema(least_attributes: int) -> dict[str, schema.Check]:
        return {
            "width": schema.whole(1),
            "attributes": _attributes(least_attributes),
            "reference": schema.record({"mean": schema.number(), "std": schema.number(above=0)}),
        }

    @staticmethod
    def _read_base(spec: dict[str, Any]) -> dict[str, Any]:
        return {
            "attributes": tuple(Attribute(**a) for a in spec["attributes"]),
            "reference": Reference(**spec["reference"]),
        }


_ATTRIBUTE = schema.record(
    {
        "name": schema.text,
        "low": schema.number(),
        "high": schema.number(),
        "step": schema.optional(schema.number(above=0)),
    }
)


def _attributes(least: int) -> schema.Check:
    def check(value: Any, where: str) -> None:
        schema.listed(_ATTRIBUTE, least)(value, where)
        names = [one["name"] for one in value]
        if len(set(names)) < len(names):
            raise schema.refuse(where, names, "attributes of different names")
        for place, one in enumerate(value):
            if not one["low"] < one["high"]:
                raise schema.refuse(f"{where}[{place}]", one, "low below high")

    return check
