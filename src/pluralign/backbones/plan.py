"""What must be embedded for a list of conversations: each distinct text once, and the rows it fills.

In: conversations. Out: one `TextTable` per kind of text.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pluralign.backbones.config import CONVERSATION_FORMAT, BackboneConfig
from pluralign.conversations import Conversation, has_prompt, prompt_text, response_text

__all__ = ["TextTable", "digest", "plan"]

# Increased when the meaning of a stored vector changes, so that old cache entries are never found. One
# version per kind of input: a response or pair (encoders), a whole conversation (decoders).
_FORMATS = {"response": 1, "pair": 1, "conversation": CONVERSATION_FORMAT}


class TextTable:
    """Distinct texts of one kind, by cache key, in order of first appearance.

    Args:
        kind: `response`, `prompt`, `pair` or `conversation`, as `Reader.read` takes it.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._place_of: dict[bytes, int] = {}
        self._source = array("q")
        self._rows = array("q")
        self._places = array("q")

    def add(self, key: bytes, row: int) -> None:
        """Records that the conversation `row` needs the text `key`."""
        place = self._place_of.setdefault(key, len(self._place_of))
        if place == len(self._source):
            self._source.append(row)
        self._rows.append(row)
        self._places.append(place)

    def __len__(self) -> int:
        return len(self._place_of)

    @cached_property
    def keys(self) -> list[bytes]:
        """Cache key of each text."""
        return list(self._place_of)

    @cached_property
    def source(self) -> NDArray[np.int64]:
        """`[M]`, for each text a conversation in which it occurs."""
        return np.array(self._source, dtype=np.int64)

    def fill(self, texts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where vectors of `texts` go: (row, index into `texts`), both of the same length."""
        rows, bounds = self._by_text
        parts = [rows[bounds[one] : bounds[one + 1]] for one in texts]
        return np.concatenate(parts), np.repeat(np.arange(len(texts)), [len(part) for part in parts])

    @cached_property
    def _by_text(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows sorted by text, and where each text's rows begin."""
        places = np.array(self._places, dtype=np.int64)
        order = np.argsort(places, kind="stable")
        return np.array(self._rows, dtype=np.int64)[order], np.searchsorted(
            places[order], np.arange(len(self) + 1)
        )


def plan(conversations: Sequence[Conversation], config: BackboneConfig, fingerprint: str) -> list[TextTable]:
    """The texts to embed for `conversations`, one table per kind that occurs.

    Args:
        conversations: checked message lists.
        config: how they are read.
        fingerprint: the model's.
    """
    identity = {**asdict(config), "fingerprint": fingerprint, "format": _FORMATS[config.context]}
    del identity["length"], identity["surface"]  # columns in addition to the stored vector
    # The fingerprint identifies the model better than its name, and stays valid when the folder moves.
    del identity["name_or_path"], identity["revision"]
    base = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16)
    tables: dict[str, TextTable] = {}
    for row, conversation in enumerate(conversations):
        for kind, parts in _texts(conversation, config.context):
            tables.setdefault(kind, TextTable(kind)).add(digest(base, [kind, *parts]), row)
    return [tables[kind] for kind in sorted(tables)]


def _texts(conversation: Conversation, context: str) -> Iterator[tuple[str, list[str]]]:
    """The texts that one conversation needs: kind, and the strings that identify them."""
    if context == "conversation":
        yield (
            "conversation",
            [text for message in conversation for text in (message["role"], message["content"])],
        )
        return
    prompted = has_prompt(conversation)
    if prompted:
        yield "prompt", [prompt_text(conversation)]
    if context == "pair" and prompted:
        yield "pair", [prompt_text(conversation), response_text(conversation)]
    else:
        yield "response", [response_text(conversation)]


def digest(base: hashlib.blake2b, parts: Sequence[str]) -> bytes:
    """Hash of `parts`, continuing the hash `base`; lengths distinguish ("ab", "c") from ("a", "bc").

    Raises:
        UnicodeEncodeError: a text has an unpaired surrogate, which no tokenizer can read.
    """
    state = base.copy()
    for part in parts:
        content = part.encode("utf-8")
        state.update(len(content).to_bytes(8, "little"))
        state.update(content)
    return state.digest()
