"""Splits by group: disjoint, complete, and decided by nothing but the group's name and the seed."""

from __future__ import annotations

import random

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign.data import deal_groups, folds, folds_of_tables, split, split_tables
from pluralign.errors import ArgumentError, DataError
from property_examples import examples

group_lists = st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=40).filter(
    lambda g: len(set(g)) > 1
)


def table(groups: list[str]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"group": groups, "row": list(range(len(groups)))})


def sides(parts: tuple[datasets.Dataset, datasets.Dataset]) -> tuple[set[str], set[str]]:
    return set(parts[0]["group"]), set(parts[1]["group"])


@settings(max_examples=examples(40), deadline=None)
@given(group_lists, st.floats(0.01, 0.99), st.integers(0, 5))
def test_no_group_is_torn_and_no_row_is_lost(groups: list[str], share: float, seed: int) -> None:
    train, test = split(table(groups), test_share=share, seed=seed)
    assert not set(train["group"]) & set(test["group"])
    assert sorted(train["row"][:] + test["row"][:]) == list(range(len(groups)))
    assert len(train) > 0
    assert len(test) > 0


@settings(max_examples=examples(40), deadline=None)
@given(group_lists, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(groups: list[str], seed: int, shuffler: random.Random) -> None:
    shuffled = groups.copy()
    shuffler.shuffle(shuffled)
    assert sides(split(table(groups), seed=seed)) == sides(split(table(shuffled), seed=seed))


def test_the_split_is_the_same_on_every_machine() -> None:
    """Recomputed by hand: a group is in test where BLAKE2b-64 of "0:name" is below .3 * 2^64."""
    import hashlib

    groups = [f"g{i}" for i in range(50)]
    below = {
        g
        for g in groups
        if int(hashlib.blake2b(f"0:{g}".encode(), digest_size=8).hexdigest(), 16) < 0.3 * 2**64
    }
    assert sides(split(table(groups), test_share=0.3)) == (set(groups) - below, below)


def test_other_rows_do_not_move_a_group() -> None:
    groups = [f"g{i}" for i in range(200)]
    _, test_of_all = sides(split(table(groups)))
    _, test_of_half = sides(split(table(groups[:100])))
    assert test_of_half == test_of_all & set(groups[:100])


def test_the_share_is_met_on_average_and_the_seed_matters() -> None:
    groups = [f"g{i}" for i in range(2000)]
    _, zero = sides(split(table(groups), test_share=0.25, seed=0))
    _, one = sides(split(table(groups), test_share=0.25, seed=1))
    # binomial: standard deviation .0097
    assert len(zero) / 2000 == pytest.approx(0.25, abs=0.04)
    assert len(zero & one) / 2000 == pytest.approx(0.0625, abs=0.03)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "sizes", [[100] * 13, [3, 50, 8, 120, 40, 7, 9, 60, 11, 30], [900, *[10] * 10], [1, 2, 3]]
)
def test_rows_come_near_the_share_where_groups_are_few(sizes: list[int], seed: int) -> None:
    groups = [f"g{i}" for i, size in enumerate(sizes) for _ in range(size)]
    train, test = split(table(groups), test_share=0.2, seed=seed)
    total, found = sum(sizes), len(test) - 0.2 * sum(sizes)
    assert 0 < len(test) < total
    if abs(found) > 0.1 * total:  # then no group that is left out would bring the rows nearer
        others = [sizes[int(name[1:])] for name in set(train["group"])]
        assert min(abs(found + size) for size in others) >= abs(found) - 1e-9
    if max(sizes) < 0.2 * total:
        assert 0.1 <= len(test) / total <= 0.3


def test_every_table_comes_near_the_share_and_no_group_is_on_two_sides() -> None:
    few = [f"g{i % 6}" for i in range(60)]
    other = [f"g{i % 5}" for i in range(500)]
    for seed in range(30):
        train, test = split_tables({"ratings": table(few), "pairs": table(other)}, 0.3, seed)
        held_out, fitted = ({g for t in part.values() for g in t["group"]} for part in (test, train))
        assert not held_out & fitted
        assert all(0.1 < len(test[k]) / len(t) < 0.5 for k, t in (("ratings", few), ("pairs", other)))


