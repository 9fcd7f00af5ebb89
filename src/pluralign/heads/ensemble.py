"""`EnsembleHead`: several heads of one family on one backbone, each fitted on its own resample of the groups.

In: embeddings. Out: an `Ensemble` of the members' distributions. What people disagree about is inside each
member; what the model does not know is between them.

The members' mean rewards are brought to a common mean and spread on the reference responses, as the heads of
a Gaussian ensemble are: a minimum over members is meaningful only if members that agree predict the same
number. Attributes stay on their rating scales.

Notation: H members, scale_h and shift_h of the standardisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pluralign.distributions import Ensemble, RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.families import HEADS
from pluralign.heads import schema
from pluralign.heads.base import Head, Reference
from pluralign.heads.categories import Categories
from pluralign.heads.debias import LengthUnit
from pluralign.heads.linearity import Linearity
from pluralign.heads.steering import Steering

__all__ = ["EnsembleHead", "HeadReader", "reader_of"]

_KEY = "ensemble"  # in a spec, where the members' specs are


@final
class EnsembleHead(Head):
    """H heads of one family with the same attributes.

    Args:
        members: at least two.
        scale: [H], positive; the standardisation of each member's raw reward.
        shift: [H].
        reference: the unit of reward.

    Attributes:
        family: that of the members.
        num_heads: H.

    Raises:
        ArgumentError: members of several families, with other attributes or widths, or parts that do not fit.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        members: Sequence[Head],
        scale: Float[Tensor, " H"],
        shift: Float[Tensor, " H"],
        reference: Reference,
    ) -> None:
        kinds = {(one.family, tuple(a.name for a in one.attributes), one.spec()["width"]) for one in members}
        if len(members) < 2 or len(kinds) > 1:
            raise ArgumentError(
                f"an ensemble needs at least 2 members of one family, width and list of attributes; received "
                f"{len(members)} of {sorted(map(str, kinds))}"
            )
        if scale.shape != (len(members),) or shift.shape != (len(members),) or not bool((scale > 0).all()):
            raise ArgumentError(f"scale and shift must be [{len(members)}] each, and scale positive")
        super().__init__(members[0].attributes, reference)
        self.family = members[0].family
        self.num_heads = len(members)
        # A member's own unit matters to its preference probability alone.
        self.members = nn.ModuleList(one.with_parts(reference=reference) for one in members)
        self.register_buffer("scale", scale.float())
        self.register_buffer("shift", shift.float())

    def raw(
        self,
        response: Float[Tensor, "N D"],
        prompt: Float[Tensor, "N P"],
        length: Float[Tensor, " N"] | None = None,
        *,
        steering: Steering | None = None,
    ) -> RewardDistribution:
        """The members' rewards, standardised; arguments as `distribution`."""
        parts = [
            one.raw(response, prompt, length, steering=steering).scale_shift(scale, shift)
            for one, scale, shift in zip(self._heads, self.scale, self.shift, strict=True)
        ]
        return Ensemble(parts, validate=False)

    def attribute_distributions(self, response: Float[Tensor, "N D"]) -> dict[str, RewardDistribution]:
        """One ensemble per attribute, on its original scale."""
        each = [one.attribute_distributions(response) for one in self._heads]
        return {name: Ensemble([one[name] for one in each], validate=False) for name in each[0]}

    def gate_weights(self, prompt: Float[Tensor, "N P"]) -> Float[Tensor, "N A"]:
        """The mean of the members' weights."""
        return torch.stack([one.gate_weights(prompt) for one in self._heads]).mean(0)

    def preference_probability(
        self, chosen: RewardDistribution, rejected: RewardDistribution
    ) -> Float[Tensor, " N"]:
        """The mean of the members' probabilities: the same member rates both responses."""
        pairs = self._by_member(chosen, rejected)
        if pairs is None:
            return chosen.prob_greater(rejected)
        return torch.stack([one.preference_probability(*pair) for one, *pair in pairs]).mean(0)

    @property
    def predicts_ties(self) -> bool:
        """Whether the members do."""
        return all(one.predicts_ties for one in self._heads)

    def vote_probabilities(
        self, first: RewardDistribution, second: RewardDistribution
    ) -> Float[Tensor, "N 3"] | None:
        """The mean of the members' probabilities; None if they have not seen ties.

        Raises:
            ArgumentError: the distributions are not its own.
        """
        if not self.predicts_ties:
            return None
        pairs = self._by_member(first, second)
        if pairs is None:
            raise ArgumentError(
                f"vote_probabilities needs two batches of distributions of these {self.num_heads} heads"
            )
        found = [one.vote_probabilities(*pair) for one, *pair in pairs]
        return torch.stack([part for part in found if part is not None]).mean(0)

    def _by_member(
        self, first: RewardDistribution, second: RewardDistribution
    ) -> list[tuple[Head, RewardDistribution, RewardDistribution]] | None:
        """Each member with its two distributions; None where they are not of these members."""
        one, other = first.members(), second.members()
        if one is None or other is None or not len(one) == len(other) == self.num_heads:
            return None
        return list(zip(self._heads, one, other, strict=True))

    def linearity(self, steering: Steering | None = None) -> Linearity:
        """The mean over members is linear where each member's mean is."""
        known = [one.linearity(steering) for one in self._heads]
        obstacle = next((one.obstacle for one in known if one.obstacle is not None), None)
        return Linearity(mean=all(one.mean for one in known), obstacle=obstacle)

    @property
    def has_gate(self) -> bool:
        """Whether the members have gates."""
        return self._heads[0].has_gate

    def categories_of(self, attribute: str) -> Categories | None:
        """Those of the members, which are equal."""
        return self._heads[0].categories_of(attribute)

    @property
    def length_unit(self) -> LengthUnit | None:
        """The unit of `length`, in which the members are debiased."""
        return self._heads[0].length_unit

    @property
    def _heads(self) -> list[Head]:
        return [one for one in self.members if isinstance(one, Head)]

    # -- stored --------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """The members' descriptions, and the unit."""
        members = [one.spec() for one in self._heads]
        return self._base_spec(members[0]["width"]) | {_KEY: members}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """Not possible without the family: `reader_of(family, spec).from_spec(spec)`."""
        raise ArgumentError("a stored ensemble is read by reader_of(family, spec)")

    @classmethod
    def check_spec(cls, spec: Any, where: str) -> None:
        """Not possible without the family: `reader_of(family, spec).check_spec(spec, where)`."""
        raise ArgumentError("a stored ensemble is checked by reader_of(family, spec)")

    @classmethod
    def tensor_shapes(cls, spec: dict[str, Any]) -> schema.TensorShapes:
        """Not possible without the family: `reader_of(family, spec).tensor_shapes(spec)`."""
        raise ArgumentError("a stored ensemble is read by reader_of(family, spec)")

    @classmethod
    def has_heads(cls, spec: dict[str, Any]) -> bool:
        """Always."""
        return True

    def check_state(self) -> None:
        """Scales are positive, and each member is legal."""
        if not bool((self.scale > 0).all()):
            raise ArgumentError("scale has entries that are not positive")
        for one in self._heads:
            one.check_state()


