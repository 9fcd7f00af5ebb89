"""`Scorer`: anything that predicts reward distributions for conversations; reward models, judges,
combinations.

In: conversations. Out: `RewardDistribution`s whose number of rows is checked, and utilities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from pluralign import risk
from pluralign.distributions import RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.model.inputs import Conversation
from pluralign.risk import parse

__all__ = ["BaseScorer", "Scorer", "as_conversations", "distributions_of", "member_spreads", "utilities"]


@runtime_checkable
class Scorer(Protocol):
    """Anything with `distribution`: one reward distribution per conversation, in order."""

    def distribution(self, conversations: Sequence[Conversation], /) -> RewardDistribution:
        """The reward distribution of each response."""
        ...


class BaseScorer(ABC):
    """Utilities and preference probabilities for a class that defines `distribution`."""

    @abstractmethod
    def distribution(self, conversations: Sequence[Conversation]) -> RewardDistribution:
        """The reward distribution of each response."""

    def score(
        self, conversations: Sequence[Conversation], risk: str | risk.RiskMeasure = "mean"
    ) -> Float[Tensor, " B"]:
        """The utility of each response: a risk measure of its reward distribution.

        Args:
            conversations: B message lists, each ending in the response.
            risk: a risk measure or its name, e.g. `mean`, `cvar:0.1`, `entropic:1`.

        Raises:
            RiskError: the measure does not exist or does not apply.
            ArgumentError: a utility is not finite.
        """
        return utilities(parse(risk), self.distribution(conversations))

    def preference_probability(
        self, chosen: Sequence[Conversation], rejected: Sequence[Conversation]
    ) -> Float[Tensor, " B"]:
        """P(chosen is preferred to rejected), for each pair.

        P(R1 > R2) + P(R1 = R2) / 2 for independent rewards, which is not quite the same, since the same
        person rates both; for a Bradley-Terry head the sigmoid of the difference.

        Raises:
            ArgumentError: the numbers of conversations differ.
        """
        chosen, rejected = as_conversations(chosen), as_conversations(rejected)
        if len(chosen) != len(rejected):
            raise ArgumentError(
                f"received {len(chosen)} chosen and {len(rejected)} rejected conversations; needed: "
                "equally many"
            )
        both = self.distribution([*chosen, *rejected])
        return self.preferred(both[: len(chosen)], both[len(chosen) :])

    def preferred(self, chosen: RewardDistribution, rejected: RewardDistribution) -> Float[Tensor, " B"]:
        """`preference_probability` from reward distributions."""
        return chosen.prob_greater(rejected)


def utilities(measure: risk.RiskMeasure, distribution: RewardDistribution) -> Float[Tensor, " B"]:
    """A risk measure of each distribution, [B], all finite.

    Raises:
        RiskError: the measure does not apply.
        ArgumentError: a utility is not finite; the message names the rows.
    """
    found = measure(distribution)
    bad = (~found.detach().isfinite()).nonzero().flatten().tolist()
    if bad:
        rows = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        raise ArgumentError(
            f"{measure} gives {float(found[bad[0]])} for conversation {rows}; needed: finite numbers. Check "
            "the reward distributions of these, and choose a measure or a parameter that does not overflow"
        )
    return found


def distributions_of(scorer: Scorer, conversations: Sequence[Conversation], name: str) -> RewardDistribution:
    """A scorer's predictions, checked to be one distribution per conversation.

    Raises:
        ArgumentError: it is not a scorer, or returns something else.
    """
    if not isinstance(scorer, Scorer):
        raise ArgumentError(
            f"{name} is {type(scorer).__name__}; needed: a reward model, or anything with "
            "distribution(conversations). Judge scores go through pluralign.model.judge_scores"
        )
    distribution = scorer.distribution(conversations)
    if not isinstance(distribution, RewardDistribution):
        raise ArgumentError(f"{name} returned {type(distribution).__name__}; needed: a RewardDistribution")
    if len(distribution) != len(conversations):
        raise ArgumentError(
            f"{name} returned {len(distribution)} rewards for {len(conversations)} conversations"
        )
    return distribution


def member_spreads(distribution: RewardDistribution) -> dict[str, list[float]]:
    """Of an ensemble, the standard deviation within its members, `within_std`, and that between them,
    `between_std`, a number per row each; nothing where there are no two members."""
    members = distribution.members()
    if members is None or len(members) < 2:
        return {}
    parts = distribution.variances()
    return {f"{name}_std": part.sqrt().tolist() for name, part in parts._asdict().items()}


def as_conversations(conversations: Any) -> list[Conversation]:
    """Any iterable of conversations as a list; rejects a text or a single conversation."""
    if isinstance(conversations, str | Mapping) or not isinstance(conversations, Iterable):
        raise ArgumentError(
            f"conversations: received {type(conversations).__name__}; needed: a list of conversations, each "
            "a list of messages {role, content} that ends in the response"
        )
    return list(conversations)
