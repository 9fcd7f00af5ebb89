"""What a backbone with a head predicts: from text, or from vectors, to distributions, utilities and votes.

In: conversations, each a list of {role, content} messages that ends in the response to score. Out:
`RewardDistribution`, or a number through a risk measure; corrected where the model is calibrated. Measuring
corrections and storing models is left to `RewardModel`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign import risk
from pluralign.distributions import RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.heads import Head, HeadInputs, Steering
from pluralign.model.inputs import Conversation, head_inputs
from pluralign.model.recalibration import Recalibration
from pluralign.model.scorer import BaseScorer, as_conversations, utilities
from pluralign.model.steering import Weights, parse_steering
from pluralign.model.temperature import Temperature
from pluralign.risk import parse

if TYPE_CHECKING:
    from pluralign.backbones import Backbone, EmbeddingCache, Embeddings

__all__ = ["EmbeddingScorer"]


class EmbeddingScorer(BaseScorer):
    """The predicting half of `RewardModel`.

    Args:
        backbone: turns conversations into embeddings.
        head: turns embeddings into reward distributions.
        cache: where embeddings are stored; None embeds every text again.
        calibration: corrections of the attributes' distributions, by name.
        temperature: correction of the probabilities of preferences or votes.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        *,
        cache: EmbeddingCache | None = None,
        calibration: Mapping[str, Recalibration] | None = None,
        temperature: Temperature | None = None,
    ) -> None:
        self.backbone = backbone
        self.head = head
        self.cache = cache
        self.calibration = dict(calibration or {})
        self.temperature = temperature

    @property
    def family(self) -> str:
        """Name of the head's family."""
        return self.head.family

    def embed(self, conversations: Sequence[Conversation], progress: bool | None = None) -> Embeddings:
        """Embeddings of conversations, from the cache if possible.

        Args:
            conversations: message lists, each ending in the response.
            progress: True or False for a bar or none; None for a bar if stderr is a terminal.

        Raises:
            ArgumentError: a conversation is empty, is a plain string, or does not end in a response.
        """
        return self.backbone.embed(as_conversations(conversations), cache=self.cache, progress=progress)

    def read(self, conversations: Sequence[Conversation], progress: bool | None = None) -> HeadInputs:
        """The head's inputs for conversations: `model.head.distribution(*model.read(conversations))`.

        Arguments and errors as in `embed`.
        """
        listed = as_conversations(conversations)
        return head_inputs(self.head, listed, self.embed(listed, progress=progress))

    @torch.no_grad()
    def distribution(
        self,
        conversations: Sequence[Conversation],
        *,
        weights: Weights | None = None,
        steer: Mapping[str, str | risk.RiskMeasure] | None = None,
    ) -> RewardDistribution:
        """The reward distribution of each response, in units of the reference standard deviation.

        Args:
            conversations: B message lists, each ending in the response.
            weights: weights of the attributes that replace the gate for every prompt: a mapping by name, with
                0 for attributes that are not named, or one number per attribute in order. Only ratios matter.
            steer: attributes that enter the mix as one number, a risk measure of their own distribution:
                `{"safety": "quantile:0.05"}`. Allowed: mean, median, quantile:t, cvar:a.

        Raises:
            ArgumentError: an attribute that the model does not have, weights that are negative or all 0, or
                an invalid conversation.
            RiskError: a measure that does not exist or is not allowed here.
        """
        steering = self.steering(weights, steer)
        return self.head.distribution(*self.read(conversations), steering=steering)

    @torch.no_grad()
    def attribute_distributions(
        self, conversations: Sequence[Conversation], *, on_grid: bool = False
    ) -> dict[str, RewardDistribution]:
        """One distribution per attribute, each on the scale of its ratings.

        Ratings on a grid of step h are fitted as if each were spread over its step, so these distributions
        are continuous and may reach half a step beyond the scale, and predictions further.

        Args:
            conversations: B message lists, each ending in the response.
            on_grid: round them to the ratings that people can give: a `Categorical` over the grid where an
                attribute's ratings are on one (`heads.Head.rounded`).
        """
        response = self.embed(conversations).response
        return self.predicted_attributes(response, on_grid=on_grid)

    def predicted_attributes(
        self, response: Float[Tensor, "N D"], *, on_grid: bool = False
    ) -> dict[str, RewardDistribution]:
        """`attribute_distributions` of texts that are embedded already, corrected where it is calibrated."""
        found = self.head.attribute_distributions(response)
        found |= {name: correct(found[name]) for name, correct in self.calibration.items()}
        return self.head.rounded(found) if on_grid else found

    @torch.no_grad()
    def distributions(
        self,
        conversations: Sequence[Conversation],
        *,
        weights: Weights | None = None,
        steer: Mapping[str, str | risk.RiskMeasure] | None = None,
        on_grid: bool = False,
    ) -> tuple[RewardDistribution, dict[str, RewardDistribution]]:
        """`distribution` and `attribute_distributions` from one pass through the backbone."""
        steering, inputs = self.steering(weights, steer), self.read(conversations)
        return (
            self.head.distribution(*inputs, steering=steering),
            self.predicted_attributes(inputs.response, on_grid=on_grid),
        )

    @torch.no_grad()
    def distributions_and_gate(
        self,
        conversations: Sequence[Conversation],
        *,
        weights: Weights | None = None,
        steer: Mapping[str, str | risk.RiskMeasure] | None = None,
    ) -> tuple[RewardDistribution, dict[str, RewardDistribution], Float[Tensor, "B A"] | None]:
        """`distributions`, and the gate's weights, from one pass through the backbone.

        They are None without a gate, and if `weights` replace it.
        """
        steering, inputs = self.steering(weights, steer), self.read(conversations)
        gate = self.head.gate_weights(inputs.prompt) if self.head.has_gate and weights is None else None
        distribution = self.head.distribution(*inputs, steering=steering)
        return distribution, self.predicted_attributes(inputs.response), gate

    @torch.no_grad()
    def gate_weights(self, conversations: Sequence[Conversation]) -> Float[Tensor, "B A"]:
        """The weight of each attribute for each prompt, in the order of `model.head.attributes`."""
        return self.head.gate_weights(self.embed(conversations).prompt)

    def score(
        self,
        conversations: Sequence[Conversation],
        risk: str | risk.RiskMeasure = "mean",
        *,
        weights: Weights | None = None,
        steer: Mapping[str, str | risk.RiskMeasure] | None = None,
    ) -> Float[Tensor, " B"]:
        """The utility of each response: a risk measure of its reward distribution.

        Args:
            conversations: B message lists, each ending in the response.
            risk: a risk measure or its name, e.g. `mean`, `cvar:0.1`, `entropic:1`.
            weights: attribute weights instead of the gate's, as in `distribution`.
            steer: attributes that are replaced by a measure of their own, as in `distribution`.

        Returns:
            [B], in units of the reference standard deviation; higher is better.

        Raises:
            ArgumentError: as in `distribution`, or a utility is not finite.
            RiskError: the measure does not exist or does not apply to this family.
        """
        measure = parse(risk)
        return utilities(measure, self.distribution(conversations, weights=weights, steer=steer))

    @torch.no_grad()
    def vote_probabilities(
        self, first: Sequence[Conversation], second: Sequence[Conversation]
    ) -> Float[Tensor, "B 3"]:
        """How people would vote on each pair: P(the first is better), P(tie), P(the second is better).

        Args:
            first: B message lists, each ending in a response.
            second: as many, with the other responses.

        Raises:
            ArgumentError: the numbers of conversations differ, or the model was not fitted on comparisons,
                so that it knows no ties.
        """
        a, b = as_conversations(first), as_conversations(second)
        if len(a) != len(b):
            raise ArgumentError(
                f"received {len(a)} first and {len(b)} second conversations; needed: equally many"
            )
        both = self.distribution([*a, *b])
        found = self.predicted_votes(both[: len(a)], both[len(a) :])
        if found is None:
            raise ArgumentError(
                f"this {self.family} model was not fitted on comparisons, so it does not know how often "
                "people call two responses equal; fit the categorical family on votes, or use "
                "preference_probability"
            )
        return found

    def preferred(self, chosen: RewardDistribution, rejected: RewardDistribution) -> Float[Tensor, " B"]:
        """`preference_probability` from distributions; corrected if the model is calibrated."""
        if self.temperature is not None and self.temperature.kind == "votes":
            votes = self.predicted_votes(chosen, rejected)
            assert votes is not None  # it was calibrated on them
            return votes[:, 0] + 0.5 * votes[:, 1]
        found = self.head.preference_probability(chosen, rejected)
        return found if self.temperature is None else self.temperature.of_preference(found)

    def predicted_votes(
        self, first: RewardDistribution, second: RewardDistribution
    ) -> Float[Tensor, "B 3"] | None:
        """`vote_probabilities` of texts whose distributions are known; None if the head knows no ties."""
        found = self.head.vote_probabilities(first, second)
        if found is None or self.temperature is None or self.temperature.kind != "votes":
            return found
        return self.temperature(found)

    def steering(
        self, weights: Weights | None = None, steer: Mapping[str, str | risk.RiskMeasure] | None = None
    ) -> Steering:
        """Checked settings for `model.head.distribution(*model.read(conversations), steering=...)`.

        Arguments and errors as in `distribution`.
        """
        return parse_steering([a.name for a in self.head.attributes], weights, steer)
