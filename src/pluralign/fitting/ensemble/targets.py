"""Training data of an ensemble's heads: objectives over responses or pairs, and bootstraps of groups.

In: rating targets or pairs, and the weight of each row for each member. Out: losses per row and member.

A Gaussian loss of a response depends on its ratings only through their mean and variance, so that two points,
mean - sd and mean + sd, represent any number of raters exactly.

Notation: N responses, A attributes, H members per attribute, T points (1 or 2), P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from pluralign import losses
from pluralign.fitting.ensemble.config import GaussianEnsembleConfig
from pluralign.fitting.tables.targets import RatingTargets
from pluralign.fitting.train.loop import Rows
from pluralign.heads.ensemble_members import Members

__all__ = [
    "GaussianObjective",
    "GaussianTargets",
    "Loss",
    "PairObjective",
    "bootstrap_counts",
    "gaussian_targets",
    "loss_of",
    "row_shares",
]

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class GaussianTargets:
    """Ratings in standard units, as points.

    Attributes:
        points: [T, N, A, H or 1], in units of `scale` around `center`; 0 where there is no rating.
        present: [N, A], 1 where the response was rated, otherwise 0.
        center: [A], the mean rating on the [0, 1] scale.
        scale: [A], the standard deviation of all ratings there; 1 if all are the same.
    """

    points: Float[Tensor, "T N A _"]
    present: Float[Tensor, "N A"]
    center: Float[Tensor, " A"]
    scale: Float[Tensor, " A"]


def gaussian_targets(targets: RatingTargets) -> GaussianTargets:
    """The ratings of each response and attribute as two points with the same mean and variance."""
    count = len(targets.conversations)
    parts, present, centers, scales = [], [], [], []
    for rows in targets.attributes:
        total = torch.zeros(count, dtype=torch.float64).index_add_(0, rows.item, rows.weight)
        share = rows.weight / total[rows.item]
        mean = torch.zeros_like(total).index_add_(0, rows.item, share * rows.target)
        offset = rows.target - mean[rows.item]
        variance = torch.zeros_like(total).index_add_(0, rows.item, share * offset.square())
        rated = total > 0
        center = mean[rated].mean()
        scale = (variance[rated].mean() + mean[rated].var(unbiased=False)).sqrt()
        scale = scale if float(scale) > 1e-9 else torch.ones_like(scale)
        spread = variance.sqrt()
        points = (torch.stack([mean - spread, mean + spread]) - center) / scale
        parts.append(points * rated)
        present.append(rated)
        centers.append(center)
        scales.append(scale)
    points = torch.stack(parts, -1).float()[..., None]
    if torch.equal(points[0], points[1]):
        points = points[:1]
    return GaussianTargets(
        points, torch.stack(present, 1).float(), torch.stack(centers).float(), torch.stack(scales).float()
    )


def bootstrap_counts(groups: Sequence[str], seeds: Sequence[int]) -> Int[Tensor, "N H"]:
    """How often each row's group is in each head's resample, with as many draws with replacement as groups.

    The resample depends only on the names of the groups and the seed, not on the order of the rows.
    """
    names = sorted(set(groups))
    drawn = [
        torch.randint(len(names), (len(names),), generator=torch.Generator().manual_seed(seed)).bincount(
            minlength=len(names)
        )
        for seed in seeds
    ]
    number = {name: i for i, name in enumerate(names)}
    return torch.stack(drawn, 1)[torch.tensor([number[group] for group in groups])]


def row_shares(weight: Float[Tensor, "N ..."]) -> Float[Tensor, "N ..."]:
    """Weights per row and member, scaled to mean 1 over the rows; weights that are all 0 stay 0."""
    mean = weight.mean(0, keepdim=True)
    return torch.where(mean > 0, weight / mean.clamp_min(1e-30), torch.zeros_like(weight))


def loss_of(config: GaussianEnsembleConfig) -> Loss:
    """The Gaussian loss that the configuration names."""
    if config.loss == "beta_nll":
        return partial(losses.beta_nll, beta=config.beta)
    return losses.reparameterized_mse if config.loss == "reparameterized_mse" else losses.gaussian_nll


@dataclass(frozen=True)
class GaussianObjective:
    """A Gaussian loss of every response, attribute and head.

    Attributes:
        features: [N, D].
        points: [T, N, A, H or 1], in standard units.
        share: [N, A, H], with mean 1 over the rows.
        loss: a function of means, standard deviations and points of equal shape.
        std_floor: smallest standard deviation, in standard units.
    """

    features: Tensor
    points: Tensor
    share: Tensor
    loss: Loss
    std_floor: float

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.features)

    def losses(self, members: Members, rows: Rows) -> Float[Tensor, "B M"]:
        """[B, A H], members in the order of the share's last two axes."""
        return (self.share[rows] * self.mean_over_points(members, rows, self.loss)).flatten(1)

    def mean_over_points(self, members: Members, rows: Rows, loss: Loss) -> Float[Tensor, "B A H"]:
        """A loss of means, standard deviations and points, with the members in training order."""
        mean, std = self.distributions(members, rows)
        points = self.points[:, rows]
        shape = (len(points), *mean.shape)
        return loss(mean.expand(shape), std.expand(shape), points.expand(shape)).mean(0)

    def distributions(
        self, members: Members, rows: Rows
    ) -> tuple[Float[Tensor, "B A H"], Float[Tensor, "B A H"]]:
        """Means and standard deviations in standard units."""
        output = members(self.features[rows])
        mean, raw = (
            part.contiguous().unflatten(1, tuple(self.share.shape[1:])) for part in output.unbind(-1)
        )
        return mean, self.std_floor + softplus(raw)  # softplus of a strided tensor takes ten times as long


@dataclass(frozen=True)
class PairObjective:
    """The Bradley-Terry loss of every pair and head.

    Attributes:
        features: [N, D], of the distinct responses.
        chosen: [P], index of the preferred response.
        rejected: [P], index of the other.
        share: [P, H], with mean 1 over the pairs.
    """

    features: Tensor
    chosen: Tensor
    rejected: Tensor
    share: Tensor

    @property
    def num_rows(self) -> int:
        """P."""
        return len(self.chosen)

    def losses(self, members: Members, rows: Rows) -> Float[Tensor, "B M"]:
        """[B, H]."""
        chosen, rejected = self.chosen[rows], self.rejected[rows]
        if len(chosen) * 2 > len(self.features):  # each response once
            reward = members(self.features)[..., 0]
            chosen, rejected = reward[chosen], reward[rejected]
        else:
            chosen, rejected = (members(self.features[side])[..., 0] for side in (chosen, rejected))
        loss = losses.bradley_terry(chosen.flatten(), rejected.flatten())
        return self.share[rows] * loss.reshape(chosen.shape)
