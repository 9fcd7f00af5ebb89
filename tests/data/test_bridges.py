"""Bridges between the shapes, against a brute-force reading of their definitions."""

from __future__ import annotations

import itertools
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign.data import (
    load_comparisons,
    load_pairs,
    load_ratings,
    pairs_from_ratings,
    ratings_from_votes,
    weighted_pairs,
)
from pluralign.errors import ArgumentError, DataError
from property_examples import examples


def rating(id: str, values: list[float], **other: Any) -> dict[str, Any]:
    row = {
        "id": id,
        "prompt": "p",
        "response": id,
        "attribute": "a",
        "ratings": values,
        "scale": [1, 5],
        "group": "g",
    }
    return row | other


def comparison(a: str, b: str, votes: list[int], **other: Any) -> dict[str, Any]:
    return {"prompt": "p", "response_a": a, "response_b": b, "votes": votes, "group": "g"} | other


def names(pairs: datasets.Dataset) -> set[tuple[str, str]]:
    return set(zip(pairs["chosen"], pairs["rejected"], strict=True))


def test_pairs_are_ordered_by_mean_and_carry_where_they_come_from() -> None:
    (pair,) = pairs_from_ratings(load_ratings([rating("low", [1, 2]), rating("high", [4, 5], subset="")]))
    assert pair == {
        "id": "high>low a", "prompt": [{"role": "user", "content": "p"}], "chosen": "high", "rejected": "low",
        "subset": "", "group": "g", "attribute": "a", "chosen_id": "high", "rejected_id": "low",
        "margin": 3.0,
    }  # fmt: skip


@pytest.mark.parametrize("key", ["group", "prompt", "attribute", "subset"])
def test_pairs_never_cross_a_group_prompt_attribute_or_pool(key: str) -> None:
    ratings = load_ratings([rating("low", [1]), rating("high", [5], **{key: "other"})])
    assert len(pairs_from_ratings(ratings)) == 0
    assert pairs_from_ratings(ratings).column_names[:4] == ["id", "prompt", "chosen", "rejected"]


@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_pairs_are_exactly_those_of_the_definition(items: list[tuple[int, int, int]], margin: float) -> None:
    rows = [rating(f"i{i}", [x, y], response=f"text {t}") for i, (t, x, y) in enumerate(items)]
    expected = {
        (f"i{i}", f"i{j}")
        for (i, a), (j, b) in itertools.permutations(enumerate(items), 2)
        if sum(a[1:]) > sum(b[1:]) and (sum(a[1:]) - sum(b[1:])) / 2 >= margin and a[0] != b[0]
    }
    pairs = pairs_from_ratings(load_ratings(rows), margin=margin, max_pairs_per_group=None)
    assert sorted(zip(pairs["chosen_id"], pairs["rejected_id"], strict=True)) == sorted(expected)
    assert len(set(pairs["id"])) == len(pairs)


def test_rounding_does_not_decide_about_the_margin() -> None:
    thirds = load_ratings([rating("a", [1, 2, 2]), rating("b", [2, 2, 2])])
    assert names(pairs_from_ratings(thirds, margin=1 / 3)) == {("b", "a")}
    equal = load_ratings([rating("a", [0.1 + 0.2], scale=[0, 1]), rating("b", [0.3], scale=[0, 1])])
    assert len(pairs_from_ratings(equal)) == 0


def test_the_cap_is_per_group_and_does_not_depend_on_the_order_of_rows() -> None:
    rows = [rating(f"{g}{i}", [1 + i / 10], group=g, response=f"{g}{i}") for g in "gh" for i in range(30)]
    capped = pairs_from_ratings(load_ratings(rows), max_pairs_per_group=40)
    assert len(capped) == 80
    assert capped["group"][:].count("g") == 40
    everything = names(pairs_from_ratings(load_ratings(rows), max_pairs_per_group=None))
    assert len(everything) == 2 * 30 * 29 // 2
    assert names(capped) < everything
    assert names(pairs_from_ratings(load_ratings(rows[::-1]), max_pairs_per_group=40)) == names(capped)


