"""What `compare` compares: one value per row and system, of the same rows or at least of the same groups.

In: columns of values, folders of evaluations, or files of scores. Out: `Compared`, with the values of every
system and the number of each row's group; or an `ArgumentError` that says which rows do not match.

An evaluation gives one column per measure: accuracy of pairs, losses of ratings and votes. Of a file of
scores the column of scores is compared, and rows go together by `id`; where no id is in two files, as with
several samples of each policy per prompt, by `group` or `prompt`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pluralign.errors import ArgumentError, did_you_mean
from pluralign.evaluation.columns import Floats, Values, as_array, group_numbers
from pluralign.evaluation.score_tables import Keyed, measures_of, score_file

__all__ = ["Compared", "compared_rows", "shared_measures"]

_HOW = "a column with one value per row, the folder of a finished `pluralign evaluate`, or a file of scores"


@dataclass(frozen=True)
class Compared:
    """Values of several systems.

    Attributes:
        values: by name, [N_s] finite values.
        groups: by name, [N_s] numbers of groups, 0 to G - 1; every system has rows in each group.
        same_rows: whether row i is the same row for every system.
        measure: what the values are.
        better: "higher" or "lower".
        dropped: rows left out because a system has no value for them.
        bounds: the lowest and highest value there can be; None where there are no such.
    """

    values: dict[str, Floats]
    groups: dict[str, npt.NDArray[np.int64]]
    same_rows: bool
    measure: str
    better: str
    dropped: int
    bounds: tuple[float, float] | None = None


def compared_rows(
    systems: Mapping[str, Any], group: Sequence[Any] | npt.NDArray[Any] | None, measure: str | None
) -> Compared:
    """Reads and matches the rows of at least two systems.

    Raises:
        ArgumentError: see `compare`.
    """
    if not isinstance(systems, Mapping):
        raise ArgumentError(
            f"systems: received {type(systems).__name__}; allowed: a dictionary from names to {_HOW}"
        )
    if len(systems) < 2:
        raise ArgumentError(f"a comparison needs at least two systems; received {len(systems)}")
    if unnamed := [name for name in systems if not isinstance(name, str) or not name]:
        raise ArgumentError(f"systems: received the name {unnamed[0]!r}; allowed: names that are text")
    kinds = {name: _kind(name, given) for name, given in systems.items()}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
        raise ArgumentError(f"systems of one kind can be compared; received {told}")
    kind = next(iter(kinds.values()))
    if kind == "a column":
        if measure is not None:
            raise ArgumentError(
                "measure applies to evaluations; of columns the values themselves are compared"
            )
        return _of_columns(systems, group)
    if group is not None:
        raise ArgumentError(
            "group applies to columns of values; files and evaluations have groups of their own"
        )
    if kind == "a file":
        if measure is not None:
            raise ArgumentError("measure applies to evaluations; of files the scores are compared")
        keyed = {name: score_file(Path(path)) for name, path in systems.items()}
        return _matched(keyed, "score", "higher")
    return _of_evaluations(systems, measure)


def shared_measures(systems: Mapping[str, Any]) -> list[str]:
    """The measures that all of some evaluations have; empty for columns and files.

    Raises:
        ArgumentError: a folder is not an evaluation.
    """
    if any(_kind(name, given) != "an evaluation" for name, given in systems.items()):
        return []
    found = [list(measures_of(name, given)) for name, given in systems.items()]
    return [measure for measure in found[0] if all(measure in other for other in found[1:])]


def _kind(name: str, given: Any) -> str:
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        if path.is_dir():
            return "an evaluation"
        if path.is_file():
            return "a file"
        raise ArgumentError(f"{name}: {path} does not exist; allowed: {_HOW}")
    if isinstance(given, Mapping):
        return "an evaluation"
    return "a column"


def _of_columns(systems: Mapping[str, Values], group: Any) -> Compared:
    columns = {name: _column(name, given) for name, given in systems.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ArgumentError(
            f"columns need one value per row, of the same rows in the same order; received lengths {lengths}"
        )
    rows = next(iter(lengths.values()))
    codes = np.arange(rows) if group is None else group_numbers(group, rows, "group")
    return _complete(columns, codes, "value", "higher")


def _column(name: str, given: Any) -> Floats:
    try:
        column = as_array(given)
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}; allowed: {_HOW}") from None
    if column.ndim != 1 or not len(column):
        raise ArgumentError(f"{name}: received shape {list(column.shape)}; allowed: one value per row")
    if np.isinf(column).any():
        at = int(np.isinf(column).argmax())
        raise ArgumentError(f"{name}[{at}] is {column[at]}: infinite values have no mean; leave out the row")
    return column


def _complete(columns: Mapping[str, Floats], codes: Any, measure: str, better: str) -> Compared:
    """Only rows for which every system has a value."""
    missing = np.zeros(len(codes), bool)
    for column in columns.values():
        missing |= np.isnan(column)
    if missing.all():
        raise ArgumentError("no row has a value of every system")
    _, kept = np.unique(np.asarray(codes)[~missing], return_inverse=True)
    values = {name: column[~missing] for name, column in columns.items()}
    return Compared(values, dict.fromkeys(columns, kept), True, measure, better, int(missing.sum()))


def _of_evaluations(systems: Mapping[str, Any], measure: str | None) -> Compared:
    found = {name: measures_of(name, given) for name, given in systems.items()}
    shared = [m for m in next(iter(found.values())) if all(m in of for of in found.values())]
    if not shared:
        told = "; ".join(f"{name}: {', '.join(of) or 'none'}" for name, of in found.items())
        raise ArgumentError(f"the evaluations have no measure in common ({told})")
    if measure is None:
        measure = shared[0]
    if measure not in shared:
        raise ArgumentError(
            f"measure {measure!r} is not in all evaluations{did_you_mean(measure, shared)}; "
            f"allowed: {', '.join(shared)}"
        )
    readers: dict[str, Callable[[], Keyed]] = {name: of[measure].read for name, of in found.items()}
    shown = next(iter(found.values()))[measure]
    digests = {name: of[measure].digest for name, of in found.items()}
    keyed = {name: read() for name, read in readers.items()}
    if None not in digests.values() and len(set(digests.values())) > 1:
        raise ArgumentError(_other_rows(keyed, measure))
    return replace(_matched(keyed, measure, shown.better), bounds=shown.bounds)


def _matched(keyed: Mapping[str, Keyed], measure: str, better: str) -> Compared:
    """By row where all have the same rows, by group where they have the same groups."""
    names = list(keyed)
    first = keyed[names[0]]
    orders = {}
    for name, part in keyed.items():
        place = {key: at for at, key in enumerate(part.keys)}
        if len(place) == len(first.keys) and all(key in place for key in first.keys):
            orders[name] = np.array([place[key] for key in first.keys])
    if len(orders) == len(keyed):
        columns = {name: part.values[orders[name]] for name, part in keyed.items()}
        labels = [first.groups[at] for at in range(len(first.keys))]
        for name, part in keyed.items():
            if [part.groups[at] for at in orders[name]] != labels:
                raise ArgumentError(
                    f"{names[0]} and {name} have the same rows in other groups: evaluate both on one file"
                )
        return _complete(columns, _codes(labels), measure, better)
    disjoint = all(set(part.keys).isdisjoint(first.keys) for name, part in keyed.items() if name != names[0])
    if measure != "score" or not disjoint or any(part.own_groups is False for part in keyed.values()):
        raise ArgumentError(_other_rows(keyed, measure))
    return _by_group(keyed, measure, better)


def _by_group(keyed: Mapping[str, Keyed], measure: str, better: str) -> Compared:
    values, labels, dropped = {}, {}, 0
    for name, part in keyed.items():
        keep = ~np.isnan(part.values)
        dropped += int((~keep).sum())
        values[name] = part.values[keep]
        labels[name] = [label for label, kept in zip(part.groups, keep, strict=True) if kept]
    every = set.intersection(*map(set, labels.values()))
    for name, of in labels.items():
        if extra := sorted(set(of) - every):
            raise ArgumentError(
                f"{len(extra):,} groups of {name} are not in all files, such as {extra[0]!r}: compare "
                "samples for the same prompts"
            )
    number = {label: at for at, label in enumerate(sorted(every))}
    codes = {name: np.array([number[label] for label in of], np.int64) for name, of in labels.items()}
    return Compared(values, codes, False, measure, better, dropped)


def _codes(labels: Sequence[str]) -> npt.NDArray[np.int64]:
    number: dict[str, int] = {}
    return np.array([number.setdefault(label, len(number)) for label in labels], np.int64)


def _other_rows(keyed: Mapping[str, Keyed], measure: str) -> str:
    sizes = ", ".join(f"{name} {len(part.keys):,}" for name, part in keyed.items())
    common = set.intersection(*(set(part.keys) for part in keyed.values()))
    return (
        f"{measure}: these are not the same rows ({sizes} rows; {len(common):,} ids are in all). A paired "
        "comparison needs them: evaluate every model on the same file, with the same --part and held-out "
        "groups, and compare those"
    )
