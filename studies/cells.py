"""Runs of the lab as cells of a table: means over seeds, and Student t intervals.

In: records of studies whose settings name the features and the seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from pluralign.evaluation import Interval, difference_interval
from pluralign.evaluation.intervals import student_t_quantile
from studies.tables import over_seeds

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


def mean_and_half(values: list[float]) -> tuple[float, float]:
    """The mean over seeds, and half of its Student t interval; 0 for one seed."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, 0.0
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return mean, student_t_quantile(0.975, len(values) - 1) * spread


def plus_minus(runs: list[dict[str, Any]], value: Value, digits: int = 3, sign: str = "") -> str:
    """`0.446 ± 0.003`, half of the interval over seeds."""
    centre, half = mean_and_half([value(run) for run in runs])
    text = f"{centre:{sign}.{digits}f}"
    return text if len(runs) < 2 or half < 10**-digits / 10 else f"{text} ± {half:.{digits}f}"


def apart(runs: list[dict[str, Any]], first: Value, second: Value) -> Interval:
    """The mean difference of two numbers of the same runs, with a Student t interval over seeds."""
    return difference_interval([first(r) for r in runs], [second(r) for r in runs], method="t")
