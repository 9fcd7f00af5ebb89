"""Scores from other sources of rewards: a judge's column, repeated scores, score-token probabilities.

In: conversations and their scores, row by row. Out: a `Scorer` that looks conversations up by their
text. A conversation without a score is an error; a missing score is never replaced by a number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.conversations import check
from pluralign.distributions import Categorical, Empirical, Point, RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.model.inputs import Conversation
from pluralign.model.scorer import BaseScorer, as_conversations

__all__ = ["JudgedResponses", "judge_probabilities", "judge_scores"]


@final
class JudgedResponses(BaseScorer):
    """Known rewards of known responses.

    Args:
        conversations: N message lists, each ending in the response.
        distribution: their rewards, N rows. A conversation may come twice with the same reward, not with two.

    Raises:
        ArgumentError: the numbers of rows differ, or a conversation has two rewards.
    """

    def __init__(self, conversations: Sequence[Conversation], distribution: RewardDistribution) -> None:
        listed = as_conversations(conversations)
        if len(listed) != len(distribution):
            raise ArgumentError(
                f"received {len(listed)} conversations and {len(distribution)} rows of scores; needed: one "
                "row each"
            )
        self._law = distribution
        self._rows: dict[bytes, int] = {}
        for row, conversation in enumerate(listed):
            known = self._rows.setdefault(_key(conversation, row), row)
            if known != row and not _equal(distribution[[known]], distribution[[row]]):
                raise ArgumentError(
                    f"conversations {known} and {row} are the same and have different rewards; pass repeated "
                    "scores as one row of judge_scores"
                )

    def distribution(self, conversations: Sequence[Conversation]) -> RewardDistribution:
        """The stored reward of each response.

        Raises:
            ArgumentError: a conversation has no score.
        """
        keys = [_key(c, i) for i, c in enumerate(as_conversations(conversations))]
        missing = [i for i, key in enumerate(keys) if key not in self._rows]
        if missing:
            raise ArgumentError(
                f"{len(missing)} of {len(keys)} conversations have no score, the first is conversation "
                f"{missing[0]}; there are scores for {len(self._rows)} other conversations"
            )
        return self._law[torch.tensor([self._rows[key] for key in keys], dtype=torch.int64)]


def judge_scores(
    conversations: Sequence[Conversation], scores: Float[Tensor, " N"] | Float[Tensor, "N R"] | Any
) -> JudgedResponses:
    """A column of judge scores, or repeated scores of each response.

    Args:
        conversations: N message lists, each ending in the response.
        scores: [N], a `Point` each; or [N, R] padded with NaN, an `Empirical` each, so that an uncertain
            judge has a spread.

    Raises:
        ArgumentError: a response has no score, a score is not finite, or the rows do not match.
    """
    given = _tensor(scores, "scores")
    if given.ndim not in (1, 2):
        raise ArgumentError(f"scores must be [N] or [N, R], received {list(given.shape)}")
    infinite = given.isinf().nonzero()
    if len(infinite):
        raise ArgumentError(
            f"row {int(infinite[0, 0])} has an infinite score, one of {len(infinite)}; for a missing "
            "score pad with NaN, or leave the row out"
        )
    present = ~given.isnan()
    empty = (~(present if given.ndim == 1 else present.any(1))).nonzero().flatten()
    if len(empty):
        raise ArgumentError(
            f"row {int(empty[0])} has no score, as do {len(empty)} rows in total; leave them out"
        )
    distribution = Point(given) if given.ndim == 1 else Empirical(given, present)
    return JudgedResponses(conversations, distribution)


def judge_probabilities(
    conversations: Sequence[Conversation], probs: Float[Tensor, "N C"] | Any, atoms: Any
) -> JudgedResponses:
    """The probabilities that a judge assigns to its score tokens, a `Categorical` each.

    Args:
        conversations: N message lists, each ending in the response.
        probs: of the C score tokens, [N, C], each row summing to 1 within 1e-2: renormalise if the judge
            assigns probability to other tokens, or leave the row out if that is much.
        atoms: the score that each token stands for, [C].

    Raises:
        ArgumentError: probabilities do not sum to 1, or the rows do not match.
    """
    given = _tensor(probs, "probs")
    if given.ndim != 2:
        raise ArgumentError(f"probs must be [N, C], received {list(given.shape)}")
    wrong = (~((given.sum(1) - 1).abs() <= 1e-2)).nonzero().flatten()
    if len(wrong):
        raise ArgumentError(
            f"row {int(wrong[0])} of probs sums to {float(given[wrong[0]].sum()):.4g} instead of 1, and "
            f"{len(wrong)} of {len(given)} rows do not; divide by the sum over the score tokens, or leave "
            "the rows out"
        )
    return JudgedResponses(conversations, Categorical(given, atoms))


def _tensor(values: Any, name: str) -> Tensor:
    try:
        given = torch.as_tensor(values)
        return given if given.is_floating_point() else given.to(torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"{name} must be numbers, row by row: {_wrong_row(values)}") from error


def _wrong_row(values: Any) -> str:
    """Why the rows do not form a tensor: the first entry that is not a number, or rows of different
    lengths."""
    rows = list(values) if isinstance(values, Iterable) else [values]
    for place, row in enumerate(rows):
        entries = row if isinstance(row, list | tuple) else [row]
        for entry in entries:
            try:
                torch.as_tensor(entry)
            except (TypeError, ValueError, RuntimeError):
                hint = "; for a missing score, pad with NaN or leave the row out" if entry is None else ""
                return f"row {place} has {entry!r}{hint}"
    return "rows have different lengths; pad with NaN"


def _equal(one: RewardDistribution, other: RewardDistribution) -> bool:
    """Whether two rewards are the same up to rounding."""
    distance = one.wasserstein(other)
    rounding = 8 * torch.finfo(distance.dtype).eps
    return float(distance) <= rounding * float(one.mean().abs() + one.std())


def _key(conversation: Conversation, index: int) -> bytes:
    """Identifies a conversation by its roles and contents."""
    check(conversation, index)
    text = json.dumps([[message["role"], message["content"]] for message in conversation])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
