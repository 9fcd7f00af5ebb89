"""Distinct conversations, numbered in order of appearance, so that each is embedded and scored once.

In: prompts and responses, row by row or as columns of a table. Out: the number of each and the list of what
is distinct. It does not know what the rows say about them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pluralign.data.messages import Message, conversation
from pluralign.data.table_columns import (
    arrow_column,
    by_appearance,
    has_plain_prompts,
    prompt_codes,
    take,
    text_codes,
)

if TYPE_CHECKING:
    import datasets

__all__ = ["DistinctConversations", "distinct_conversations"]


class DistinctConversations:
    """Numbers conversations one by one; equal prompt and response have one number.

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


def distinct_conversations(
    table: datasets.Dataset, *sides: str
) -> tuple[list[list[Message]], list[NDArray[np.int64]]]:
    """The distinct conversations of a table, and the number of each row's.

    Args:
        table: with a column `prompt` of message lists.
        sides: its columns of responses.

    Returns:
        Message lists that end in a response, in the order of their first appearance, row by row and in a row
        side by side; and for each side the numbers [N]. Conversations of one prompt share its messages.
    """
    prompts, responses = arrow_column(table, "prompt"), [arrow_column(table, side) for side in sides]
    if not has_plain_prompts(prompts):
        return _one_by_one(prompts.to_pylist(), [column.to_pylist() for column in responses])
    prompt, first = prompt_codes(prompts)
    said = np.stack(text_codes(*responses), 1)
    numbers, where = by_appearance((prompt[:, None] * (said.max(initial=-1) + 1) + said).ravel())
    rows, side = np.divmod(where, len(sides))
    messages = take(prompts, first).to_pylist()
    texts = [column.to_pylist() for column in responses]
    conversations = [
        [*messages[prompt[row]], {"role": "assistant", "content": texts[s][row]}]
        for row, s in zip(rows.tolist(), side.tolist(), strict=True)
    ]
    return conversations, [*numbers.reshape(-1, len(sides)).T.copy()]


def _one_by_one(
    prompts: list[Any], sides: list[list[str]]
) -> tuple[list[list[Message]], list[NDArray[np.int64]]]:
    """For prompts that no loader made, such as plain texts."""
    distinct = DistinctConversations()
    numbers = [
        [distinct.add(prompt, response) for response in responses]
        for prompt, *responses in zip(prompts, *sides, strict=True)
    ]
    return distinct.conversations, [*np.array(numbers, np.int64).reshape(-1, len(sides)).T.copy()]
