"""The order in which texts run, and their distribution over processes.

In: a table of texts, and which of them must be computed. Out: an order, and the bounds of shares. A text's
cost is estimated from its bytes instead of its tokens, so that no process tokenizes another's texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pluralign.backbones.plan import TextTable, digest
from pluralign.conversations import Conversation, prompt_text, response_text

__all__ = ["divide", "estimate_tokens", "prompts_together"]

_BYTES_PER_TOKEN = 4.0
# A share may deviate by this fraction to keep the responses to a prompt in one process.
_LEEWAY = 1 / 8


def prompts_together(
    texts: NDArray[np.int64], table: TextTable, conversations: Sequence[Conversation]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same texts with those of one prompt next to each other, in order of first appearance.

    Returns:
        `texts` in that order, and for each the number of its prompt; texts that are not whole conversations
        keep their order, each as a prompt of its own.
    """
    if table.kind != "conversation":
        return texts, np.arange(len(texts))
    base, first = hashlib.blake2b(digest_size=16), dict[bytes, int]()
    groups = np.empty(len(texts), dtype=np.int64)
    for place, row in enumerate(table.source[texts].tolist()):
        parts = [
            text for message in conversations[row][:-1] for text in (message["role"], message["content"])
        ]
        groups[place] = first.setdefault(digest(base, parts), place)
    order = np.argsort(groups, kind="stable")
    return texts[order], groups[order]


def estimate_tokens(
    kind: str,
    conversations: Sequence[Conversation],
    groups: NDArray[np.int64],
    *,
    max_length: int,
    share_prompts: bool,
) -> NDArray[np.float64]:
    """The approximate cost of each text in tokens.

    Args:
        kind: the kind of text, as `Reader.read` takes it.
        conversations: one per text.
        groups: `[M]`, the number of each text's prompt; equal ones are neighbours.
        max_length: maximum tokens of a text.
        share_prompts: whether a prompt's cost counts only for its first text.
    """
    prompts = np.array([0 if kind == "response" else _num_bytes(prompt_text(one)) for one in conversations])
    responses = np.array([0 if kind == "prompt" else _num_bytes(response_text(one)) for one in conversations])
    tokens: NDArray[np.float64] = np.minimum((prompts + responses) / _BYTES_PER_TOKEN + 1, max_length)
    if share_prompts and kind == "conversation":
        paid = np.append(False, groups[1:] == groups[:-1])
        alone = np.minimum(responses / _BYTES_PER_TOKEN + 1, max_length)
        tokens = np.where(paid, alone, tokens)
    return tokens


def divide(costs: NDArray[np.float64], groups: NDArray[np.int64], num_shares: int) -> list[int]:
    """Bounds of `num_shares` runs of neighbouring texts with costs as equal as possible.

    A bound that falls between the responses to one prompt moves to their beginning or end, unless that
    unbalances a share by more than an eighth.

    Args:
        costs: `[M]`, positive.
        groups: `[M]`, the number of each text's prompt; equal ones are neighbours.
        num_shares: number of shares, at least one; some may be empty.

    Returns:
        `num_shares + 1` positions; share `r` is `bounds[r] : bounds[r + 1]`.
    """
    spent = np.append(0.0, np.cumsum(costs))
    fair = spent[-1] / num_shares
    goals = fair * np.arange(num_shares + 1)
    edges = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1], [True]]))
    anywhere = _nearest(spent, goals)
    between_prompts = edges[_nearest(spent[edges], goals)]
    near = np.abs(spent[between_prompts] - goals) <= _LEEWAY * fair
    return [int(bound) for bound in np.where(near, between_prompts, anywhere)]


def _nearest(ascending: NDArray[np.float64], goals: NDArray[np.float64]) -> NDArray[np.int64]:
    right = np.searchsorted(ascending, goals).clip(1, len(ascending) - 1)
    return np.where(goals - ascending[right - 1] < ascending[right] - goals, right - 1, right)


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8"))
