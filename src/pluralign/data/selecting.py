"""`where`: which rows of a table are read, and which values exist to choose from.

In: column -> value. Out: whether a raw row has these values, and a sentence about the values that were seen.
Text from a command line is compared with numbers and booleans by its meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pluralign.data.plain_values import number_in
from pluralign.data.problems import preview

__all__ = ["Selection"]

_SHOWN = 10  # values that a message lists
_KEPT = 1000  # distinct values that are stored for it


class Selection:
    """Selects rows, and records the values it saw.

    Args:
        where: column -> value that a row must have.
    """

    def __init__(self, where: Mapping[str, Any]) -> None:
        self.where = dict(where)
        self._seen: dict[str, Counter[str]] = {column: Counter() for column in where}

    def copy(self) -> Selection:
        """The same, with a memory of its own."""
        other = Selection(self.where)
        other._seen = {column: seen.copy() for column, seen in self._seen.items()}
        return other

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has all the values."""
        for column, seen in self._seen.items():
            value = preview(row.get(column))
            if value in seen or len(seen) < _KEPT:
                seen[value] += 1
        return all(is_value(row.get(column), wanted) for column, wanted in self.where.items())

    def __str__(self) -> str:
        """The values in these columns, most frequent first."""
        return "; ".join(
            f"the column {column!r} holds {_listed(seen)}" for column, seen in self._seen.items() if seen
        )


def is_value(cell: Any, target: Any) -> bool:
    """Whether a cell holds the wanted value.

    >>> is_value(1, "1"), is_value(True, "true"), is_value("1", "1"), is_value(None, "null")
    (True, True, True, True)
    >>> is_value(True, "1"), is_value("01", 1)
    (False, False)
    """
    if cell is None or target is None or isinstance(cell, str) == isinstance(target, str):
        return bool(cell == target) or (cell is None and target == "null")
    text, value = (target, cell) if isinstance(target, str) else (cell, target)
    if isinstance(value, bool):
        return bool(text.strip().lower() == str(value).lower())
    if isinstance(value, int | float):
        return bool(number_in(text) == value)
    return False


def _listed(counts: Counter[str]) -> str:
    most = [f"{value} ({count:,} rows)" for value, count in counts.most_common(_SHOWN)]
    more = ", ..." if len(counts) > _SHOWN else ""
    return ", ".join(most) + more
