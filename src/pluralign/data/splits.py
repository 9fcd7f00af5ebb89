"""Train and test by group: the same on every machine, whatever the order of the rows.

In: tables with a column `group`. Out: disjoint parts; rows of one group never part, nor do groups that share
a prompt or a long text (`leaks` says which).
Does not use a column `split`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pluralign.checks import as_finite, is_whole
from pluralign.data.leaks import joint_groups
from pluralign.data.table_columns import column_values
from pluralign.errors import ArgumentError, DataError

if TYPE_CHECKING:
    import datasets

__all__ = ["deal_groups", "folds", "folds_of_tables", "split", "split_tables"]

_RANGE = 2**64


def _position(group: str, seed: int) -> int:
    """A group's place in [0, 2^64): BLAKE2b of seed and name."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest(), "big")


def split(
    dataset: datasets.Dataset, test_share: float = 0.2, seed: int = 0
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Train and test rows, by group.

    A group is in the test part if its hash lies below `test_share` of the hash's range. So a group's side
    depends on nothing but its name and the seed: ratings and pairs of the same source can be split separately
    and do not leak, and more data does not move old groups. Groups that share a prompt or a long text are one
    (`pluralign.data.shared_texts` counts them), by the first of their names; where tables differ in what
    their groups share, `split_tables` splits them together. The share of groups is met on average; if a side
    would stay empty, it gets the one group that is nearest to the border.

    Args:
        dataset: rows with a column `group`.
        test_share: expected share of the groups in the test part, in (0, 1).
        seed: another seed, another split.

    Returns:
        (train, test), rows in their order.

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
    """`split` of several tables at once: groups that share a text in any of them are one in all.

    Each table has rows on both sides, as `split` has it.

    Args:
        tables: by name, at least one; rows with a column `group`.
        test_share: expected share of the groups in the test part, in (0, 1).
        seed: another seed, another split.

    Returns:
        (train, test) by the same names, rows in their order.

    Raises:
        ArgumentError: `test_share` is out of range.
        DataError: a table has no column `group`, or only one group.
    """
    if not 0.0 < as_finite(test_share) < 1.0:
        raise ArgumentError(f"test_share: received {test_share!r}; allowed: a number in (0, 1)")
    groups = {name: _groups(table) for name, table in tables.items()}
    joint = joint_groups(tables)
    train, test = {}, {}
    for name, table in tables.items():
        of_rows = [joint[group] for group in groups[name]]
        apart = _test_groups(of_rows, test_share, seed)
        train[name] = _part(table, of_rows, set(of_rows) - apart)
        test[name] = _part(table, of_rows, apart)
    return train, test


def _test_groups(groups: Sequence[str], test_share: float, seed: int) -> set[str]:
    positions = {group: _position(group, seed) for group in sorted(set(groups))}
    if len(positions) < 2:
        raise DataError(
            f"split: {len(positions)} group in {len(groups)} rows, so one side would be empty; allowed: "
            "at least 2 groups; set the column 'group' to what must not be torn apart"
        )
    border = test_share * _RANGE
    test = {group for group, position in positions.items() if position < border}
    if not test:
        test = {min(positions, key=lambda group: positions[group])}
    elif len(test) == len(positions):
        test.remove(max(positions, key=lambda group: positions[group]))
    return test


def deal_groups(groups: Iterable[str], k: int, seed: int = 0) -> dict[str, int]:
    """The fold of each distinct group, 0 to k - 1: groups are sorted by their hash and dealt out in turn.

    The folds' numbers of groups differ by at most 1. Several tables that share groups stay apart if the
    groups of all of them are dealt together.

    Args:
        groups: names, in any order, repeated or not.
        k: number of folds.
        seed: another seed, another dealing.

    >>> deal_groups(["a", "b", "a", "c"], 2) == deal_groups(["c", "b", "a"], 2)
    True
    """
    dealt = sorted(set(groups), key=lambda group: (_position(group, seed), group))
    return {group: place % k for place, group in enumerate(dealt)}


def folds(
    dataset: datasets.Dataset, k: int = 5, seed: int = 0
) -> list[tuple[datasets.Dataset, datasets.Dataset]]:
    """Cross-fitting: `k` times (train, test); every group is in one test part, as `deal_groups` deals them.

    Groups that share a prompt or a long text are one, as in `split`.

    Args:
        dataset: rows with a column `group`.
        k: number of folds, from 2 to the number of groups.
        seed: another seed, another dealing.

    Returns:
        `k` pairs (train, test), rows in their order.

    Raises:
        ArgumentError: `k` is no whole number or below 2.
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
        seed: another seed, another dealing.

    Returns:
        `k` pairs (train, test) by the same names, rows in their order; a table is absent from the test parts
        of a fold that holds none of its groups.

    Raises:
        ArgumentError: `k` is no whole number or below 2.
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
            "or load_comparisons gave"
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
    return dataset.select([i for i, group in enumerate(groups) if group in keep])
