"""The Bradley-Terry family: one linear score on a frozen backbone, the field's point-estimate baseline.

In: embeddings of responses [N, D]. Out: `Point`. A Bradley-Terry score is defined up to a shift; the
reference removes the shift and keeps the unit, the logit of a preference.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import Point, RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.heads import schema
from pluralign.heads.base import RAW_UNITS, Head, Reference
from pluralign.heads.linearity import Linearity
from pluralign.heads.scaling import ColumnScaling
from pluralign.heads.steering import Steering

__all__ = ["BradleyTerryHead"]


class BradleyTerryHead(Head):
    """r(z) = w . z on scaled embeddings z; P(chosen preferred) = sigmoid(r_chosen - r_rejected).

    Args:
        scaling: the column scaling that the weights refer to.
        weight: [D].
        reference: the unit of reward.

    Raises:
        ArgumentError: the weight does not have the scaling's width.
    """

    family = "bradley_terry"
    weight: Tensor

    def __init__(
        self, scaling: ColumnScaling, weight: Float[Tensor, " D"], reference: Reference = RAW_UNITS
    ) -> None:
        super().__init__((), reference)
        if weight.shape != scaling.center.shape:
            raise ArgumentError(
                f"weight has shape {tuple(weight.shape)}; needed: {tuple(scaling.center.shape)}"
            )
        self.scaling = scaling
        self.register_buffer("weight", weight.float())

    def raw(
        self,
        response: Float[Tensor, "N D"],
        prompt: Float[Tensor, "N P"],
        length: Float[Tensor, " N"] | None = None,
        *,
        steering: Steering | None = None,
    ) -> RewardDistribution:
        """The score itself, in logits of a preference; there are no attributes to steer."""
        return Point(self.scaling(response) @ self.weight, validate=False)

    def attribute_distributions(self, response: Float[Tensor, "N D"]) -> dict[str, RewardDistribution]:
        """A single attribute, `preference`, in logits."""
        return {"preference": Point(self.scaling(response) @ self.weight, validate=False)}

    def gate_weights(self, prompt: Float[Tensor, "N P"]) -> Float[Tensor, "N 1"]:
        """One attribute, weight 1."""
        return self.weight.new_ones(len(prompt), 1)

    def preference_probability(
        self, chosen: RewardDistribution, rejected: RewardDistribution
    ) -> Float[Tensor, " N"]:
        """sigmoid of the difference in logits."""
        return torch.sigmoid((chosen.mean() - rejected.mean()) * self.reference.std)

    def linearity(self, steering: Steering | None = None) -> Linearity:
        """The score is linear, and a point."""
        return Linearity(mean=True, position_only=True)

    def spec(self) -> dict[str, Any]:
        """Width and units."""
        return self._base_spec(len(self.weight))

    @classmethod
    def check_spec(cls, spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless `spec()` could have returned `spec`."""
        schema.record(cls._base_schema(0))(spec, where)
        if spec["attributes"]:
            raise schema.refuse(f"{where}.attributes", spec["attributes"], "none, in this family")

    @classmethod
    def tensor_shapes(cls, spec: dict[str, Any]) -> schema.TensorShapes:
        """Dtype and shape of every tensor of a head with this checked `spec`."""
        scaling = {f"scaling.{k}": v for k, v in ColumnScaling.tensor_shapes(spec["width"]).items()}
        return scaling | {"weight": (torch.float32, (spec["width"],))}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """An empty head of the stored shape, to load a state dict into."""
        width = spec["width"]
        return cls(ColumnScaling.empty(width), torch.zeros(width), cls._read_base(spec)["reference"])
