"""Runs of the lab studies of QRM as cells of a table: means over seeds, and Student t intervals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from tables import over_seeds

Records = list[dict[str, Any]]
Value = Callable[[dict[str, Any]], float]
PARTS = ("objects", "tasks")
NAMES = {
    "minilm": "MiniLM",
    "traits": "the crowd's own traits",
    "crossed": "traits, MiniLM's prompts",
}


def keys(records: Records, *names: str) -> list[tuple[Any, ...]]:
    """The values that these settings take, features in the order of `NAMES`."""
    found = {tuple(r["settings"][n] for n in names) for r in records}
    order = list(NAMES)
    return sorted(found, key=lambda key: [order.index(k) if k in order else k for k in key])


def where(records: Records, **settings: Any) -> Records:
    """Results of the runs of these settings, by seed."""
    found = [r for r in records if all(r["settings"][k] == v for k, v in settings.items())]
    return [r["results"] for r in sorted(found, key=lambda r: r["settings"]["seed"])]


def of(*path: str) -> Value:
    """The number at this path of a result."""

    def value(result: dict[str, Any]) -> float:
        for key in path:
            result = result[key]
        return result  # type: ignore[return-value]

    return value


def mean(runs: Iterable[dict[str, Any]], value: Value, digits: int) -> str:
    """`0.614 [0.593, 0.634]`"""
    return over_seeds([value(r) for r in runs], digits)


def percent(runs: Iterable[dict[str, Any]], value: Value) -> str:
    """The mean alone, of a share."""
    return f"{100 * statistics.mean(value(r) for r in runs):.1f} %"
