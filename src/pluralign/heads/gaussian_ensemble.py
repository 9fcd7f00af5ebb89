"""The Gaussian ensemble family (BRME): H heads, each predicting a mean and a standard deviation.

In: embeddings of responses [N, D]. Out: `GaussianEnsemble` with H heads, per attribute and mixed.

    head h, attribute a:  N(mu_ah(z), s_ah(z)^2),   s = scale_a (floor + softplus(.)) > 0
    head h, mixed:        N(sum_a g_a mu_ah, (sum_a g_a s_ah)^2), then standardised

Attributes are mixed head by head, so the mix still has H heads and `nominal`, `worst_case`, `robust` or `uwo`
compare whole opinions. Averaging quantile functions of Gaussians adds their standard deviations (vincentize).
The heads' means are brought to a common mean and spread on the reference responses: a minimum over heads is
meaningful only if heads that agree predict the same number.

A head without standard deviations (an ensemble of Bradley-Terry heads) predicts s = 0, and a head without
attributes (fitted on pairs) predicts a single overall reward.

Notation: A attributes, H heads, g_a the gate's weights. Members of the network are attribute-major, a H + h.
Paper: Yan et al. 2024, arXiv 2409.15360; several attributes, their mix and the standardisation are this
project's.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from pluralign.distributions import GaussianEnsemble, RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.heads import schema
from pluralign.heads.base import RAW_UNITS, Attribute, Reference
from pluralign.heads.debias import Debias
from pluralign.heads.ensemble_members import Members
from pluralign.heads.gate import Gate
from pluralign.heads.linearity import Linearity
from pluralign.heads.mixed import MixedHead
from pluralign.heads.scaling import ColumnScaling
from pluralign.heads.steering import Steering
from pluralign.precision import widened

__all__ = ["GaussianEnsembleHead"]

_WHOLE = "preference"  # the name of a reward without attributes, as in Bradley-Terry


class GaussianEnsembleHead(MixedHead):
    """H Gaussian heads per attribute on scaled embeddings.

    Args:
        scaling: the column scaling that the members refer to.
        members: A H of them, attribute-major, with two outputs each (mean and std before its softplus), or
            one if heads have no standard deviation.
        attributes: A of them, with their original scales; none for a single overall reward (A = 1).
        reference: the unit of reward.
        target_center: [A], the position of output 0 on the [0, 1] scale; 0 by default.
        target_scale: [A], positive, one unit of output on that scale; 1 by default.
        std_floor: the smallest standard deviation, in units of `target_scale`.
        gate: weights by prompt; None for equal weights.
        debias: what is subtracted from the means before they are mixed; None for nothing.

    Attributes:
        num_heads: H.
        head_scale: [H], of the standardisation; 1 before `with_equal_heads`.
        head_shift: [H], of the standardisation; 0 before `with_equal_heads`.

    Raises:
        ArgumentError: parts that do not fit together.
    """

    family = "gaussian_ensemble"
    own_ensemble = True
    target_center: Tensor
    target_scale: Tensor
    head_scale: Tensor
    head_shift: Tensor

    def __init__(
        self,
        scaling: ColumnScaling,
        members: Members,
        attributes: tuple[Attribute, ...] = (),
        reference: Reference = RAW_UNITS,
        *,
        target_center: Float[Tensor, " A"] | None = None,
        target_scale: Float[Tensor, " A"] | None = None,
        std_floor: float = 0.01,
        gate: Gate | None = None,
        debias: Debias | None = None,
    ) -> None:
        super().__init__(scaling, attributes, reference, gate, debias, "vincentize")
        count = max(len(attributes), 1)
        num_members, num_outputs, _ = members.weight.shape
        center = torch.zeros(count) if target_center is None else target_center
        scale = torch.ones(count) if target_scale is None else target_scale
        if num_members % count or num_outputs > 2 or not center.shape == scale.shape == (count,):
            raise ArgumentError(
                f"{num_members} members with {num_outputs} outputs, target_center {tuple(center.shape)} and "
                f"target_scale {tuple(scale.shape)} do not fit {count} attributes; needed: as many members "
                "for each attribute, 1 or 2 outputs, [A] and [A]"
            )
        if not bool((scale > 0).all()) or not 0 < std_floor < float("inf"):
            raise ArgumentError("target_scale and std_floor must be positive and finite")
        self.members = members.requires_grad_(False)
        self.num_heads = num_members // count
        self.std_floor = std_floor
        self.register_buffer("target_center", center.float())
        self.register_buffer("target_scale", scale.float())
        self.register_buffer("head_scale", torch.ones(self.num_heads))
        self.register_buffer("head_shift", torch.zeros(self.num_heads))

    @classmethod
    def has_heads(cls, spec: dict[str, Any]) -> bool:
        """Always, even if there is only one."""
        return True

    @property
    def has_std(self) -> bool:
        """Whether heads predict a standard deviation; those of a Bradley-Terry ensemble do not."""
        return self.members.weight.shape[1] == 2

    def values(self, response: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "N A H"], Float[Tensor, "N A H"]]:
        """Means and standard deviations on the [0, 1] scale, as predicted."""
        output = self.members(self.scaling(response))
        output = output.unflatten(1, (len(self.target_center), self.num_heads))
        scale = self.target_scale[:, None]
        means = self.target_center[:, None] + scale * output[..., 0]
        if not self.has_std:
            return means, torch.zeros_like(means)
        return means, scale * (self.std_floor + softplus(output[..., 1]))

    def attribute_means(
        self, response: Float[Tensor, "N D"], length: Float[Tensor, " N"] | None = None
    ) -> Float[Tensor, "N A"]:
        """Means over the heads on the [0, 1] scale, debiased."""
        means = self.values(response)[0].mean(-1)
        return means if self.debias is None else means + self.debias.shift(means, length)

    def attribute_distributions(self, response: Float[Tensor, "N D"]) -> dict[str, RewardDistribution]:
        """One distribution of H heads per attribute, on its original scale, as predicted: not debiased."""
        means, stds = self.values(response)
        if not self.attributes:
            return {_WHOLE: GaussianEnsemble(means[:, 0], stds[:, 0], validate=False)}
        return {
            a.name: GaussianEnsemble(means[:, i], stds[:, i], validate=False).scale_shift(a.span, a.low)
            for i, a in enumerate(self.attributes)
        }

    def gate_weights(self, prompt: Float[Tensor, "N P"]) -> Float[Tensor, "N A"]:
        """The gate's softmax; equal weights without a gate, and weight 1 for a single overall reward."""
        return super().gate_weights(prompt) if self.attributes else prompt.new_ones(len(prompt), 1)

    def preference_probability(
        self, chosen: RewardDistribution, rejected: RewardDistribution
    ) -> Float[Tensor, " N"]:
        """P(R1 > R2) for independent rewards; without standard deviations the heads' mean Bradley-Terry
        probability.

        The latter is mean_h sigmoid(mu_h(chosen) - mu_h(rejected)) in logits, with the same head scoring
        both.
        """
        if (
            self.has_std
            or not isinstance(chosen, GaussianEnsemble)
            or not isinstance(rejected, GaussianEnsemble)
        ):
            return chosen.prob_greater(rejected)
        return torch.sigmoid((chosen.means - rejected.means) * self.reference.std).mean(-1)

    def head_means(
        self,
        response: Float[Tensor, "N D"],
        prompt: Float[Tensor, "N P"],
        length: Float[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N H"]:
        """The mean reward of each head, before the gate's scale. Arguments as `distribution`."""
        return self._mixed(response, length, self.gate_weights(prompt), Steering()).means

    @torch.no_grad()
    def with_equal_heads(
        self,
        response: Float[Tensor, "N D"],
        prompt: Float[Tensor, "N P"],
        length: Float[Tensor, " N"] | None = None,
    ) -> GaussianEnsembleHead:
        """The same ensemble, with equal means and spreads of all heads over the reference responses.

        Both are the averages over the heads, so that the unit is unchanged. A head whose mean does not
        vary is only shifted. Arguments as in `distribution`.
        """
        plain = self.with_parts(
            head_scale=torch.ones_like(self.head_scale), head_shift=torch.zeros_like(self.head_shift)
        )
        means = widened(plain.head_means(response, prompt, length))
        center, spread = means.mean(0), means.std(0, unbiased=False)
        scale = torch.where(spread > 1e-9, spread.mean() / spread.clamp_min(1e-9), torch.ones_like(spread))
        shift = center.mean() - center * scale
        return plain.with_parts(head_scale=scale.to(self.head_scale), head_shift=shift.to(self.head_shift))

    def spec(self) -> dict[str, Any]:
        """Shapes, scales and units."""
        shape = {
            "num_heads": self.num_heads,
            "num_outputs": self.members.weight.shape[1],
            "hidden": self.members.hidden,
            "std_floor": self.std_floor,
        }
        return self._base_spec(len(self.scaling.center)) | shape | self._mixing_spec()

    @classmethod
    def check_spec(cls, spec: Any, where: str) -> None:
        """Raises `ArtifactError` unless `spec()` could have returned `spec`."""
        own = {
            "num_heads": schema.whole(1),
            "num_outputs": schema.whole(1, 2),
            "hidden": schema.whole(0),
            "std_floor": schema.number(above=0),
            "mix": schema.choice("vincentize"),
        }
        schema.record(cls._base_schema(0) | cls._mixing_schema() | own)(spec, where)
        cls._check_mixing(spec, where)

    @classmethod
    def tensor_shapes(cls, spec: dict[str, Any]) -> schema.TensorShapes:
        """Dtype and shape of every tensor of a head with this checked `spec`."""
        count, heads = max(len(spec["attributes"]), 1), spec["num_heads"]
        members, hidden, width = count * heads, spec["hidden"], spec["width"]
        shapes: dict[str, tuple[int, ...]] = {
            "members.hidden_weight": (members, hidden, width if hidden else 0),
            "members.hidden_bias": (members, hidden),
            "members.weight": (members, spec["num_outputs"], hidden or width),
            "members.bias": (members, spec["num_outputs"]),
            "target_center": (count,),
            "target_scale": (count,),
            "head_scale": (heads,),
            "head_shift": (heads,),
        }
        return cls._mixing_shapes(spec) | {name: (torch.float32, shape) for name, shape in shapes.items()}

    def check_state(self) -> None:
        """Scales are positive."""
        if not bool((self.target_scale > 0).all() and (self.head_scale >= 0).all()):
            raise ArgumentError("target_scale and head_scale must be positive")

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """An empty head of the stored shape, to load a state dict into."""
        base, mixing = cls._read_base(spec), cls._read_mixing(spec)
        num_members = max(len(base["attributes"]), 1) * spec["num_heads"]
        return cls(
            ColumnScaling.empty(spec["width"]),
            Members(num_members, spec["width"], spec["num_outputs"], spec["hidden"]),
            std_floor=spec["std_floor"],
            gate=mixing["gate"],
            debias=mixing["debias"],
            **base,
        )

    def _attribute_linearity(self) -> Linearity:
        if self.members.hidden:
            return Linearity(obstacle="its heads have a hidden layer")
        return Linearity(mean=True, position_only=self.num_heads == 1 and not self.has_std)

    def _mixed(
        self, response: Tensor, length: Tensor | None, weights: Tensor, steering: Steering
    ) -> GaussianEnsemble:
        means, stds = self.values(response)
        if self.debias is not None:
            means = means + self.debias.shift(means.mean(-1), length)[..., None]
        for i, measure in steering.measures.items():
            # One number from the whole distribution, so all heads predict the same for this attribute.
            means[:, i] = measure(GaussianEnsemble(means[:, i], stds[:, i], validate=False))[:, None]
            stds[:, i] = 0.0
        mean, std = (torch.einsum("na,nah->nh", weights.to(part), part) for part in (means, stds))
        return GaussianEnsemble(
            mean * self.head_scale + self.head_shift, std * self.head_scale, validate=False
        )
