"""Columns that look like judgements and were not read, and the flags that read them."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import yaml

from pluralign.data import flags_for, load_pairs, load_responses, unread_judgements
from pluralign.data.unread import UnreadColumn


def unread(**columns: list[Any]) -> tuple[UnreadColumn, ...]:
    count = len(next(iter(columns.values())))
    rows = [
        {"prompt": "p", "response": f"r{i}", **{name: values[i] for name, values in columns.items()}}
        for i in range(count)
    ]
    return unread_judgements(load_responses(rows), "responses")


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ([1, 5, 3], "whole numbers 1 to 5"),
        ([0.5, 1.0, None], "numbers 0.5 to 1"),
        ([[1, 2], [3]], "whole numbers 1 to 3"),
    ],
)
def test_numbers(values: list[Any], holds: str) -> None:
    assert [column.holds for column in unread(quality=values)] == [holds]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("quality", [3, 3, 3]),
        ("num_tokens", [3, 4]),
        ("turn", [1, 2]),
        ("length", [10, 20]),
        ("salary", [1000, 2000]),
        ("model", ["a", "b"]),
        ("meta", [{"a": 1}, {"a": 2}]),
        ("share", list(range(102))),
    ],
)
def test_what_is_not_a_rating_or_vote(name: str, values: list[Any]) -> None:
    assert unread(**{name: values}) == ()


def test_words_under_a_name_that_says_so() -> None:
    (column,) = unread(verdict=["good", "bad", None])
    assert (column.holds, column.low) == ("bad, good", None)
    assert flags_for([column], "responses") == ""


def test_flags() -> None:
    assert flags_for(unread(score=[1, 5]), "responses") == (
        "--columns.ratings score --attribute NAME --scale '[1,5]' (if this is the whole scale)"
    )
    assert flags_for(unread(a=[1, 5], b=[0, 4]), "responses").startswith(
        "--attribute_columns '[a,b]' --scale '[0,5]' (if this is the whole scale), or --rater_columns '[a,b]'"
    )


def test_flags_quote_what_yaml_or_a_shell_would_take_for_something_else() -> None:
    names = {"a, b": [1, 5], "1": [2, 3], "on": [1, 2], "Bob's": [1, 2], "tone (1-5)": [1, 2]}
    flags = shlex.split(flags_for(unread(**names), "responses"))
    assert yaml.safe_load(flags[1]) == [*names]
    assert flags_for(unread(**{"my score": [1, 5]}), "responses").startswith("--columns.ratings 'my score' ")


def test_beside_pairs_they_are_named_without_flags() -> None:
    rows = [{"prompt": "p", "chosen": f"a{i}", "rejected": "b", "score_chosen": i} for i in range(3)]
    found = unread_judgements(load_pairs(rows), "pairs")
    assert [column.name for column in found] == ["score_chosen"]
    assert flags_for(found, "pairs") == ""
