"""The regression family (ArmoRM): one linear prediction per attribute, the point-estimate counterpart of QRM.

In: embeddings of responses [N, D]. Out: `Point` per attribute and their mix; or, if the head has residual
standard deviations, Gaussians, the simplest distribution to compare quantiles with.

Gaussians mixed by `vincentize` are one Gaussian, N(sum g_a mu_a, (sum g_a sigma_a)^2), since averaging
quantile functions adds standard deviations; by `mixture` they are an ensemble with one head per attribute.

Notation: A attributes, g_a the gate's weights.
Paper: Wang et al. 2024 (ArmoRM), arXiv 2406.12845, section 3.1; the Gaussian residual is this project's.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import GaussianEnsemble, Point, RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.heads import schema
from pluralign.heads.base import RAW_UNITS, Attribute, Reference
from pluralign.heads.debias import Debias
from pluralign.heads.gate import Gate
from pluralign.heads.linearity import Linearity
from pluralign.heads.mixed import Mix, MixedHead
from pluralign.heads.scaling import ColumnScaling
from pluralign.heads.steering import Steering

__all__ = ["RegressionHead"]


class RegressionHead(MixedHead):
    """mu_a(z) = w_a . z + b_a on scaled embeddings z, in units where each scale is [0, 1].

    Args:
        scaling: the column scaling that the weights refer to.
        weight: [A, D].
        bias: [A].
        attributes: A of them, with their original scales.
        reference: the unit of reward.
        residual_std: [A], the standard deviation of ratings around the prediction on the [0, 1] scale; None
            for point predictions.
        gate: weights by prompt; None for equal weights.
        debias: what is subtracted from the predictions before they are mixed; None for nothing.
        mix: `vincentize`, or `mixture`, which needs a residual_std.

    Raises:
        ArgumentError: shapes that do not fit together, or a mixture of points.
    """

    family = "regression"
    weight: Tensor
    bias: Tensor
    residual_std: Tensor | None

    def __init__(
        self,
        scaling: ColumnScaling,
        weight: Float[Tensor, "A D"],
        bias: Float[Tensor, " A"],
        attributes: tuple[Attribute, ...],
        reference: Reference = RAW_UNITS,
        *,
        residual_std: Float[Tensor, " A"] | None = None,
        gate: Gate | None = None,
        debias: Debias | None = None,
        mix: Mix = "vincentize",
    ) -> None:
        super().__init__(scaling, attributes, reference, gate, debias, mix)
        expected = (len(attributes), len(scaling.center))
        std_fits = residual_std is None or residual_std.shape == expected[:1]
        if tuple(weight.shape) != expected or tuple(bias.shape) != expected[:1] or not std_fits:
            raise ArgumentError(
                f"weight {tuple(weight.shape)}, bias {tuple(bias.shape)} and residual_std do not fit "
                f"{expected[0]} attributes and width {expected[1]}; needed: {expected}, {expected[:1]} and "
                f"{expected[:1]}"
            )
        if mix == "mixture" and residual_std is None:
            raise ArgumentError("a mixture of points is not a point: pass residual_std, or mix by vincentize")
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())
        self.register_buffer("residual_std", None if residual_std is None else residual_std.float())

    @classmethod
    def has_heads(cls, spec: dict[str, Any]) -> bool:
        """True if it predicts Gaussians, which are an ensemble of one or of the attributes."""
        return bool(spec["has_residual_std"])

    def values(self, response: Float[Tensor, "N D"]) -> Float[Tensor, "N A"]:
        """Predictions on the [0, 1] scale."""
        predicted: Tensor = self.scaling(response) @ self.weight.T + self.bias
        return predicted

    def attribute_means(
        self, response: Float[Tensor, "N D"], length: Float[Tensor, " N"] | None = None
    ) -> Float[Tensor, "N A"]:
        """Predictions on the [0, 1] scale, debiased."""
        values = self.values(response)
        return values if self.debias is None else values + self.debias.shift(values, length)

    def attribute_distributions(self, response: Float[Tensor, "N D"]) -> dict[str, RewardDistribution]:
        """One distribution per attribute, on its original scale, as predicted: not debiased."""
        values = self.values(response)
        return {
            a.name: self._distribution_of(values[:, i], i).scale_shift(a.span, a.low)
            for i, a in enumerate(self.attributes)
        }

    def spec(self) -> dict[str, Any]:
        """Shapes, scales and units."""
        spread = {"has_residual_std": self.residual_std is not None}
        return self._base_spec(len(self.scaling.center)) | spread | self._mixing_spec()

    @classmethod
    def check_spec(cls, spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless `spec()` could have returned `spec`."""
        own = {"has_residual_std": schema.flag}
        schema.record(cls._base_schema(1) | own | cls._mixing_schema())(spec, where)
        if spec["mix"] == "mixture" and not spec["has_residual_std"]:
            raise schema.refuse(f"{where}.mix", spec["mix"], "vincentize, where has_residual_std is false")
        cls._check_mixing(spec, where)

    @classmethod
    def tensor_shapes(cls, spec: dict[str, Any]) -> schema.TensorShapes:
        """Dtype and shape of every tensor of a head with this checked `spec`."""
        count = len(spec["attributes"])
        names = ("bias", "residual_std") if spec["has_residual_std"] else ("bias",)
        vectors: schema.TensorShapes = dict.fromkeys(names, (torch.float32, (count,)))
        return cls._mixing_shapes(spec) | vectors | {"weight": (torch.float32, (count, spec["width"]))}

    def check_state(self) -> None:
        """Standard deviations are not negative."""
        if self.residual_std is not None and bool((self.residual_std < 0).any()):
            raise ArgumentError("residual_std has negative entries; allowed: 0 and more")

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """An empty head of the stored shape, to load a state dict into."""
        base = cls._read_base(spec)
        num_attributes, width = len(base["attributes"]), spec["width"]
        return cls(
            ColumnScaling.empty(width),
            torch.zeros(num_attributes, width),
            torch.zeros(num_attributes),
            residual_std=torch.zeros(num_attributes) if spec["has_residual_std"] else None,
            **base,
            **cls._read_mixing(spec),
        )

    def _mixed(
        self, response: Tensor, length: Tensor | None, weights: Tensor, steering: Steering
    ) -> RewardDistribution:
        means = self.attribute_means(response, length)
        weights = weights.to(means)
        stds = None if self.residual_std is None else self.residual_std.expand_as(means).clone()
        if steering.measures:
            means = means.clone()
            for i, measure in steering.measures.items():
                means[:, i] = measure(self._distribution_of(means[:, i], i))
                if stds is not None:
                    stds[:, i] = 0.0
        if stds is None:
            return Point((weights * means).sum(1), validate=False)
        if self.mix == "mixture":
            return GaussianEnsemble(means, stds, weights, validate=False)
        mean, std = ((weights * part).sum(1, keepdim=True) for part in (means, stds))
        return GaussianEnsemble(mean, std, validate=False)

    def _attribute_linearity(self) -> Linearity:
        # The spread is the same for every text, so only the position of the one Gaussian depends on it.
        return Linearity(mean=True, position_only=self.mix == "vincentize" or len(self.attributes) == 1)

    def _distribution_of(self, means: Tensor, attribute: int) -> RewardDistribution:
        if self.residual_std is None:
            return Point(means, validate=False)
        stds = self.residual_std[attribute].expand_as(means)
        return GaussianEnsemble(means[:, None], stds[:, None], validate=False)
