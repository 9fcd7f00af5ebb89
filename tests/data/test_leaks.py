"""Equal texts under several groups: what joins them, what does not, and that splits and folds hold to it."""

from __future__ import annotations

import random
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign.data import (
    SharedTexts,
    folds,
    folds_of_tables,
    join_groups,
    load_pairs,
    load_ratings,
    shared_texts,
    split,
    split_tables,
    summarise,
    text_record,
)
from pluralign.data.leaks import joint_groups
from pluralign.errors import DataError
from property_examples import examples

LONG = "The ninth annual auction will benefit the scholarships"  # 54 bytes


def table(*rows: tuple[str, str, str]) -> datasets.Dataset:
    """Ratings of (group, prompt, response)."""
    return load_ratings(
        [{"group": g, "prompt": p, "response": r, "rating": 3} for g, p, r in rows],
        scale=(1, 5),
        attribute="h",
    )


def others(count: int) -> list[tuple[str, str, str]]:
    """Rows that share nothing, each a group of its own."""
    return [(f"other{i}", f"prompt {i}", f"response {i}") for i in range(count)]


def joined(data: datasets.Dataset) -> list[set[str]]:
    """The groups that were made one."""
    found: dict[str, set[str]] = {}
    for group, joint in joint_groups({"data": data}).items():
        found.setdefault(joint, set()).add(group)
    for joint, members in found.items():
        assert joint == min(members)
    return sorted((members for members in found.values() if len(members) > 1), key=sorted)


@pytest.mark.parametrize(
    ("one", "two", "together"),
    [
        (("Why?", "a"), ("Why? ", "b"), True),
        (("caf\u00e9?", "a"), ("cafe\u0301?", "b"), True),
        (("", LONG), ("", LONG + "\r\n"), True),
        (("", "Sincerely,"), ("", "Sincerely,"), False),  # short: no mark of one source
        (("Why?", LONG), ("How?", LONG), False),  # two questions with one answer are two
        (("Why?", "yes"), ("How?", "yes"), False),
    ],
)
def test_what_joins_two_groups(one: tuple[str, str], two: tuple[str, str], together: bool) -> None:
    data = table(("a", *one), ("b", *two), *others(6))
    assert joined(data) == ([{"a", "b"}] if together else [])


def test_counts() -> None:
    data = table(
        ("a", "Why?", "x"),
        ("b", "Why?", "x"),  # a prompt, and a text under it
        ("c", "", "Sincerely,"),
        ("d", "", "Sincerely,"),  # a short text, which stays apart
        ("e", "p1", LONG),
        ("f", "p2", LONG),  # one response to two prompts
        *others(6),
    )
    found = shared_texts({"ratings": data})
    assert found == SharedTexts(prompts=1, texts=2, joined=2, parts=11, apart=1, responses=1)
    assert str(found) == (
        "1 prompt and 2 texts appear in several groups; a split keeps 2 groups together, 11 parts in all; "
        "1 text may be on both sides of a split"
    )
    assert summarise(data).shared == found
    nothing = shared_texts({"ratings": table(*others(3))})
    assert (str(nothing), nothing.found, nothing.parts) == ("", False, 3)


def test_joins_are_transitive_over_tables() -> None:
    ratings = table(("a", "Why?", "x"), ("b", "Why?", "y"), *others(10))
    pairs = load_pairs(
        [
            {"group": "b", "prompt": "How?", "chosen": "x", "rejected": "y"},
            {"group": "c", "prompt": "How?", "chosen": "v", "rejected": "w"},
        ]
    )
    joint = joint_groups({"ratings": ratings, "pairs": pairs})
    assert {group for group, name in joint.items() if name == "a"} == {"a", "b", "c"}
    assert joint_groups({"pairs": pairs, "ratings": ratings}) == joint


def test_a_prompt_of_many_groups_is_an_error_with_advice_and_joins_none() -> None:
    """Under one instruction groups are sources, and a long text of two of them still joins these."""
    rows = [(f"g{i}", "Summarise the article.", f"summary {i}") for i in range(8)]
    assert joined(table(*rows)) == []
    rows += [("g1", "Summarise the article.", LONG), ("g5", "Summarise the article.", LONG)]
    assert joined(table(*rows)) == [{"g1", "g5"}]
    found = shared_texts({"ratings": table(*rows)})
    assert (found.prompts, found.texts, found.parts, found.apart) == (1, 1, 7, 1)


