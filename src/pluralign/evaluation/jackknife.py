"""Intervals for statistics that are not means, such as a rank correlation, over rows that come in groups.

In: a function from row numbers to named numbers, and the group of each row. Out: an `Interval` per name. For
means use `intervals`.

The groups are divided into b <= 50 blocks. With t_j the statistic without block j, the variance is
(b - 1)/b sum_j (t_j - mean t)^2, and the interval is Student's with b - 1 degrees of freedom.

Paper: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 11, with blocks of groups as the
units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pluralign.evaluation.intervals import Interval, student_t_quantile

__all__ = ["jackknife_intervals"]

_BLOCKS = 50


def jackknife_intervals(
    statistics: Callable[[Any], Mapping[str, float | None]], groups: Sequence[Any], level: float = 0.95
) -> dict[str, Interval]:
    """Each statistic of all rows, with an interval that respects groups.

    Args:
        statistics: from an array of row numbers to numbers by name; None for a number that is not defined
            for these rows.
        groups: [N] labels.
        level: nominal coverage, in (0, 1).

    Returns:
        By name; names whose number is None for all rows are absent. The ends are None, with the reason, if
        there is only one group or if the number is not defined without some of the groups.
    """
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    rows, count = np.arange(len(index)), int(index.max(initial=-1)) + 1
    whole = statistics(rows)
    block = index % _BLOCKS
    without = [statistics(rows[block != b]) for b in range(min(count, _BLOCKS))] if count > 1 else []
    return {
        name: _interval(value, [part.get(name) for part in without], level, count, len(rows))
        for name, value in whole.items()
        if value is not None
    }


def _interval(value: float, without: list[float | None], level: float, groups: int, rows: int) -> Interval:
    low, high, reason = None, None, ""
    known = [part for part in without if part is not None]
    if not without:
        reason = "only one group: the variation between groups is unknown"
    elif len(known) < len(without):
        reason = "not defined without some of the groups"
    else:
        freedom = len(known) - 1
        spread = math.sqrt(freedom * float(np.var(known)))
        half = student_t_quantile((1 + level) / 2, freedom) * spread
        low, high = value - half, value + half
    return Interval(value, low, high, level, groups, rows, 0, "jackknife", reason)
