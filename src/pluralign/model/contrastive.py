"""Contrastive rewards: how much better a response is than the initial policy's responses to the same prompt.

    r'(x, y) = u(x, y) - mean_j u(x, y_j)        y_j: responses of the initial policy to x

In: a reward model, responses of the initial policy, conversations. Out: utilities. Whatever a reward model
adds to all responses of a prompt cancels, so that easy prompts do not outweigh hard ones.

Paper: Shen et al. 2024, arXiv 2403.07708, section 3; utilities of any risk measure are this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign import risk as measures
from pluralign.errors import ArgumentError
from pluralign.model.inputs import Conversation
from pluralign.model.reward_model import RewardModel
from pluralign.model.scorer import BaseScorer, as_conversations

__all__ = ["Contrastive"]

_Key = tuple[tuple[str, str], ...]


class Contrastive:
    """A reward model relative to the initial policy's responses.

    Args:
        model: a reward model of any family, or a combination.
        references: conversations that end in a response of the initial policy; those of one prompt belong
            together. Several per prompt make the baseline less noisy.

    Raises:
        ArgumentError: there are no references, a conversation is not valid, or the model cannot score.
    """

    def __init__(self, model: RewardModel | BaseScorer, references: Sequence[Conversation]) -> None:
        self.model = model
        if not hasattr(model, "score"):
            raise ArgumentError(f"model is {type(model).__name__}; needed: a reward model or a combination")
        self._references = as_conversations(references)
        if not self._references:
            raise ArgumentError(
                "received no reference responses; pass at least one conversation per prompt, each ending in "
                "a response of the initial policy"
            )
        self._prompts = [_prompt(c) for c in self._references]
        self._baselines: dict[str, dict[_Key, float]] = {}

    def baseline(
        self, conversations: Sequence[Conversation], risk: str | measures.RiskMeasure = "mean"
    ) -> Float[Tensor, " B"]:
        """The mean utility of the references of each conversation's prompt.

        Args:
            conversations: B message lists, each ending in a response.
            risk: a risk measure or its name.

        Returns:
            [B], in the unit of `RewardModel.score`.

        Raises:
            ArgumentError: a prompt has no reference, or a conversation is not valid.
            RiskError: the measure does not exist or does not apply to this family.
        """
        known = self._known(measures.parse(risk))
        keys = [_prompt(c) for c in as_conversations(conversations)]
        missing = [row for row, key in enumerate(keys) if key not in known]
        if missing:
            raise ArgumentError(
                f"{len(missing)} of {len(keys)} conversations have a prompt without reference responses; the "
                f"first is number {missing[0]}: {_shown(keys[missing[0]])!r}. Sample responses of the "
                "initial policy for them and pass these as references"
            )
        return torch.tensor([known[key] for key in keys])

    def score(
        self, conversations: Sequence[Conversation], risk: str | measures.RiskMeasure = "mean"
    ) -> Float[Tensor, " B"]:
        """The utility of each response minus that of the references. Arguments and errors as in
        `baseline`."""
        listed = as_conversations(conversations)
        baseline = self.baseline(listed, risk)
        utility = self.model.score(listed, risk)
        return utility - baseline.to(utility)

    def _known(self, measure: measures.RiskMeasure) -> dict[_Key, float]:
        """The baseline of every prompt, computed once per measure."""
        name = str(measure)
        if name not in self._baselines:
            utilities = self.model.score(self._references, measure).cpu().double().tolist()
            by_prompt: dict[_Key, list[float]] = {}
            for key, utility in zip(self._prompts, utilities, strict=True):
                by_prompt.setdefault(key, []).append(utility)
            self._baselines[name] = {key: sum(us) / len(us) for key, us in by_prompt.items()}
        return self._baselines[name]


def _prompt(conversation: Any) -> _Key:
    """The prompt of a response: all messages before it."""
    try:
        return tuple((message["role"], message["content"]) for message in conversation[:-1])
    except (TypeError, KeyError) as error:
        raise ArgumentError(
            f"received {conversation!r:.80}; needed: a list of messages {{role, content}} that ends in a "
            "response"
        ) from error


def _shown(key: _Key) -> str:
    return (key[-1][1] if key else "")[:80]
