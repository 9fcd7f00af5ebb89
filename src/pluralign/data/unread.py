"""Finds columns of a table that look like ratings or votes but were not read.

In: a loaded table and its shape. Out: those columns with their values, and the flags that would read them.
These are guesses for a message to the user; nothing is read because of them.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pluralign.data.arrow import canonical_columns
from pluralign.data.layouts import RATERS
from pluralign.data.records import OPTIONAL, Shape

if TYPE_CHECKING:
    import datasets

__all__ = ["UnreadColumn", "flags_for", "unread_judgements"]

_MOST_VALUES = 101  # distinct values; a column with more is a measurement, not a rating
_LARGEST = 100.0
# Numbers that describe a row but do not rate it.
_NO_JUDGEMENT = re.compile(
    r"(^|_)(id|idx|index|num|number|count|turns?|round|len|length|tokens?|words|chars|year|month|day|date"
    r"|time|timestamp|tstamp|seed|fold|page|line|rank|position|temperature|weight|margin|label)(_|$)",
    re.IGNORECASE,
)
# Names of columns that hold votes in words.
_JUDGEMENT = re.compile(
    r"(^|_)(score|rating|grade|winner|preferred|preference|choice|verdict|vote|label)(_|$)", re.IGNORECASE
)


@dataclass(frozen=True)
class UnreadColumn:
    """A column that looks like ratings or votes.

    Attributes:
        name: the column.
        holds: a description of its values.
        low: the smallest number, None for words.
        high: the largest number.
    """

    name: str
    holds: str
    low: float | None = None
    high: float | None = None


def unread_judgements(table: datasets.Dataset, shape: Shape) -> tuple[UnreadColumn, ...]:
    """Columns other than those of the shape that look like ratings or votes.

    Args:
        table: what a loader returned.
        shape: its shape.
    """
    known = {*canonical_columns(shape), *OPTIONAL, *RATERS, "weight", "margin"}
    # Written by `pairs_from_ratings`, or already read as votes.
    known |= {"attribute", "chosen_id", "rejected_id"} | ({"winner"} if shape == "comparisons" else set())
    found = []
    for name in table.column_names:
        if name not in known:
            column = _judgements(name, table[name][:])
            found += [column] if column else []
    return tuple(found)


def flags_for(columns: Sequence[UnreadColumn], shape: Shape) -> str:
    """The command-line flags that would read these columns; empty if there are none."""
    numbers = [column for column in columns if column.low is not None and column.high is not None]
    if shape != "responses" or not numbers:
        return ""
    low, high = (
        min(c.low for c in numbers if c.low is not None),
        max(c.high for c in numbers if c.high is not None),
    )
    scale = f"--scale '[{low:g},{high:g}]' (if this is the whole scale)"
    if len(numbers) == 1:
        return f"--columns.ratings {shlex.quote(numbers[0].name)} --attribute NAME {scale}"
    names = shlex.quote(f"[{','.join(_in_a_list(column.name) for column in numbers)}]")
    return (
        f"--attribute_columns {names} {scale}, or --rater_columns {names} --attribute NAME if "
        "these are raters of one attribute"
    )


def _in_a_list(name: str) -> str:
    """A name as an entry of a list in YAML, quoted where it would be something else."""
    import yaml

    try:
        plain = yaml.safe_load(f"[{name}]") == [name]
    except yaml.YAMLError:
        plain = False
    return name if plain else json.dumps(name, ensure_ascii=False)


def _judgements(name: str, values: Sequence[Any]) -> UnreadColumn | None:
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    flat = [value for value in flat if value is not None]
    distinct = _distinct(flat)
    if len(distinct) < 2:
        return None
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct):
        low, high = min(distinct), max(distinct)
        if _NO_JUDGEMENT.search(name) or len(distinct) > _MOST_VALUES or max(-low, high) > _LARGEST:
            return None
        whole = "whole numbers" if all(value == int(value) for value in distinct) else "numbers"
        return UnreadColumn(name, f"{whole} {low:g} to {high:g}", float(low), float(high))
    if _JUDGEMENT.search(name) and len(distinct) <= 10 and all(isinstance(v, str | bool) for v in distinct):
        return UnreadColumn(name, ", ".join(sorted(str(value) for value in distinct)))
    return None


def _distinct(values: Sequence[Any]) -> set[Any]:
    """Distinct values, at most a few more than `_MOST_VALUES`; none if one is not text or a number."""
    found: set[Any] = set()
    for value in values:
        if not isinstance(value, str | int | float) or value != value:
            return set()
        found.add(value)
        if len(found) > _MOST_VALUES:
            break
    return found
