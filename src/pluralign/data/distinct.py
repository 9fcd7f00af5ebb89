"""Distinct conversations, numbered in order of appearance, so that each is embedded and scored once.

In: prompts and responses, row by row. Out: the number of each and the list of distinct conversations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pluralign.data.messages import Message, conversation

__all__ = ["DistinctConversations"]


class DistinctConversations:
    """Numbers conversations; conversations with equal prompt and response share a number.

    Attributes:
        conversations: the distinct ones, each a message list that ends in the response.
    """

    def __init__(self) -> None:
        self.conversations: list[list[Message]] = []
        self._index: dict[str, int] = {}

    def add(self, prompt: Sequence[Mapping[str, str]], response: str) -> int:
        """The number of this conversation; a new number if it has not been seen."""
        key = json.dumps([prompt, response], ensure_ascii=False)
        if key not in self._index:
            self._index[key] = len(self.conversations)
            self.conversations.append(conversation(prompt, response))
        return self._index[key]