class HeadReader:
    """Reads stored heads of a family: one head, or an ensemble of several.

    Args:
        family: its name in `pluralign.families.FAMILIES`.
        is_ensemble: whether the description is that of an ensemble.
    """

    def __init__(self, family: str, is_ensemble: bool) -> None:
        self._head: type[Head] = HEADS[family]
        self._is_ensemble = is_ensemble

    def check_spec(self, spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless the head's `spec()` could have returned `spec`; allocates nothing."""
        if not self._is_ensemble:
            self._head.check_spec(spec, where)
            return
        check = schema.listed(self._head.check_spec, 2)
        schema.record(Head._base_schema(0) | {_KEY: check})(spec, where)
        shared = [spec["width"], spec["reference"], [a["name"] for a in spec["attributes"]]]
        for place, one in enumerate(spec[_KEY]):
            found = [one["width"], one["reference"], [a["name"] for a in one["attributes"]]]
            if found != shared:
                raise schema.refuse(
                    f"{where}.{_KEY}[{place}]", found, "width, reference and attributes of the ensemble"
                )

    def tensor_shapes(self, spec: dict[str, Any]) -> schema.TensorShapes:
        """Dtype and shape of every tensor of a head with this checked `spec`."""
        if not self._is_ensemble:
            return self._head.tensor_shapes(spec)
        members = spec[_KEY]
        found: schema.TensorShapes = dict.fromkeys(("scale", "shift"), (torch.float32, (len(members),)))
        for place, one in enumerate(members):
            shapes = self._head.tensor_shapes(one)
            found |= {f"members.{place}.{name}": shape for name, shape in shapes.items()}
        return found

    def from_spec(self, spec: dict[str, Any]) -> Head:
        """An empty head of the stored shape, to load a state dict into."""
        if not self._is_ensemble:
            return self._head.from_spec(spec)
        members = [self._head.from_spec(one) for one in spec[_KEY]]
        count = len(members)
        return EnsembleHead(members, torch.ones(count), torch.zeros(count), Reference(**spec["reference"]))

    def has_heads(self, spec: dict[str, Any]) -> bool:
        """Whether measures that compare heads apply: always to an ensemble."""
        return self._is_ensemble or self._head.has_heads(spec)


def reader_of(family: str, spec: Any) -> HeadReader:
    """The class or reader of a stored description of this family.

    Args:
        family: its name, which exists.
        spec: the parsed JSON, not yet checked.
    """
    return HeadReader(family, isinstance(spec, dict) and _KEY in spec)
