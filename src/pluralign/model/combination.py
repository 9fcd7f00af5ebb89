"""`combine`: several reward models and judges as one, on one scale.

In: sources that predict reward distributions for conversations, and reference responses. Out: one
`Combination`, which behaves like a reward model. Anything with a `distribution` method can be a source.

Rewards of different models have no common unit. Each source's reward is mapped to normal scores by its own
distribution over the same reference responses (`quantile_map`), then the sources are combined response by
response:

    mixture     F = sum_s w_s F_s. A source is drawn, then a reward from it: where sources disagree, the
                distribution is wide or has several modes, which risk measures see. References stay standard
                normal.
    vincentize  Q = sum_s w_s Q_s. Quantile functions are averaged: disagreement cancels, and only the
                sources' own uncertainty remains. References are narrower than standard normal.

Means are the same for both, the weighted average of the sources' normal scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, final, get_args

import torch
from torch import Tensor

from pluralign.distributions import (
    Categorical,
    Point,
    Quantiles,
    RewardDistribution,
    mixture,
    vincentize,
)
from pluralign.distributions.special import as_shares
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.model import combination_folder
from pluralign.model.inputs import Conversation
from pluralign.model.quantile_map import LEVELS, QuantileMap
from pluralign.model.scorer import BaseScorer, Scorer, as_conversations, distributions_of

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from pluralign.backbones import Backbone, EmbeddingCache

__all__ = ["Combination", "How", "combine"]

How = Literal["mixture", "vincentize"]


def combine(
    sources: Sequence[Scorer],
    reference: Sequence[Conversation],
    *,
    weights: Sequence[float] | Tensor | None = None,
    how: How = "mixture",
) -> Combination:
    """Puts several sources of reward on one scale and combines them.

    Args:
        sources: reward models, judges (`pluralign.model.judge_scores`, `judge_probabilities`), combinations,
            or anything with `distribution(conversations)`.
        reference: conversations on which every source's scale is measured, for instance a few hundred
            responses of the initial policy. All sources must be able to score them.
        weights: of the sources, not negative; only ratios matter. Equal by default.
        how: `mixture` keeps the sources' disagreement, `vincentize` averages it away.

    Returns:
        A scorer in units in which a reference response has mean 0 and standard deviation 1 for each source.

    Raises:
        ArgumentError: there is no source, a source cannot score the references or gives all of them the
            same reward, or weights do not match.

    Reference: quantile normalisation is the third open question of Yan et al. 2024 (arXiv 2409.15360); this
    method is ours.
    """
    if isinstance(sources, Scorer) or not isinstance(sources, Sequence) or not sources:
        raise ArgumentError("sources must be a list of at least one reward model or judge")
    listed = as_conversations(reference)
    if len(listed) < 2:
        raise ArgumentError(f"a scale needs at least 2 reference responses, received {len(listed)}")
    shares = _weights(weights, len(sources))  # cheap checks before anything is embedded
    _check_how(how)
    maps = []
    for place, source in enumerate(sources):
        distribution = distributions_of(source, listed, f"sources[{place}]")
        try:
            maps.append(QuantileMap.of(distribution))
        except ArgumentError as error:
            raise ArgumentError(f"sources[{place}]: {error}") from error
    return Combination(sources, maps, shares, how)


@final
class Combination(BaseScorer):
    """Sources, each with its map; created by `combine`.

    Attributes:
        sources: the combined scorers.
        maps: from each source's rewards to normal scores.
        weights: of the sources, [S], summing to 1.
        how: `mixture` or `vincentize`.
    """

    def __init__(
        self, sources: Sequence[Scorer], maps: Sequence[QuantileMap], weights: Tensor, how: How
    ) -> None:
        self.sources = tuple(sources)
        self.maps = tuple(maps)
        self.weights = _weights(weights, len(self.sources))
        self.how = _check_how(how)

    def source_distributions(self, conversations: Sequence[Conversation]) -> list[RewardDistribution]:
        """Each source's distribution of each response, on the common scale."""
        listed = as_conversations(conversations)
        return [
            scale.push(distributions_of(source, listed, f"sources[{place}]"))
            for place, (source, scale) in enumerate(zip(self.sources, self.maps, strict=True))
        ]

    def distribution(self, conversations: Sequence[Conversation]) -> RewardDistribution:
        """The combined distribution of each response.

        Args:
            conversations: B message lists, each ending in the response.

        Returns:
            Exact if every source predicts atoms (`Point`, `Categorical`, `Empirical`): a `Categorical`
            for a mixture, a `Point` for the average of points. Otherwise `Quantiles` at 100 levels, so that
            the outer half percent on each side is cut off.

        Raises:
            ArgumentError: a source cannot score a conversation.
        """
        return self.combined(self.source_distributions(conversations))

    def combined(self, distributions: Sequence[RewardDistribution]) -> RewardDistribution:
        """`distribution` from what `source_distributions` returned."""
        if len(distributions) == 1:
            return distributions[0]
        dtype = max((distribution.dtype for distribution in distributions), key=lambda d: torch.finfo(d).bits)
        distributions = [one.to(distributions[0].device, dtype) for one in distributions]
        weights = self.weights.to(distributions[0].device, dtype)
        if self.how == "mixture":
            return _mixed(distributions, weights)
        return _averaged(distributions, weights)

    # -- files -----------------------------------------------------------------------------------

    def save_pretrained(self, path: str | os.PathLike[str]) -> Path:
        """Writes a folder with the maps and a model folder per source, atomically.

        Raises:
            ArtifactError: a source is not a `RewardModel`, or the path exists and is not empty.
        """
        return combination_folder.write(path, self.sources, self.maps, self.weights.tolist(), self.how)

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        backbone: Backbone | None = None,
        device: str | None = None,
        cache: EmbeddingCache | str | None = "default",
    ) -> Self:
        """Loads a folder written by `save_pretrained`; arguments as in `RewardModel.from_pretrained`.

        A backbone that several sources share is loaded once.

        Raises:
            ArtifactError: the folder is missing or damaged.
            FingerprintError: a backbone's weights are not those that its head was fitted on.
        """
        stored = combination_folder.read(path, backbone=backbone, device=device, cache=cache)
        try:
            return cls(stored.sources, stored.maps, torch.tensor(stored.weights), _check_how(stored.how))
        except ArgumentError as error:
            raise ArtifactError(f"{path} is damaged ({error}); combine again") from error


