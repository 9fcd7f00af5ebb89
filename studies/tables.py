"""What the parts of docs/results.md are made with: tables, intervals, headlines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pluralign.evaluation import difference_interval, mean_interval

Rows = list[list[str]]


class Headline(NamedTuple):
    """A number that the page begins with.

    Attributes:
        claim: what was measured.
        found: the number, with its interval.
        goal: what was to be reached, set before it was measured; empty where nothing was.
        reached: whether it was; None without a goal.
    """

    claim: str
    found: str
    goal: str = ""
    reached: bool | None = None


def table(head: list[str], rows: Rows) -> str:
    """A Markdown table, numbers to the right."""
    line = "|".join(["", *[" --- " if i == 0 else " ---: " for i in range(len(head))], ""])
    return "\n".join(["| " + " | ".join(head) + " |", line, *["| " + " | ".join(r) + " |" for r in rows]])


def interval(value: dict[str, Any] | None, digits: int = 4) -> str:
    """`0.2514 [0.2480, 0.2549]`"""
    if value is None:
        return ""
    if value["low"] is None:
        return f"{value['estimate']:.{digits}f}"
    return f"{value['estimate']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def over_seeds(values: Iterable[float], digits: int) -> str:
    """The mean of runs that differ in their seed, with a Student t interval where it can be seen."""
    found = mean_interval(list(values), method="t").to_dict()
    if found["low"] is not None and found["high"] - found["low"] < 10**-digits / 5:
        found["low"] = None  # the same in every seed
    return interval(found, digits)


def difference_over_seeds(values: Iterable[float], others: Iterable[float], digits: int) -> str:
    """The mean difference of runs of the same seeds, likewise."""
    return interval(difference_interval(list(values), list(others), method="t").to_dict(), digits)
