"""How unfamiliar a completion is to a reward model, as a source of one number per completion.

In: completions. Out: a novelty of at least 0, to be subtracted from the utility: best of many completions
otherwise finds those where the model errs in their favour.

    Disagreement        standard deviation between the members of an ensemble, in units of the reward
    TrainingDistance    distance of the response's embedding from those that the model was fitted on

The distance of x is the mean Euclidean distance to the k nearest training responses, each coordinate divided
by its standard deviation over the training responses. The training responses' own distances, each without
itself, have mean m and standard deviation s; the novelty is max(0, (d(x) - m) / s): 0 for what is as near as
they are to each other, then in their standard deviations.

Both are `RewardSource`s, so `reward_samples` stores them shard by shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.policy.rewards.sources import ModelReward, Rows, distinct_of_rows

if TYPE_CHECKING:
    from pluralign.model import RewardModel

__all__ = ["Disagreement", "TrainingDistance", "neighbour_distances"]

_BLOCK = 2**24  # distances at a time
_FEWEST = 20  # training responses, for a mean and a standard deviation of their distances
_MEASURED = 5_000  # training responses whose own distance is measured
_LEAST_SCALE = (
    0.01  # of a coordinate, as a share of the root mean square of all: constants differ by rounding
)


@final
class Disagreement:
    """The standard deviation between the means of an ensemble's members, in units of the reward.

    Args:
        model: with members: family `gaussian_ensemble`, or fitted with `ensemble=H`.
    """

    def __init__(self, model: RewardModel) -> None:
        self._model = model

    def describe(self) -> dict[str, Any]:
        """The model; JSON types."""
        return {"kind": "disagreement", "model": ModelReward(self._model).describe()}

    def __call__(self, rows: Rows) -> Sequence[float]:
        """One number per row.

        Raises:
            ArgumentError: the model has no members.
        """
        distinct, places = distinct_of_rows(rows)
        distribution = self._model.distribution(distinct)
        heads = distribution.heads()
        if heads is None or heads.means.shape[-1] < 2:
            raise ArgumentError(
                f"novelty by disagreement needs several heads; this model ({self._model.family}) has one: "
                "fit with ensemble=5 (--ensemble 5), or use the distance from the training data"
            )
        between: list[float] = distribution.variances().between.clamp_min(0).double().sqrt().tolist()
        return [between[place] for place in places]


@final
class TrainingDistance:
    """The distance of a response's embedding from the training responses'; see the top of the file.

    Args:
        model: its backbone embeds both.
        conversations: the M distinct conversations that the model was fitted on, each ending in the response.
        neighbours: k, how many of the nearest count.

    Raises:
        ArgumentError: there are fewer than 20 conversations or than k + 1, or all embeddings are equal.
    """

    def __init__(
        self, model: RewardModel, conversations: Sequence[Sequence[Mapping[str, str]]], neighbours: int = 10
    ) -> None:
        count = len(conversations)
        if neighbours < 1:
            raise ArgumentError(f"neighbours must be at least 1, received {neighbours}")
        if count < max(_FEWEST, neighbours + 1):
            raise ArgumentError(
                f"the distance from the training data needs at least {max(_FEWEST, neighbours + 1)} distinct "
                f"training responses, received {count}"
            )
        self._model, self._neighbours = model, neighbours
        found = model.embed(conversations).response
        spread = found.double().std(0, correction=0)
        typical = spread.square().mean().sqrt()
        if not float(typical) > 0:
            raise ArgumentError(
                "all training responses have the same embedding, so no distance says anything"
            )
        self._scale = spread.clamp_min(_LEAST_SCALE * typical)
        self._training = found.double() / self._scale
        self._digest = hashlib.sha256(found.contiguous().numpy().tobytes()).hexdigest()
        step = -(-count // _MEASURED)
        own = torch.arange(0, count, step)
        distances = neighbour_distances(self._training[own], self._training, neighbours, own=own)
        self._mean, self._std = float(distances.mean()), float(distances.std(correction=0))
        if not self._std > 0:
            raise ArgumentError(
                "all training responses are equally far from each other, so no distance is unusual"
            )

    def describe(self) -> dict[str, Any]:
        """The backbone, the training embeddings and k; JSON types."""
        backbone = self._model.backbone.describe()
        return {
            "kind": "training distance",
            "backbone": {key: backbone[key] for key in ("fingerprint", "pooling", "context", "dtype")},
            "training": self._digest,
            "neighbours": self._neighbours,
        }

    def __call__(self, rows: Rows) -> Sequence[float]:
        """One number per row, in standard deviations of the training responses' distances."""
        distinct, places = distinct_of_rows(rows)
        scaled = self._model.embed(distinct).response.double() / self._scale
        distances = neighbour_distances(scaled, self._training, self._neighbours)
        novelty: list[float] = ((distances - self._mean) / self._std).clamp_min(0).tolist()
        return [novelty[place] for place in places]


def neighbour_distances(
    points: Float[Tensor, "N D"],
    training: Float[Tensor, "M D"],
    neighbours: int,
    own: Tensor | None = None,
) -> Float[Tensor, " N"]:
    """The mean Euclidean distance of each point to its nearest training points; float64.

    Args:
        points: N points.
        training: M points.
        neighbours: how many of the nearest, at most M, or M - 1 with `own`.
        own: [N], the place of each point in `training`, which is not its own neighbour; None for new points.
    """
    rows = max(1, _BLOCK // len(training))
    found = []
    for start in range(0, len(points), rows):
        part = points[start : start + rows]
        # In float64, since |x|^2 + |y|^2 - 2 xy, which is much faster, loses half of the digits.
        distances = torch.cdist(part.double(), training.double())
        if own is not None:
            distances[torch.arange(len(part)), own[start : start + rows]] = torch.inf
        found.append(distances.topk(neighbours, largest=False).values.double().mean(1))
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)
