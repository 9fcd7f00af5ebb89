"""The texts that a backbone runs, as token ids: which belong to prompt and response, and how they are
truncated.

In: conversations and a fast Hugging Face tokenizer. Out: `Tokens` per text.
Whole conversations, for decoders, are tokenized by `conversations`; encoders read one text, or two.

A text that is too long loses tokens in this order: the prompt from its left end, down to one token; then the
response from its right end. Special tokens that the tokenizer itself adds are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pluralign.conversations import Conversation, ConversationReader, prompt_text, response_text
from pluralign.errors import ArgumentError

__all__ = ["Reader", "Tokens", "cut"]

_FIXED, _PROMPT, _RESPONSE = 0, 1, 2


class Tokens(NamedTuple):
    """One text as the model reads it.

    Attributes:
        ids: `[T]` token ids.
        types: `[T]` segment ids, or None if the model has none.
        start: the response is `ids[start:]`; it may be empty.
        truncated: whether tokens were cut off.
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64] | None
    start: int
    truncated: bool

    @property
    def num_response(self) -> int:
        """The number of response tokens."""
        return len(self.ids) - self.start


def cut(roles: NDArray[np.int8], max_length: int) -> NDArray[np.bool_]:
    """Which tokens are kept, at most `max_length`.

    Args:
        roles: `[T]`, 0 for fixed special tokens, 1 for the prompt, 2 for the response.
        max_length: maximum number of tokens to keep.

    Returns:
        `[T]`, true for tokens that are kept: every special token, and at least the prompt's last token and
            the
        response's first. So more than `max_length` are kept if the special tokens alone nearly fill it.
    """
    keep = np.ones(len(roles), dtype=bool)
    excess = len(roles) - max_length
    if excess <= 0:
        return keep
    prompt, response = np.flatnonzero(roles == _PROMPT), np.flatnonzero(roles == _RESPONSE)
    from_prompt = min(excess, max(len(prompt) - 1, 0))
    keep[prompt[:from_prompt]] = False
    from_response = min(excess - from_prompt, max(len(response) - 1, 0))
    keep[response[len(response) - from_response :]] = False
    return keep


class Reader:
    """Turns conversations into `Tokens` with one tokenizer.

    Args:
        tokenizer: a fast tokenizer (one that reports character offsets).
        max_length: maximum tokens per text.
        with_types: whether the model takes segment ids.

    Attributes:
        changes: what the chat template did to conversations, and to how many.
    """

    def __init__(self, tokenizer: Any, max_length: int, *, with_types: bool) -> None:
        if not tokenizer.is_fast:
            raise ArgumentError(
                f"{type(tokenizer).__name__} reports no character offsets; save the model with a fast "
                "tokenizer (tokenizer.json)"
            )
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._with_types = with_types
        self._conversations = ConversationReader(tokenizer)
        self.changes: Counter[str] = Counter()

    def read(self, kind: str, conversations: Sequence[Conversation]) -> list[Tokens]:
        """Tokens of one part of each conversation.

        Args:
            kind: `response` or `prompt` (that text alone), `pair` (prompt and response as a text pair), or
                `conversation` (one text, by the chat template if there is one).
            conversations: messages that end in a response.
        """
        if not conversations:  # tokenizers refuse an empty list
            return []
        if kind == "response":
            return self._alone([response_text(one) for one in conversations], _RESPONSE)
        if kind == "prompt":
            return self._alone([prompt_text(one) for one in conversations], _PROMPT)
        if kind == "pair":
            return self._pairs([(prompt_text(one), response_text(one)) for one in conversations])
        return self._whole(conversations)

    def _encode(self, texts: Sequence[Any], **options: Any) -> Any:
        # verbose=False: texts beyond the limit are truncated and counted here, without a warning for each.
        return self._tokenizer(
            texts, padding=False, truncation=False, return_attention_mask=False, verbose=False, **options
        ).encodings

    def _alone(self, texts: list[str], role: int) -> list[Tokens]:
        found = []
        for one in self._encode(texts):
            roles = _roles(one.sequence_ids, role, role) if self._too_long(one) else None
            found.append(self._finish(one.ids, one.type_ids, 0, roles))
        return found

    def _pairs(self, texts: list[tuple[str, str]]) -> list[Tokens]:
        found = []
        for one in self._encode(texts):
            sequences = one.sequence_ids
            # An empty response leaves its closing special token as the span.
            start = sequences.index(1) if 1 in sequences else len(sequences) - 1
            roles = _roles(sequences, _PROMPT, _RESPONSE) if self._too_long(one) else None
            found.append(self._finish(one.ids, one.type_ids, start, roles))
        return found

    def _whole(self, conversations: Sequence[Conversation]) -> list[Tokens]:
        found = []
        for one in self._conversations.read(conversations):
            self.changes.update(one.changes)
            start = one.response_span[0]
            roles = self._split(one.ids, start) if len(one.ids) > self._max_length else None
            found.append(self._finish(one.ids, None, start, roles))
        return found

    def _too_long(self, encoding: Any) -> bool:
        return len(encoding.ids) > self._max_length

    def _split(self, ids: Sequence[int], start: int) -> NDArray[np.int8]:
        roles = np.where(np.arange(len(ids)) < start, _PROMPT, _RESPONSE).astype(np.int8)
        # Many decoders depend on starting with the token that they were trained to start with.
        if ids[0] == self._tokenizer.bos_token_id:
            roles[0] = _FIXED
        return roles

    def _finish(
        self, read: list[int], segments: list[int] | None, start: int, roles: NDArray[np.int8] | None
    ) -> Tokens:
        ids = np.asarray(read, dtype=np.int64)
        types = np.asarray(segments, dtype=np.int64) if self._with_types else None
        if roles is None:
            return Tokens(ids, types, start, False)
        keep = cut(roles, self._max_length)
        return Tokens(ids[keep], None if types is None else types[keep], int(keep[:start].sum()), True)


def _roles(sequence_ids: Sequence[int | None], first: int, second: int) -> NDArray[np.int8]:
    names = {None: _FIXED, 0: first, 1: second}
    return np.fromiter((names[one] for one in sequence_ids), dtype=np.int8, count=len(sequence_ids))