def test_groups_shared_by_three_tables_can_leave_one_without_a_side() -> None:
    tables = {name: table(list(groups)) for name, groups in (("x", "ab"), ("y", "bc"), ("z", "ac"))}
    with pytest.raises(DataError, match=r"leave one side of [xyz] without rows"):
        split_tables(tables)


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_a_side_is_never_empty(share: float) -> None:
    train, test = sides(split(table(["a", "b", "c"]), test_share=share))
    assert min(len(train), len(test)) == 1


def test_the_column_split_is_not_used() -> None:
    groups = table([f"g{i}" for i in range(50)])
    assert sides(split(groups.add_column("split", ["test"] * 50))) == sides(split(groups))


@settings(max_examples=examples(30), deadline=None)
@given(
    st.sets(st.text(min_size=1, max_size=4), min_size=3, max_size=30), st.integers(2, 3), st.integers(0, 3)
)
def test_folds_partition_the_groups_evenly(groups: set[str], k: int, seed: int) -> None:
    data = table(sorted(groups) * 2)
    parts = folds(data, k, seed=seed)
    tests = [sides(part)[1] for part in parts]
    assert sorted(group for test in tests for group in test) == sorted(groups)
    assert max(map(len, tests)) - min(map(len, tests)) <= 1
    assert all(sides(part) == (groups - test, test) for part, test in zip(parts, tests, strict=True))
    backwards = folds(data.select(range(len(data) - 1, -1, -1)), k, seed=seed)
    assert [sides(part)[1] for part in backwards] == tests


@settings(max_examples=examples(30), deadline=None)
@given(group_lists, group_lists, st.integers(0, 3))
def test_a_group_is_held_out_from_all_tables_at_once(first: list[str], second: list[str], seed: int) -> None:
    tables = {"ratings": table(first), "pairs": table(second)}
    fold = deal_groups(first + second, 2, seed)
    if any(len({fold[g] for g in groups}) < 2 for groups in (first, second)):
        with pytest.raises(DataError, match="fall into one fold of 2"):
            folds_of_tables(tables, 2, seed=seed)
        return
    parts = folds_of_tables(tables, 2, seed=seed)
    for number, (train, test) in enumerate(parts):
        held_out = {g for part in test.values() for g in part["group"]}
        assert held_out == {g for g in fold if fold[g] == number}
        assert not held_out & {g for part in train.values() for g in part["group"]}
    for name, groups in (("ratings", first), ("pairs", second)):
        assert sorted(row for _, test in parts for row in test[name]["row"]) == list(range(len(groups)))


def test_a_table_is_absent_where_it_has_nothing_to_evaluate() -> None:
    many, few = [f"g{i}" for i in range(20)], ["g0", "g1", "g2"]
    parts = folds_of_tables({"ratings": table(many), "pairs": table(few)}, 10)
    assert sorted(g for _, test in parts if "pairs" in test for g in test["pairs"]["group"]) == few
    assert any("pairs" not in test for _, test in parts)
    assert all(len(train["pairs"]) for train, _ in parts)


def test_what_cannot_be_split_is_an_error() -> None:
    with pytest.raises(DataError, match="1 group in 3 rows"):
        split(table(["a"] * 3))
    with pytest.raises(DataError, match="0 group"):
        split(table([]))
    with pytest.raises(DataError, match="no column 'group'"):
        split(datasets.Dataset.from_dict({"row": [1]}))
    with pytest.raises(DataError, match="row 2: the group None"):
        split(datasets.Dataset.from_dict({"group": ["a", None]}))
    for share in (0.0, 1.0, -0.1, float("nan"), "0.2", None):
        with pytest.raises(ArgumentError, match="test_share"):
            split(table(["a", "b"]), test_share=share)
    with pytest.raises(ArgumentError, match="k: received 1"):
        folds(table(["a", "b"]), 1)
    with pytest.raises(DataError, match="k=3 folds for 2 groups"):
        folds(table(["a", "b"]), 3)
    for k in (2.5, None, "3"):
        with pytest.raises(ArgumentError, match="k: received"):
            folds(table(["a", "b"]), k)
    with pytest.raises(ArgumentError, match="received list"):
        split([{"group": "a"}, {"group": "b"}])
