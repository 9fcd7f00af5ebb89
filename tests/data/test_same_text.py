"""Which texts count as the same, and the groups that rows without one are given."""

from __future__ import annotations

from typing import Any

import pytest

from pluralign.data import load_comparisons, load_pairs, load_ratings
from pluralign.data.same_text import normal_text, shared_start, start_to_last_turn


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Why?", "Why?"),
        (" Why? \n", "Why?"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("cafe\u0301", "caf\u00e9"),
        ("a  b", "a  b"),
        ("cut \ud83d", "cut \ud83d"),
    ],
)
def test_normal_text(given: str, expected: str) -> None:
    assert normal_text(given) == expected


def test_shared_start_ends_with_a_line() -> None:
    assert shared_start(["Q: x\nA: so", "Q: x\r\nA: no"]) == "Q: x\n"
    assert shared_start(["So it is", "So it was"]) == ""


def test_the_last_turn_ends_the_prompt() -> None:
    sides = ["\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: So it", "\n\nHuman: a\n\nAssistant: b"]
    assert start_to_last_turn([sides[0] + " is", sides[0] + " was"]) == sides[0].removesuffix(" So it")
    assert start_to_last_turn(sides) == "\n\nHuman: a\n\nAssistant:"
    assert start_to_last_turn(["[INST] x [/INST] a", "[INST] x [/INST] b"]) == "[INST] x [/INST]"
    assert start_to_last_turn(["a", "b"]) == ""


def named(prompt: Any, first: str, second: str) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": first, "rejected": second}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Why?", "Why? "),
        ("caf\u00e9?", "cafe\u0301?"),
        ("a\nb", "a\r\nb"),
        ([{"role": "user", "content": "Why?\n"}], "Why?"),
    ],
)
def test_one_question_in_two_spellings_is_one_group(one: Any, other: Any) -> None:
    rows = load_pairs([named(one, "A", "B"), named(other, "C", "D")])
    assert len(set(rows["group"])) == 1
    assert rows["group"][0].startswith("prompt:")


def test_texts_without_a_prompt_in_two_spellings_are_one_group() -> None:
    texts = ["a\r\nb", "a\nb ", "b"]
    rows = [{"response": text, "rating": 1} for text in texts]
    groups = load_ratings(rows, scale=(1, 5), attribute="h", columns={"prompt": None})["group"]
    assert groups[0] == groups[1] != groups[2]


def test_groups_of_plain_prompts_are_those_of_earlier_versions() -> None:
    """BLAKE2b-64 of the JSON of the messages, and of the sorted texts."""
    import hashlib
    import json

    def digest(value: object) -> str:
        return hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()

    rows = load_pairs([named("Why?", "A", "B"), named(None, "D", "C")])
    assert rows["group"][:] == [
        f"prompt:{digest([{'role': 'user', 'content': 'Why?'}])}",
        f"text:{digest(['C', 'D'])}",
    ]


def test_a_marked_turn_groups_texts_that_part_later() -> None:
    """One of these goes on for a turn, so that it stays text; their common question still groups them."""
    start = "\n\nHuman: Why?\n\nAssistant:"
    rows = [
        {"prompt": None, "response_a": f"{start} A{more}", "response_b": f"{start} B", "votes": [1]}
        for more in ("", "\n\nHuman: And?", "\n\nHuman: Or?")
    ]
    loaded = load_comparisons(rows)
    assert [len(prompt) for prompt in loaded["prompt"]] == [1, 0, 0]
    assert len(set(loaded["group"][1:])) == 1