def test_one_attribute_can_be_chosen() -> None:
    rows = [rating(i, [v], attribute=a) for a in ("a", "b") for i, v in (("low", 1), ("high", 2))]
    ratings = load_ratings(rows)
    assert len(pairs_from_ratings(ratings)) == 2
    assert pairs_from_ratings(ratings, attribute="b")["attribute"][:] == ["b"]
    with pytest.raises(ArgumentError, match=r"received 'c'; the ratings have \['a', 'b'\]"):
        pairs_from_ratings(ratings, attribute="c")
    for arguments in ({"margin": -1.0}, {"margin": float("nan")}, {"max_pairs_per_group": 0}):
        with pytest.raises(ArgumentError, match="allowed"):
            pairs_from_ratings(ratings, **arguments)


def test_votes_become_ratings_of_both_sides() -> None:
    rows = [
        comparison("x", "y", [1, 1, 0], rater_ids=["r", "s", "t"]),
        comparison("z", "x", [1, -1], rater_ids=["r", "u"]),
        comparison("x", "x", [1]),
        comparison("x", "y", [-1], group="h"),
    ]
    ratings = ratings_from_votes(load_comparisons(rows))
    found = {(row["group"], row["response"]): (row["ratings"], row["rater_ids"]) for row in ratings}
    assert found == {
        ("g", "x"): ([1.0, 1.0, 0.0, -1.0, 1.0], ["r", "s", "t", "r", "u"]),
        ("g", "y"): ([-1.0, -1.0, 0.0], ["r", "s", "t"]),
        ("g", "z"): ([1.0, -1.0], ["r", "u"]),
        ("h", "x"): ([-1.0], None),
        ("h", "y"): ([1.0], None),
    }
    assert load_ratings(ratings).to_list() == ratings.to_list()


votes = st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=6)


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("xyz"), votes), min_size=1, max_size=8))
def test_swapping_the_sides_changes_neither_ratings_nor_weights(
    items: list[tuple[str, str, list[int]]],
) -> None:
    one = load_comparisons([comparison(a, b, v, id=str(i)) for i, (a, b, v) in enumerate(items)])
    other = load_comparisons(
        [comparison(b, a, [-x for x in v], id=str(i)) for i, (a, b, v) in enumerate(items)]
    )

    def weights(table: datasets.Dataset) -> list[tuple[str, str, float]]:
        return sorted((r["chosen"], r["rejected"], round(r["weight"], 12)) for r in weighted_pairs(table))

    def ratings(table: datasets.Dataset) -> dict[str, list[float]]:
        return {row["id"]: sorted(row["ratings"]) for row in ratings_from_votes(table)}

    assert weights(one) == weights(other)
    assert ratings(one) == ratings(other)
    assert sum(weight for _, _, weight in weights(one)) == pytest.approx(sum(a != b for a, b, _ in items))


def test_split_votes_give_both_orders_with_their_shares() -> None:
    rows = [
        comparison("x", "y", [1, 1, 1, -1, -1], id="c"),
        comparison("x", "z", [0], id="t"),
        comparison("y", "z", [-1, -1], id="u"),
    ]
    table = load_comparisons(rows)
    found = {(r["id"], r["chosen"], r["rejected"]): r["weight"] for r in weighted_pairs(table)}
    assert found == {
        ("c:a", "x", "y"): pytest.approx(3 / 5),
        ("c:b", "y", "x"): pytest.approx(2 / 5),
        ("t:a", "x", "z"): 0.5,
        ("t:b", "z", "x"): 0.5,
        ("u:b", "z", "y"): 1.0,
    }


def test_pairs_weigh_one_or_what_they_say() -> None:
    pairs = load_pairs([{"chosen": "a", "rejected": "b"}, {"chosen": "a", "rejected": "c"}])
    assert weighted_pairs(pairs)["weight"][:] == [1.0, 1.0]
    assert weighted_pairs(pairs.add_column("weight", [0.5, 2.0]))["weight"][:] == [0.5, 2.0]
    with pytest.raises(DataError, match="row 2, column 'weight': found -1"):
        weighted_pairs(pairs.add_column("weight", [1.0, -1.0]))


def test_tables_of_another_shape_are_errors() -> None:
    ratings = load_ratings([rating("x", [1])])
    with pytest.raises(DataError, match="allowed: pairs or comparisons"):
        weighted_pairs(ratings)
    with pytest.raises(DataError, match="load_comparisons"):
        ratings_from_votes(ratings)
    with pytest.raises(DataError, match="load_ratings"):
        pairs_from_ratings(load_pairs([{"chosen": "a", "rejected": "b"}]))
