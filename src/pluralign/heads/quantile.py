"""The quantile family (QRM): K linear quantiles per attribute on a frozen backbone.

In: embeddings of responses [N, D]. Out: `Quantiles` per attribute, and their mix. Each rating scale is mapped
linearly to [0, 1] before the mix, which averages the attributes' quantile functions (or, with `mixture`,
their distribution functions) with the gate's weights.

Notation: A attributes, K levels. Paper: Dorka 2024, arXiv 2409.10164, section 3.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import Quantiles, RewardDistribution, mixture, vincentize
from pluralign.errors import ArgumentError
from pluralign.heads import schema
from pluralign.heads.base import RAW_UNITS, Attribute, Reference
from pluralign.heads.debias import Debias
from pluralign.heads.gate import Gate
from pluralign.heads.linearity import Linearity
from pluralign.heads.mixed import Mix, MixedHead
from pluralign.heads.scaling import ColumnScaling
from pluralign.heads.steering import Steering

__all__ = ["QuantileHead"]

_MIXES = {"vincentize": vincentize, "mixture": mixture}


class QuantileHead(MixedHead):
    """q_ak(z) = w_ak . z + b_ak on scaled embeddings z, in units where each scale is [0, 1].

    Args:
        scaling: the column scaling that the weights refer to.
        weight: [A, K, D].
        bias: [A, K].
        levels: [K], increasing, inside (0, 1).
        attributes: A of them, with their original scales.
        reference: the unit of reward.
        gate: weights by prompt; None for equal weights.
        debias: what is subtracted from the attributes before they are mixed; None for nothing.
        mix: `vincentize` (QRM) or `mixture`.

    Raises:
        ArgumentError: shapes that do not fit together.
    """

    family = "quantile"
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        scaling: ColumnScaling,
        weight: Float[Tensor, "A K D"],
        bias: Float[Tensor, "A K"],
        levels: Float[Tensor, " K"],
        attributes: tuple[Attribute, ...],
        reference: Reference = RAW_UNITS,
        *,
        gate: Gate | None = None,
        debias: Debias | None = None,
        mix: Mix = "vincentize",
    ) -> None:
        super().__init__(scaling, attributes, reference, gate, debias, mix)
        expected = (len(attributes), len(levels), len(scaling.center))
        if tuple(weight.shape) != expected or tuple(bias.shape) != expected[:2]:
            raise ArgumentError(
                f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit {expected[0]} "
                f"attributes, {expected[1]} levels and width {expected[2]}; "
                f"needed: {expected} and {expected[:2]}"
            )
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())
        # Numbers of the host: reading them waits for no device, and some devices have no float64.
        self._levels: tuple[float, ...] = tuple(levels.double().tolist())

    @property
    def levels(self) -> Float[Tensor, " K"]:
        """The levels, in float64 on the CPU wherever the head is."""
        return torch.tensor(self._levels, dtype=torch.float64)

    def values(self, response: Float[Tensor, "N D"]) -> Float[Tensor, "N A K"]:
        """Predicted quantiles on the [0, 1] scale, as fitted: they may cross."""
        flat: Tensor = self.scaling(response) @ self.weight.flatten(0, 1).T + self.bias.flatten()
        num_attributes, num_levels = self.bias.shape
        return flat.view(len(flat), num_attributes, num_levels)

    def attribute_means(
        self, response: Float[Tensor, "N D"], length: Float[Tensor, " N"] | None = None
    ) -> Float[Tensor, "N A"]:
        """Mean reward per attribute on the [0, 1] scale, debiased."""
        return self._means(self._debiased(self.values(response), length))

    def attribute_distributions(self, response: Float[Tensor, "N D"]) -> dict[str, RewardDistribution]:
        """One `Quantiles` per attribute, on its original scale, as predicted: not debiased."""
        values = self.values(response)
        return {a.name: self._quantiles(a.low + a.span * values[:, i]) for i, a in enumerate(self.attributes)}

    @property
    def constant_attributes(self) -> tuple[str, ...]:
        """Names of the attributes whose weights are all 0: their prediction is the same for every text."""
        return tuple(a.name for a, w in zip(self.attributes, self.weight, strict=True) if not bool(w.any()))

    def spec(self) -> dict[str, Any]:
        """Shapes, scales and units."""
        levels = {"levels": list(self._levels)}
        return self._base_spec(len(self.scaling.center)) | levels | self._mixing_spec()

    @classmethod
    def check_spec(cls, spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless `spec()` could have returned `spec`."""
        level = schema.number(0, 1)
        levels = schema.listed(level, 1, ascending=True)
        schema.record(cls._base_schema(1) | {"levels": levels} | cls._mixing_schema())(spec, where)
        if not (spec["levels"][0] > 0 and spec["levels"][-1] < 1):
            raise schema.refuse(f"{where}.levels", spec["levels"], "levels inside (0, 1)")
        cls._check_mixing(spec, where)

    @classmethod
    def tensor_shapes(cls, spec: dict[str, Any]) -> schema.TensorShapes:
        """Dtype and shape of every tensor of a head with this checked `spec`."""
        shape = (len(spec["attributes"]), len(spec["levels"]), spec["width"])
        return cls._mixing_shapes(spec) | {
            "weight": (torch.float32, shape),
            "bias": (torch.float32, shape[:2]),
            "levels": (torch.float64, shape[1:2]),
        }

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """An empty head of the stored shape, to load a state dict into."""
        base = cls._read_base(spec)
        num_attributes, num_levels, width = len(base["attributes"]), len(spec["levels"]), spec["width"]
        return cls(
            ColumnScaling.empty(width),
            torch.zeros(num_attributes, num_levels, width),
            torch.zeros(num_attributes, num_levels),
            torch.tensor(spec["levels"], dtype=torch.float64),
            **base,
            **cls._read_mixing(spec),
        )

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}levels"] = self.levels

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool, missing: list[str], *rest: Any
    ) -> None:
        levels = state_dict.pop(f"{prefix}levels", None)
        if levels is not None:
            self._levels = tuple(levels.cpu().double().tolist())
        elif strict:
            missing.append(f"{prefix}levels")
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *rest)

    def _mixed(
        self, response: Tensor, length: Tensor | None, weights: Tensor, steering: Steering
    ) -> RewardDistribution:
        values = self._debiased(self.values(response), length)
        if steering.measures:
            values = values.clone()
            for i, measure in steering.measures.items():
                values[:, i] = measure(self._quantiles(values[:, i]))[:, None]
        return _MIXES[self.mix](values, weights.to(values), self._levels, validate=False)

    def _attribute_linearity(self) -> Linearity:
        # Values that cross are sorted, and of all their weighted sums only the plain average ignores the
        # order. It is the mean where the levels are the midpoints of equal parts.
        num = len(self._levels)
        midpoints = all(abs(t * 2 * num - (2 * k + 1)) < 1e-6 for k, t in enumerate(self._levels))
        return Linearity(mean=midpoints and self.mix == "vincentize")

    def _debiased(self, values: Tensor, length: Tensor | None) -> Tensor:
        if self.debias is None:
            return values
        if self.debias.coupling == "parity":
            return self.debias.levelwise(values, length)
        return values + self.debias.shift(self._means(values), length)[..., None]

    def _means(self, values: Tensor) -> Tensor:
        return self._quantiles(values.flatten(0, 1)).mean().view(values.shape[:2])

    def _quantiles(self, values: Tensor) -> Quantiles:
        return Quantiles(values, self._levels, validate=False)