@pytest.mark.parametrize("count", [2, 3, 4, 8, 9, 100])
def test_never_more_than_a_quarter_becomes_one(count: int) -> None:
    """A chain of texts, each of two groups, would join everything."""
    rows = [(f"g{i:03}", "", f"{LONG} {j}") for i in range(count) for j in (i, i + 1)]
    groups = joined(table(*rows))
    assert max(map(len, groups), default=1) <= max(2, count // 4)
    assert len(set(joint_groups({"data": table(*rows)}).values())) >= 2


def test_pairs_without_a_prompt_share_their_first_lines() -> None:
    question = "Instruction: tell the story of the fox and the grapes.\n"
    rows = [
        {"chosen": question + a, "rejected": question + b, "group": g}
        for g, a, b in (("a", "1", "2"), ("b", "3", "4"))
    ]
    rows += [{"chosen": f"{i}x", "rejected": f"{i}y"} for i in range(6)]
    assert joined(load_pairs(rows)) == [{"a", "b"}]


@settings(max_examples=examples(6), deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_splits_and_folds_keep_joint_groups_together(shuffler: random.Random, seed: int) -> None:
    rows = [(f"row{i}", f"question {i % 8}", f"{shuffler.random()}") for i in range(40)]
    shuffler.shuffle(rows)
    data = table(*rows)
    parts = [split(data, 0.4, seed=seed), *folds(data, 4, seed=seed)]
    for train, test in parts:
        assert text_record({"train": train}).shared_with(text_record({"test": test})) == (0, 0)
    assert sorted(g for _, test in parts[1:] for g in test["group"]) == sorted(g for g, _, _ in rows)
    shuffler.shuffle(rows)
    assert set(split(table(*rows), 0.4, seed=seed)[1]["group"]) == set(parts[0][1]["group"])


def test_groups_that_share_nothing_are_split_as_by_their_names() -> None:
    data = table(*others(60), ("other3", "prompt 3", "again"))
    bare = datasets.Dataset.from_dict({"group": data["group"][:]})
    assert split(data)[1]["group"][:] == split(bare)[1]["group"][:]
    assert [t["group"][:] for _, t in folds(data)] == [t["group"][:] for _, t in folds(bare)]


def test_tables_are_split_together() -> None:
    """What joins two groups in one table holds in the other, where they share nothing."""
    ratings = table(*[(f"g{i}", f"question {i // 2}", f"r{i}") for i in range(40)])
    pairs = load_pairs(
        [{"group": f"g{i}", "prompt": f"p{i}", "chosen": "x", "rejected": "y"} for i in range(40)]
    )
    both = {"ratings": ratings, "pairs": pairs}
    for train, test in [split_tables(both, 0.3), *folds_of_tables(both, 3)]:
        held_out = {g for t in test.values() for g in t["group"]}
        assert not held_out & {g for t in train.values() for g in t["group"]}
        assert all(f"g{int(g[1:]) ^ 1}" in held_out for g in held_out)


def test_folds_of_joint_groups_are_counted() -> None:
    data = table(*[(f"g{i}", f"question {i // 2}", f"r{i}") for i in range(8)])
    with pytest.raises(DataError, match="k=5 folds for 4 groups that share no text, of 8"):
        folds(data, 5)


def test_join_groups_changes_the_column_group_alone() -> None:
    data = table(("b", "Why?", "x"), ("a", "Why?", "y"), *others(4))
    plain = table(*others(4))
    new = join_groups({"data": data, "plain": plain})
    assert new["plain"] is plain
    assert new["data"]["group"][:2] == ["a", "a"]
    assert new["data"].column_names == data.column_names
    assert new["data"].remove_columns("group").to_list() == data.remove_columns("group").to_list()
    assert data["group"][0] == "b"


def test_records_hold_no_text_and_count_what_is_shared() -> None:
    one = text_record({"data": table(("a", "Why?", "x"), ("a", "Why?", "y"), ("b", "", "z"))})
    assert [array.dtype for array in one] == [np.dtype(np.uint64)] * 2
    assert (len(one.prompts), len(one.texts)) == (1, 3)
    two = text_record({"data": table(("c", "Why? ", "x"), ("d", "How?", "y"), ("e", "", "z\n"))})
    assert one.shared_with(two) == (1, 2)


def test_tables_of_other_kinds_have_no_texts() -> None:
    bare: Any = datasets.Dataset.from_dict({"group": ["a", "b"]})
    assert joint_groups({"data": bare}) == {"a": "a", "b": "b"}
    assert shared_texts({"data": bare.select([])}).parts == 0
    text = datasets.Dataset.from_dict({"group": ["a", "b", "c"], "prompt": ["Why?", "Why?", None]})
    assert joined(text) == [{"a", "b"}]
