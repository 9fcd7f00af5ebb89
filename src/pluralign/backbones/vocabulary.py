"""Which token ids a model has embeddings for: the padding id, and a substitute for a text without tokens.

In: a model, its tokenizer, and `Tokens`. Out: `Tokens` that are safe to run, or an error that names the
token. Tokenizers that were extended without the model (a pad token added, embeddings not resized) are common;
a pad token needs no embedding, a token of a text does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pluralign.backbones.tokens import Tokens
from pluralign.errors import ArgumentError

__all__ = ["Vocabulary"]


class Vocabulary:
    """The ids that a model has embeddings for.

    Args:
        model: a Hugging Face model without a task head.
        tokenizer: its tokenizer.

    Attributes:
        num_rows: rows of the model's input embedding table; None if it has no such table.
        pad_id: a valid id for padding; masked, so its value does not matter.
        shortest: minimum tokens of a text that the model can read.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.shortest = 1
        self.num_rows = _num_rows(model)
        named = (tokenizer.pad_token_id, getattr(model.config, "pad_token_id", None))
        self.pad_id: int = next((one for one in named if one is not None and self._legal(one)), 0)
        opening = (tokenizer.bos_token_id, tokenizer.cls_token_id)
        closing = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
        self._stand_in = next((one for one in (*opening, *closing) if self._legal(one)), None)

    def _legal(self, token: Any) -> bool:
        return isinstance(token, int) and token >= 0 and (self.num_rows is None or token < self.num_rows)

    def ordinary_ids(self) -> NDArray[np.int64]:
        """Valid ids of tokens that are not special, a few thousand at most; all ids if all are special."""
        size = min(len(self._tokenizer), self.num_rows or len(self._tokenizer), 4096)
        special = set(self._tokenizer.all_special_ids)
        ordinary = [one for one in range(size) if one not in special]
        return np.array(ordinary or range(size), dtype=np.int64)

    def checked(self, text: Tokens, kind: str, row: int) -> Tokens:
        """The text in a form that can be run.

        A text without any token is represented by the tokenizer's first special token (of bos, cls, eos, sep,
        pad), as a prompt: its response still has no tokens.

        Args:
            text: the tokenizer's output.
            kind: `response`, `prompt`, `pair` or `conversation`, for the message.
            row: the conversation that the text is from, for the message.

        Raises:
            ArgumentError: a token is outside the model's table, there are too few tokens for the model, or
                none and no special token to replace it.
        """
        if not len(text.ids):
            text = self._filled(text, kind, row)
        if len(text.ids) < self.shortest:
            raise ArgumentError(
                f"the {kind} of conversation {row} has {len(text.ids)} tokens, and the model cannot read "
                f"fewer than {self.shortest}; leave the row out"
            )
        largest = int(text.ids.max())
        if self.num_rows is not None and largest >= self.num_rows:
            token = self._tokenizer.convert_ids_to_tokens(largest)
            raise ArgumentError(
                f"the {kind} of conversation {row} has the token {token!r} with id {largest}, but the model "
                f"has embeddings for ids 0 to {self.num_rows - 1} only: the tokenizer was extended and the "
                "model was not. Take the token out of the text, use the tokenizer that the model was trained "
                "with, or resize the model's embeddings (resize_token_embeddings), train them and save it"
            )
        return text

    def _filled(self, text: Tokens, kind: str, row: int) -> Tokens:
        if self._stand_in is None:
            raise ArgumentError(
                f"the {kind} of conversation {row} has no tokens, and the tokenizer has no special token "
                "(bos, cls, eos, sep or pad) that could represent an empty text; leave the row out, or give "
                "the tokenizer such a token"
            )
        ids = np.array([self._stand_in], dtype=np.int64)
        return Tokens(ids, None if text.types is None else np.zeros_like(ids), 1, text.truncated)


def _num_rows(model: Any) -> int | None:
    try:
        table = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    # Not the weight's shape: quantised, sharded and offloaded weights have a different one.
    for name in ("num_embeddings", "vocab_size"):
        rows = getattr(table, name, None)
        if isinstance(rows, int):
            return rows
    weight = getattr(table, "weight", None)
    return int(weight.shape[0]) if isinstance(weight, Tensor) and weight.ndim == 2 else None
