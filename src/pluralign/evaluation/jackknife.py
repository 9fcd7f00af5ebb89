"""Intervals for statistics that are not means, such as a rank correlation, over rows that come in groups.

In: a function from row numbers to named numbers, and the group of each row. Out: an `Interval` per name. For
means use `intervals`.

The groups are divided into b <= 50 blocks. Leaving out block j, whose share of the rows is p_j, changes the
statistic from t to t_j; `psi_j = (1 - p_j) (t - t_j)` is the influence of the block, of a mean exactly that
of its formula. What follows is `group_errors`, as for means.

Papers: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 11 and 22.4 (empirical
influence); those of `group_errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pluralign.evaluation.columns import Floats
from pluralign.evaluation.group_errors import effective_groups
from pluralign.evaluation.intervals import Interval, ends_or_reason

__all__ = ["jackknife_intervals"]

_BLOCKS = 50


def jackknife_intervals(
    statistics: Callable[[Any], Mapping[str, float | None]],
    groups: Sequence[Any] | npt.NDArray[Any],
    level: float = 0.95,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Interval]:
    """Each statistic of all rows, with an interval that respects groups.

    Args:
        statistics: from an array of row numbers to numbers by name; None for a number that is not defined
            for these rows.
        groups: [N] labels.
        level: nominal coverage, in (0, 1).
        bounds: by name the lowest and highest value that there can be; the interval stays inside.

    Returns:
        By name; names whose number is None for all rows are absent. The ends are None, with the reason, if
        there are fewer than 5 groups or if the number is not defined without some of the groups.
    """
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    rows, count = np.arange(len(index)), int(index.max(initial=-1)) + 1
    whole = statistics(rows)
    block = index % _BLOCKS
    without = [statistics(rows[block != b]) for b in range(min(count, _BLOCKS))] if count > 1 else []
    shares = np.bincount(block) / max(len(index), 1)
    sizes = np.bincount(index) / max(len(index), 1)
    return {
        name: _interval(
            value,
            [part.get(name) for part in without],
            shares,
            Interval(value, None, None, level, count, len(rows), 0, "jackknife", "", effective_groups(sizes)),
            (bounds or {}).get(name),
        )
        for name, value in whole.items()
        if value is not None
    }


def _interval(
    value: float,
    without: list[float | None],
    shares: Floats,
    bare: Interval,
    bounds: tuple[float, float] | None,
) -> Interval:
    """`bare` with its ends, or with the reason why there are none."""
    known = np.array([part for part in without if part is not None])
    if len(known) < len(without):
        return replace(bare, reason="not defined without some of the groups")
    influence = (1 - shares) * (value - known) if len(known) else np.zeros(1)
    influence -= shares * influence.sum()  # of a mean it sums to 0 already
    ends, reason = ends_or_reason(value, influence, shares, bare.level, bounds=bounds)
    low, high = ends or (None, None)
    return replace(bare, low=low, high=high, reason=reason)
