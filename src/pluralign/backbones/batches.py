"""Batches of texts of similar length under a token budget, and the padded tensors of a batch.

In: `Tokens`. Out: lists of positions, and the tensors for a model's forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pluralign.backbones.tokens import Tokens

__all__ = ["PaddedBatch", "by_equal_length", "by_side", "by_token_budget", "collate"]


class PaddedBatch(NamedTuple):
    """Tensors of one batch: `[B, T]` each, positions `[B]`."""

    input_ids: Tensor
    attention_mask: Tensor
    types: Tensor | None
    begin: Tensor  # [B], where each text begins: 0, or the number of pad tokens to its left
    stop: Tensor  # [B], one past each text's last token


def by_token_budget(lengths: Sequence[int], max_tokens: int, extra: int = 0) -> Iterator[list[int]]:
    """Positions in batches, longest texts first, each batch padded to at most `max_tokens` tokens.

    A batch that is at least an eighth full also ends before a text that would be more than a quarter padding.

    Args:
        lengths: tokens of each text.
        max_tokens: maximum tokens of a padded batch; a longer text forms a batch of its own.
        extra: additional cost of each row in tokens (a shared prompt held in memory).
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    sizes = sizes[order]
    place = 0
    while place < len(order):
        cost = max(1, int(sizes[place]) + extra)
        most = place + max(1, max_tokens // cost)
        least = place + max(1, max_tokens // 8 // cost)
        alike = int(np.searchsorted(-sizes, -0.75 * sizes[place], side="right"))
        stop = min(most, max(least, alike))
        yield order[place:stop].tolist()
        place = stop


def by_equal_length(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Positions in batches of texts of equal length, longest first: nothing is padded.

    Args:
        lengths: tokens of each text.
        max_tokens: maximum tokens of a batch; a longer text forms a batch of its own.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(sizes[order])) + 1):
        if len(group):
            most = max(1, max_tokens // max(1, int(sizes[group[0]])))
            yield from (group[at : at + most].tolist() for at in range(0, len(group), most))


def by_side(lengths: Sequence[int], limit: int | None) -> list[list[int]]:
    """Positions of texts of at most `limit` tokens, and of longer ones; all together where it is None."""
    if limit is None:
        return [list(range(len(lengths)))]
    short = [place for place, length in enumerate(lengths) if length <= limit]
    long = [place for place, length in enumerate(lengths) if length > limit]
    return [side for side in (short, long) if side]


def collate(texts: Sequence[Tokens], *, pad_id: int, side: str = "right") -> PaddedBatch:
    """Pad texts to the longest of them.

    Args:
        texts: the batch.
        pad_id: the padding id; masked, so its value does not matter.
        side: the side of the padding, `right` or `left`.
    """
    lengths = np.array([len(one.ids) for one in texts])
    longest = int(lengths.max())
    begin = longest - lengths if side == "left" else np.zeros_like(lengths)
    ids = np.full((len(texts), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    types = np.zeros_like(ids)
    for row, (one, at, length) in enumerate(zip(texts, begin, lengths, strict=True)):
        ids[row, at : at + length] = one.ids
        mask[row, at : at + length] = 1
        if one.types is not None:
            types[row, at : at + length] = one.types
    return PaddedBatch(
        torch.from_numpy(ids),
        torch.from_numpy(mask),
        torch.from_numpy(types) if texts[0].types is not None else None,
        torch.from_numpy(begin),
        torch.from_numpy(begin + lengths),
    )
