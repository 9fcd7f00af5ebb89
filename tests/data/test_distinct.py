"""Equal conversations have one number, in order of appearance; the prompt counts."""

from __future__ import annotations

import datasets
import pytest

from pluralign.data import DistinctConversations, distinct_conversations

HI = [{"role": "user", "content": "hi"}]


def test_numbers_follow_first_appearance():
    distinct = DistinctConversations()
    numbers = [distinct.add(*row) for row in [(HI, "a"), ([], "a"), (HI, "b"), (HI, "a"), ([], "a")]]
    assert numbers == [0, 1, 2, 0, 1]
    assert [talk[-1]["content"] for talk in distinct.conversations] == ["a", "a", "b"]
    assert [len(talk) for talk in distinct.conversations] == [2, 1, 2]


ROWS = [
    {"prompt": HI, "chosen": "a", "rejected": "b"},
    {"prompt": [], "chosen": "b", "rejected": "a"},
    {"prompt": HI, "chosen": "b", "rejected": "c"},
    {"prompt": [*HI, {"role": "assistant", "content": "ho"}], "chosen": "a", "rejected": "b"},
    {"prompt": [], "chosen": "a", "rejected": "b"},
]


@pytest.mark.parametrize("chosen", [range(5), [4, 2, 2, 0], []])
@pytest.mark.parametrize("kind", ["messages", "text", "more"])
def test_columns_are_numbered_as_rows_are(chosen, kind):
    """Also where prompts are none that a loader made."""
    rows = [dict(row) for row in ROWS]
    for row in rows:
        if kind == "text":
            row["prompt"] = "".join(message["content"] for message in row["prompt"])
        elif kind == "more":
            row["prompt"] = [message | {"name": "x"} for message in row["prompt"]]
    table = datasets.Dataset.from_list(rows).select(list(chosen))
    distinct = DistinctConversations()
    expected = [[distinct.add(row["prompt"], row[side]) for side in ("chosen", "rejected")] for row in table]
    conversations, numbers = distinct_conversations(table, "chosen", "rejected")
    assert conversations == distinct.conversations
    assert [list(pair) for pair in zip(*(side.tolist() for side in numbers), strict=True)] == expected
