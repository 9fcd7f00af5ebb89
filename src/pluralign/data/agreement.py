"""How much raters agree, and whether ratings lie on a grid.

In: ratings per item. Out: Krippendorff's alpha; the grid's step.

Notation: unit u has m_u >= 2 values; n values in all; delta(c, k) is the metric's distance.
Paper: Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pluralign.data.table_columns import Ragged
from pluralign.errors import ArgumentError

__all__ = ["Metric", "alpha_of_lists", "grid_step", "krippendorff_alpha"]

Metric = Literal["nominal", "ordinal", "interval"]


def krippendorff_alpha(units: Sequence[Sequence[float]], metric: Metric = "ordinal") -> float | None:
    """Krippendorff's alpha: 1 = perfect agreement, 0 = chance agreement, below 0 = systematic disagreement.

        alpha = 1 - D_o / D_e
        D_o = 1/n sum_u 1/(m_u - 1) sum_(i != j in u) delta(x_i, x_j)
        D_e = 1/(n (n - 1)) sum_(i != j) delta(x_i, x_j)

    delta is [c != k] for "nominal", (c - k)^2 for "interval", and (r(c) - r(k))^2 for "ordinal", with r the
    mid-rank among the n values (equal to the paper's sum of frequencies from c to k, minus half of both
    ends). So two of the three are sums of squares, and no table of values x values is needed.

    Args:
        units: the ratings of each item, without missing ones; items with fewer than 2 are ignored.
        metric: the distance between two ratings.

    Returns:
        A number <= 1; None if it is undefined, because no item has 2 ratings or all ratings are equal.

    Raises:
        ArgumentError: a rating is not finite, or the metric is unknown.

    Reference:
        Krippendorff 2011, sections C and D.
    """
    if metric not in get_args(Metric):
        raise ArgumentError(f"metric: received {metric!r}; allowed: {', '.join(get_args(Metric))}")
    paired = [unit for unit in units if len(unit) >= 2]
    values = np.asarray([value for unit in paired for value in unit], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ArgumentError("units: received a rating that is not finite; leave missing ratings out")
    return alpha_of_lists(Ragged(values, np.asarray([len(unit) for unit in paired], np.int64)), metric)


def alpha_of_lists(units: Ragged, metric: Metric) -> float | None:
    """`krippendorff_alpha` of finite ratings in one array."""
    units = units[np.flatnonzero(units.sizes >= 2)]
    values, sizes = units.values, units.sizes
    if values.size == 0:
        return None
    unit_of = np.repeat(np.arange(len(sizes)), sizes)
    levels, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(levels) == 1:
        return None
    if metric == "nominal":
        # sum over i != j of [x_i != x_j] = m^2 - sum over values of (number of that value)^2
        cells, repeats = np.unique(unit_of * len(levels) + codes, return_counts=True)
        same = np.bincount(cells // len(levels), weights=repeats.astype(np.float64) ** 2)
        within: NDArray[Any] = sizes.astype(np.float64) ** 2 - same
        total = float(values.size) ** 2 - float((counts.astype(np.float64) ** 2).sum())
    else:
        places = levels if metric == "interval" else np.cumsum(counts) - counts / 2
        x = places[codes] - np.average(places, weights=counts)
        # sum over i != j of (x_i - x_j)^2 = 2 m * sum of squares around the unit's mean
        means = np.bincount(unit_of, weights=x) / sizes
        within = 2 * sizes * np.bincount(unit_of, weights=(x - means[unit_of]) ** 2)
        total = 2 * values.size * float((x**2).sum())
    observed = float((within / (sizes - 1)).sum())
    return 1.0 - (values.size - 1) * observed / total


def grid_step(values: ArrayLike, scale: tuple[float, float], max_points: int = 101) -> float | None:
    """The step of the coarsest regular grid over the scale on which all values lie.

    The grid runs from the lowest to the highest value of the scale, both included: lowest + i (highest -
    lowest) / k for i = 0 ... k. Values may miss it by 1e-4 of a step.

    Args:
        values: ratings, in any order, repeated or not.
        scale: (lowest, highest).
        max_points: grids with more points count as continuous.

    Returns:
        The step, in units of the scale; None if there is no such grid, or fewer than 2 distinct values.

    Raises:
        ArgumentError: the scale is empty, or a value is outside it or not finite.

    >>> grid_step([1, 2, 2, 5], (1, 5))
    1.0
    """
    low, high = float(scale[0]), float(scale[1])
    if not -np.inf < low < high < np.inf:
        raise ArgumentError(f"scale: received {scale}; allowed: (lowest, highest), lowest < highest")
    distinct = np.unique(np.asarray(values, dtype=np.float64))
    if not ((distinct >= low) & (distinct <= high)).all():
        raise ArgumentError(f"values: received values outside the scale [{low:g}, {high:g}] or not finite")
    if distinct.size < 2:
        return None
    share = (distinct - low) / (high - low)
    for steps in range(1, max_points):
        places = share * steps
        if np.abs(places - np.round(places)).max() <= 1e-4:
            return (high - low) / steps
    return None
