"""Train and test parts by group: the same on every machine, for any order of the rows.

In: tables with a column `group`. Out: disjoint parts; rows of one group stay together, and so do groups that
share a prompt or a long text (see `leaks`).
A column `split` is not used.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pluralign.checks import as_finite, is_whole
from pluralign.data.leaks import joint_groups
from pluralign.data.table_columns import column_values
from pluralign.errors import ArgumentError, DataError

if TYPE_CHECKING:
    import datasets

__all__ = ["deal_groups", "folds", "folds_of_tables", "split", "split_tables"]

_RANGE = 2**64
_FAR = 0.5  # how far the share of rows may be from the wanted one, of the smaller side's share


def _position(group: str, seed: int) -> int:
    """A group's position in [0, 2^64): BLAKE2b of seed and name."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest(), "big")


def split(
    dataset: datasets.Dataset, test_share: float = 0.2, seed: int = 0
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Train and test rows, by group.

    A group is in the test part if its hash lies below `test_share` of the hash's range. So a group's side
    depends only on its name and the seed: ratings and pairs from the same source can be split separately
    without leakage, and more data does not move old groups. Groups that share a prompt or a long text are
    joined (`pluralign.data.shared_texts` counts them), under the first of their names; if tables differ in
    what their groups share, split them together with `split_tables`.

    The share of groups is met on average. If there are few groups, or groups of very different sizes, so that
    the share of rows would be off by more than half of the smaller side (1 of 13 groups with 8 % of the rows
    for .2), groups are taken in the order of their hashes instead, each if it brings the share of rows
    nearer; split several tables of such a source with `split_tables`. If a side would stay empty, it gets the
    group nearest to the threshold.

    Args:
        dataset: rows with a column `group`.
        test_share: expected share of the groups in the test part, in (0, 1).
        seed: a different seed gives a different split.

    Returns:
        (train, test), rows in their original order.

    Raises:
        ArgumentError: `test_share` is out of range.
        DataError: there is no column `group`, or only one group.

    >>> import datasets
    >>> rows = datasets.Dataset.from_dict({"group": ["a", "a", "b", "c"]})
    >>> train, test = split(rows, test_share=0.3)
    >>> sorted(set(train["group"]) & set(test["group"]))
    []
    """
    train, test = split_tables({"data": dataset}, test_share, seed)
    return train["data"], test["data"]


def split_tables(
    tables: Mapping[str, datasets.Dataset], test_share: float = 0.2, seed: int = 0
) -> tuple[dict[str, datasets.Dataset], dict[str, datasets.Dataset]]:
    """Splits several tables together: groups that share a text in any of them are joined in all.

    A group is on the same side in all tables, and each table has rows on both sides, as with `split`.

    Args:
        tables: by name, at least one; rows with a column `group`.
        test_share: expected share of the groups in the test part, in (0, 1).
        seed: a different seed gives a different split.

    Returns:
        (train, test) by the same names, rows in their original order.

    Raises:
        ArgumentError: `test_share` is out of range.
        DataError: a table has no column `group`, or only one group, or the groups that tables share leave
            one of them a side without rows.
    """
    if not 0.0 < as_finite(test_share) < 1.0:
        raise ArgumentError(f"test_share: received {test_share!r}; allowed: a number in (0, 1)")
    groups = {name: _groups(table) for name, table in tables.items()}
    joint = joint_groups(tables)
    of_rows = {name: [joint[group] for group in names] for name, names in groups.items()}
    apart = _test_groups({name: Counter(names) for name, names in of_rows.items()}, test_share, seed)
    train, test = {}, {}
    for name, table in tables.items():
        train[name] = _part(table, of_rows[name], set(of_rows[name]) - apart)
        test[name] = _part(table, of_rows[name], apart)
    return train, test


def _test_groups(tables: Mapping[str, Counter[str]], test_share: float, seed: int) -> set[str]:
    """The groups of the test part, given how many rows each group has in each table."""
    for rows in tables.values():
        if len(rows) < 2:
            raise DataError(
                f"split: {len(rows)} group in {rows.total()} rows, so one side would be empty; allowed: "
                "at least 2 groups; set the column 'group' to what must stay together"
            )
    place = {group: _position(group, seed) for rows in tables.values() for group in rows}
    order = sorted(place, key=lambda group: (place[group], group))
    border = test_share * _RANGE
    test = {group for group in order if place[group] < border}
    totals = [rows.total() for rows in tables.values()]
    share = {g: [rows[g] / n for rows, n in zip(tables.values(), totals, strict=True)] for g in order}
    off = [abs(sum(of_table) - test_share) for of_table in zip(*(share[g] for g in test), strict=True)]
    if max(off, default=test_share) > _FAR * min(test_share, 1.0 - test_share):
        test = _nearest_in_rows(order, share, test_share)
    return _with_both_sides(tables, test, order)


def _nearest_in_rows(
    order: Sequence[str], share: Mapping[str, Sequence[float]], test_share: float
) -> set[str]:
    """Groups in this order, each taken if the tables' shares of rows come nearer to the test share by it."""
    test = set()
    missing = [test_share for _ in share[order[0]]]
    for group in order:
        after = [left - rows for left, rows in zip(missing, share[group], strict=True)]
        if sum(map(abs, after)) < sum(map(abs, missing)):
            test.add(group)
            missing = after
    return test


def _with_both_sides(tables: Mapping[str, Counter[str]], test: set[str], order: Sequence[str]) -> set[str]:
    """The test part, changed by groups next to the border until no side of a table is empty."""
    for _ in tables:
        for rows in tables.values():
            if not rows.keys() & test:
                test = test | {next(group for group in order if group in rows)}
            elif rows.keys() <= test:
                test = test - {next(group for group in reversed(order) if group in rows)}
    empty = [name for name, rows in tables.items() if not rows.keys() & test or rows.keys() <= test]
    if empty:
        raise DataError(
            f"split: the groups that the tables share leave one side of {' and '.join(empty)} without rows; "
            "give more groups, or split the tables one by one"
        )
    return test


def deal_groups(groups: Iterable[str], k: int, seed: int = 0) -> dict[str, int]:
    """The fold of each distinct group, 0 to k - 1: groups are sorted by their hash and assigned in turn.

    The numbers of groups per fold differ by at most 1. For tables that share groups, assign the groups of all
    tables together to keep the folds disjoint.

    Args:
        groups: names, in any order, repeated or not.
        k: number of folds.
        seed: a different seed gives a different assignment.

    >>> deal_groups(["a", "b", "a", "c"], 2) == deal_groups(["c", "b", "a"], 2)
    True
    """
    dealt = sorted(set(groups), key=lambda group: (_position(group, seed), group))
    return {group: place % k for place, group in enumerate(dealt)}


def folds(
    dataset: datasets.Dataset, k: int = 5, seed: int = 0
) -> list[tuple[datasets.Dataset, datasets.Dataset]]:
    """Cross-fitting: `k` times (train, test); every group is in one test part, assigned by `deal_groups`.

    Groups that share a prompt or a long text are joined, as in `split`.

    Args:
        dataset: rows with a column `group`.
        k: number of folds, from 2 to the number of groups.
        seed: a different seed gives a different assignment.

    Returns:
        `k` pairs (train, test), rows in their original order.

    Raises:
        ArgumentError: `k` is not a whole number, or below 2.
        DataError: there are fewer groups than folds.
    """
    return [(train["data"], test["data"]) for train, test in folds_of_tables({"data": dataset}, k, seed)]


def folds_of_tables(
    tables: Mapping[str, datasets.Dataset], k: int = 5, seed: int = 0
) -> list[tuple[dict[str, datasets.Dataset], dict[str, datasets.Dataset]]]:
    """Cross-fitting on several tables at once: a group is held out from all of them in the same fold.

    Args:
        tables: by name, at least one; rows with a column `group`.
        k: number of folds, from 2 to the number of groups in all tables together.
        seed: a different seed gives a different assignment.

    Returns:
        `k` pairs (train, test) by the same names, rows in their original order; a table is missing from the
        test part of a fold that has none of its groups.

    Raises:
        ArgumentError: `k` is not a whole number, or below 2.
        DataError: there are fewer groups than folds, or all groups of one table fall into one fold.
    """
    if not is_whole(k, 2):
        raise ArgumentError(f"k: received {k!r}; allowed: a whole number of at least 2")
    given = {name: _groups(table) for name, table in tables.items()}
    joint = joint_groups(tables)
    groups = {name: [joint[group] for group in names] for name, names in given.items()}
    fold = deal_groups(itertools.chain.from_iterable(groups.values()), k, seed)
    if len(fold) < k:
        shared = f" that share no text, of {len(joint)}" if len(fold) < len(joint) else ""
        raise DataError(
            f"folds: k={k} folds for {len(fold)} groups{shared}; allowed: at most one fold per group"
        )
    for name, names in groups.items():
        if len({fold[group] for group in names}) < 2:
            raise DataError(
                f"folds: the {len(set(names))} groups of {name} fall into one fold of {k}, so one fit would "
                "have none of its rows; give more groups, or another seed"
            )
    parts = []
    for held_out in range(k):
        train, test = {}, {}
        for name, table in tables.items():
            apart = {group for group in groups[name] if fold[group] == held_out}
            train[name] = _part(table, groups[name], set(groups[name]) - apart)
            if apart:
                test[name] = _part(table, groups[name], apart)
        parts.append((train, test))
    return parts


def _groups(dataset: Any) -> list[str]:
    if not hasattr(dataset, "column_names"):
        raise ArgumentError(
            f"a data set to split: received {type(dataset).__name__}; allowed: what load_ratings, load_pairs "
            "or load_comparisons returned"
        )
    if "group" not in dataset.column_names:
        raise DataError(
            f"no column 'group' among {dataset.column_names}; load the data with load_ratings, load_pairs or "
            "load_comparisons, which give every row a group"
        )
    groups = column_values(dataset, "group")
    nameless = next((row for row, group in enumerate(groups, start=1) if not isinstance(group, str)), None)
    if nameless is not None:
        raise DataError(f"row {nameless}: the group {groups[nameless - 1]!r}; allowed: a name per row")
    return groups


def _part(dataset: datasets.Dataset, groups: Sequence[str], keep: set[str]) -> datasets.Dataset:
    return dataset.select(np.flatnonzero([group in keep for group in groups]))