def _mixed(distributions: Sequence[RewardDistribution], weights: Tensor) -> RewardDistribution:
    """The mixture: exact for atoms, otherwise at `LEVELS`."""
    parts = [distribution.point_masses() for distribution in distributions]
    if all(part is not None for part in parts):
        atoms = torch.cat([part[0] for part in parts if part is not None], 1)
        probs = [w * part[1] for w, part in zip(weights, parts, strict=True) if part is not None]
        return Categorical(torch.cat(probs, 1), atoms)
    values, levels = _read(distributions)
    if not len(values):
        return Quantiles(values[:, 0], levels)
    return mixture(values, weights.expand(len(values), -1), levels)


def _averaged(distributions: Sequence[RewardDistribution], weights: Tensor) -> RewardDistribution:
    """The average of quantile functions: exact for points, otherwise at `LEVELS`."""
    if all(distribution.is_point for distribution in distributions):
        return Point(torch.stack([distribution.mean() for distribution in distributions], 1) @ weights)
    values, levels = _read(distributions)
    return vincentize(values, weights.expand(len(values), -1), levels)


def _read(distributions: Sequence[RewardDistribution]) -> tuple[Tensor, Tensor]:
    levels = LEVELS.to(distributions[0].device, distributions[0].dtype)
    return torch.stack([distribution.quantile(levels) for distribution in distributions], 1), levels


def _weights(weights: Any, num_sources: int) -> Tensor:
    """Weights as shares, [S] in float64."""
    if weights is None:
        return torch.full((num_sources,), 1 / num_sources, dtype=torch.float64)
    try:
        given = torch.as_tensor(weights, dtype=torch.float64).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"weights must be numbers, one per source; received {weights!r}") from error
    legal = given.shape == (num_sources,) and bool((given.isfinite() & (given >= 0)).all())
    if not legal or not float(given.sum()) > 0:
        raise ArgumentError(
            f"weights must be {num_sources} finite numbers of at least 0, not all 0; received {weights!r}"
        )
    return as_shares(given)


def _check_how(how: Any) -> How:
    if how not in get_args(How):
        raise ArgumentError(f"how must be one of {', '.join(get_args(How))}; received {how!r}")
    known: How = how
    return known
