"""The common parts of families with rated attributes: debiasing, the gate, and the mix.

    attributes' rewards on [0, 1]  ->  debiased  ->  steered, if requested  ->  mixed by the gate's weights

In: a subclass's predictions per attribute. Out: one reward distribution.

Notation: N responses, A attributes.
"""

from __future__ import annotations

import abc
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.heads import schema
from pluralign.heads.base import Attribute, Head, Reference
from pluralign.heads.debias import Debias, LengthUnit
from pluralign.heads.gate import Gate
from pluralign.heads.linearity import Linearity
from pluralign.heads.scaling import ColumnScaling
from pluralign.heads.steering import Steering

__all__ = ["Mix", "MixedHead"]

Mix = Literal["vincentize", "mixture"]


class MixedHead(Head):
    """A head that predicts rated attributes and mixes them.

    Args:
        scaling: the column scaling that the weights refer to.
        attributes: A of them, with their original scales.
        reference: the unit of reward.
        gate: weights by prompt; None for equal weights.
        debias: what is subtracted from the attributes before they are mixed; None for nothing.
        mix: `vincentize` averages quantile functions (QRM), `mixture` averages distribution functions.

    Raises:
        ArgumentError: parts that do not fit together.
    """

    def __init__(
        self,
        scaling: ColumnScaling,
        attributes: tuple[Attribute, ...],
        reference: Reference,
        gate: Gate | None,
        debias: Debias | None,
        mix: Mix,
    ) -> None:
        super().__init__(attributes, reference)
        if gate is not None and gate.shape.num_attributes != len(attributes):
            raise ArgumentError(
                f"the gate weighs {gate.shape.num_attributes} attributes; this head has {len(attributes)}"
            )
        if debias is not None and len(debias.transform) != len(attributes):
            raise ArgumentError(
                f"debias is for {len(debias.transform)} attributes; this head has {len(attributes)}"
            )
        if mix not in ("vincentize", "mixture"):
            raise ArgumentError(f"mix = {mix!r}; allowed: vincentize, mixture")
        self.scaling = scaling
        self.gate = gate
        self.debias = debias
        self.mix: Mix = mix

    @abc.abstractmethod
    def attribute_means(
        self, response: Float[Tensor, "N D"], length: Float[Tensor, " N"] | None = None
    ) -> Float[Tensor, "N A"]:
        """Mean reward per attribute on the [0, 1] scale, debiased: the input of the gate's mix."""

    @abc.abstractmethod
    def _mixed(
        self,
        response: Float[Tensor, "N D"],
        length: Float[Tensor, " N"] | None,
        weights: Float[Tensor, "N A"],
        steering: Steering,
    ) -> RewardDistribution:
        """The mix of the debiased attributes under weights that sum to 1."""

    @property
    def length_unit(self) -> LengthUnit | None:
        """The unit of `length`; None if this head is not debiased for length."""
        return None if self.debias is None else self.debias.length_unit

    @property
    def has_gate(self) -> bool:
        """Whether there is a gate; without one, weights are equal."""
        return self.gate is not None

    def gate_weights(self, prompt: Float[Tensor, "N P"]) -> Float[Tensor, "N A"]:
        """The gate's softmax; equal weights without a gate."""
        if self.gate is None:
            count = len(self.attributes)
            return torch.full((len(prompt), count), 1 / count, device=prompt.device)
        return self.gate(prompt)  # type: ignore[no-any-return]

    def raw(
        self,
        response: Float[Tensor, "N D"],
        prompt: Float[Tensor, "N P"],
        length: Float[Tensor, " N"] | None = None,
        *,
        steering: Steering | None = None,
    ) -> RewardDistribution:
        """The debiased attributes, mixed on the [0, 1] scale and multiplied by the gate's scale."""
        steered = Steering() if steering is None else steering
        if steered.weights is None:
            weights = self.gate_weights(prompt)
        else:
            weights = steered.weights.to(prompt.device, torch.float32).expand(len(prompt), -1)
        mixed = self._mixed(response, length, weights, steered)
        return mixed if self.gate is None else mixed.scale_shift(self.gate.scale.detach(), 0.0)

    def linearity(self, steering: Steering | None = None) -> Linearity:
        """Linear as far as the attributes are, unless a gate or a length changes their mix by text."""
        chosen = Steering() if steering is None else steering
        if self.gate is not None and chosen.weights is None:
            return Linearity(
                obstacle="its gate weighs the attributes by prompt, which no single linear layer does "
                "(fixed attribute weights, passed as weights, are linear)"
            )
        if self.length_unit is not None:
            return Linearity(obstacle=f"it is debiased by the number of {self.length_unit} of a response")
        known = self._attribute_linearity()
        return known if known.obstacle or not chosen.measures else Linearity()

    def _attribute_linearity(self) -> Linearity:
        """The same for the mix of the attributes under fixed weights."""
        return Linearity()

    def _mixing_spec(self) -> dict[str, Any]:
        return {
            "gate": None if self.gate is None else self.gate.spec(),
            "debias": None if self.debias is None else self.debias.spec(),
            "mix": self.mix,
        }

    @staticmethod
    def _mixing_schema() -> dict[str, schema.Check]:
        return {
            "gate": schema.optional(Gate.check_spec),
            "debias": schema.optional(Debias.check_spec),
            "mix": schema.choice("vincentize", "mixture"),
        }

    @classmethod
    def _check_mixing(cls, spec: dict[str, Any], where: str) -> None:
        """Checks that the keys are consistent."""
        gate, count = spec["gate"], len(spec["attributes"])
        if gate is not None and gate["num_attributes"] != count:
            raise schema.refuse(
                f"{where}.gate.num_attributes", gate["num_attributes"], f"{count}, as attributes"
            )
        if spec["debias"] is not None and not count:
            raise schema.refuse(f"{where}.debias", spec["debias"], "null where there are no attributes")

    @staticmethod
    def _mixing_shapes(spec: dict[str, Any]) -> schema.TensorShapes:
        parts = {"scaling": ColumnScaling.tensor_shapes(spec["width"])}
        if spec["gate"] is not None:
            parts["gate"] = Gate.tensor_shapes(spec["gate"])
        if spec["debias"] is not None:
            parts["debias"] = Debias.tensor_shapes(len(spec["attributes"]))
        return {f"{part}.{name}": shape for part, shapes in parts.items() for name, shape in shapes.items()}

    @staticmethod
    def _read_mixing(spec: dict[str, Any]) -> dict[str, Any]:
        """Empty parts of the stored shapes."""
        gate, debias = spec["gate"], spec["debias"]
        return {
            "gate": None if gate is None else Gate.from_spec(gate),
            "debias": None if debias is None else Debias.from_spec(debias, len(spec["attributes"])),
            "mix": spec["mix"],
        }
