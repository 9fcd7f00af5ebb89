"""Confidence intervals for means over rows that come in groups (prompts, topics, texts).

In: one value per row and the group of each row. Out: an `Interval`, plain numbers that go into
`results.json`. Rows of one group are never treated as independent: the formula, in `group_errors`, knows
groups alone. A mean over training seeds is the case of one row per group.

Notation: N rows, G groups, x_i values, w_i weights, S_g = sum of w_i x_i and C_g = sum of w_i over group g.
The estimate is the ratio of means sum S_g / sum C_g, which is the weighted mean of the rows.

Papers: those of `group_errors`; for the bootstrap, Efron and Tibshirani, An Introduction to the Bootstrap
(1993), section 13.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import Floats, Values, as_array
from pluralign.evaluation.group_errors import (
    effective_groups,
    group_error,
    interval_ends,
    ratio_influence,
)
from pluralign.evaluation.student_t import student_t_quantile

__all__ = [
    "FEWEST_GROUPS",
    "Interval",
    "Method",
    "difference_interval",
    "ends_or_reason",
    "mean_interval",
    "student_t_quantile",
]

Method = Literal["auto", "skewed_t", "t", "bootstrap"]
_METHODS = ("auto", "skewed_t", "t", "bootstrap")

_ONE_GROUP = "only one group: the variation between groups is unknown"
FEWEST_GROUPS = 5
"""Below this no interval over groups is known to cover what it says."""
_RESAMPLE_CELLS = 2_000_000  # resampled groups held in memory at a time


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: the weighted mean over rows.
        low: lower end, None if the data does not determine one (see `reason`).
        high: upper end, None if the data does not determine one.
        level: nominal coverage, in (0, 1).
        groups: number of groups used.
        rows: number of rows used.
        dropped: number of rows left out because their value was NaN.
        method: "skewed_t", "t", "bootstrap" or "exact"; "jackknife" for statistics that are not means.
        reason: why there is no interval; empty if there is one.
        effective_groups: (sum n_g)^2 / sum n_g^2, how many groups of equal size vary as much; None where it
            was not computed.
    """

    estimate: float
    low: float | None
    high: float | None
    level: float
    groups: int
    rows: int
    dropped: int
    method: str
    reason: str = ""
    effective_groups: float | None = None

    def excludes(self, value: float) -> bool:
        """Whether the interval exists and `value` is outside; a difference is significant if 0 is outside."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary of JSON types."""
        return asdict(self)


def mean_interval(
    values: Values,
    groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    method: Method = "auto",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    weights: Values | None = None,
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """Weighted mean over rows with an interval that respects groups.

    - `skewed_t`: CR2 with random-effects degrees of freedom, longer on the side of a long
      tail (`group_errors`).
    - `t`: the same without regard to skewness, symmetric; for equal groups the t interval over group means.
    - `bootstrap`: percentiles of the ratio over resamples of whole groups with replacement.
    - `auto`: `skewed_t` of groups, at least 5 of them; `t` without groups, for the few seeds of a study.

    A ratio `sum a / sum b` is the call `mean_interval(a / b, groups, weights=b)`.

    Args:
        values: [N], any unit; rows that are NaN are dropped and counted.
        groups: [N] labels, or None if every row is a separate group (seeds).
        method: "auto", "skewed_t", "t" or "bootstrap".
        level: nominal coverage, in (0, 1).
        resamples: bootstrap resamples, at least 100.
        seed: random seed of the bootstrap; the same seed gives the same interval.
        weights: [N], finite and not negative; rows of weight 0 are ignored. Default: all 1.
        bounds: the lowest and highest value there can be, such as (0, 1) for a share. The interval stays
            inside. Where every row is at one of them, the other end is that of Clopper and Pearson for as
            many draws as there are effective groups: 30 successes in 30 groups are not certainty.

    Returns:
        An `Interval`. For a single group, and by `auto` for fewer than 5, the ends are None and `reason` says
        so.

    Raises:
        ArgumentError: shapes differ, no row is left, a value is infinite, or an argument is out of range.
    """
    _check_options(method, level, resamples)
    x = _column(values, "values")
    _check_bounds(x, bounds)
    w = np.ones_like(x) if weights is None else _column(weights, "weights")
    labels = np.arange(len(x)) if groups is None else np.asarray(groups)
    if w.shape != x.shape or labels.shape != x.shape:
        raise ArgumentError(
            f"values, groups and weights need one entry per row; got {x.shape}, {labels.shape} and {w.shape}"
        )
    if not np.isfinite(w).all() or (w < 0).any():
        raise ArgumentError("weights must be finite and not negative")
    if np.isinf(x).any():
        raise ArgumentError("values have an infinite entry; the mean is infinite and has no interval")
    missing = np.isnan(x)
    keep = ~missing & (w > 0)
    if not keep.any():
        raise ArgumentError(
            f"no rows are left: {int(missing.sum())} of {len(x)} values are NaN, or all weights are 0"
        )

    index = _numbered(labels[keep])
    sums = np.asarray(np.bincount(index, weights=w[keep] * x[keep]), dtype=np.float64)
    sizes = np.asarray(np.bincount(index, weights=w[keep]), dtype=np.float64)
    count = len(sums)
    estimate = float(sums.sum() / sizes.sum())
    shares = sizes / sizes.sum()
    chosen: str = ("t" if groups is None else "skewed_t") if method == "auto" else method
    ends: tuple[float, float] | None = None
    reason = ""
    if count == 1:
        reason = _ONE_GROUP
    elif bounds is not None and estimate in bounds:
        chosen, ends = "exact", _ends_at_bound(estimate, bounds, level, effective_groups(shares))
    elif chosen == "bootstrap":
        ends = _bootstrap_ends(sums, sizes, level, resamples, seed)
    else:
        fewest = FEWEST_GROUPS if method == "auto" and groups is not None else 2
        influence = ratio_influence(sums, sizes)
        ends, reason = ends_or_reason(
            estimate, influence, shares, level, skewed=chosen == "skewed_t", fewest=fewest
        )
    low, high = (None, None) if ends is None else _inside(ends, bounds)
    return Interval(
        estimate=estimate,
        low=low,
        high=high,
        level=level,
        groups=count,
        rows=int(keep.sum()),
        dropped=int(missing.sum()),
        method=chosen,
        reason=reason,
        effective_groups=effective_groups(shares),
    )


def ends_or_reason(
    estimate: float,
    influence: Floats,
    shares: Floats,
    level: float,
    *,
    skewed: bool = True,
    fewest: int = FEWEST_GROUPS,
    bounds: tuple[float, float] | None = None,
) -> tuple[tuple[float, float] | None, str]:
    """The ends of an interval from the influence of groups, or None and a sentence that says why.

    Args:
        estimate: the estimate.
        influence: [G], of each group, as in `group_errors`.
        shares: [G], of each group in the weight.
        level: nominal coverage, in (0, 1).
        skewed: whether to regard skewness.
        fewest: number of groups that are needed.
        bounds: the lowest and highest value there can be.
    """
    if len(influence) < 2:
        return None, _ONE_GROUP
    if len(influence) < fewest:
        return None, f"{len(influence)} groups: an interval over groups needs at least {fewest}"
    return _inside(interval_ends(estimate, group_error(influence, shares), level, skewed=skewed), bounds), ""


def difference_interval(
    a: Values,
    b: Values,
    groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    method: Method = "auto",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    weights: Values | None = None,
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """Mean of `a - b` over the same rows, paired; positive if `a` is larger.

    Args:
        a: [N] values of the first system; a row that is NaN in either is dropped and counted.
        b: [N] values of the second system on the same rows.
        groups: as in `mean_interval`, like the arguments that follow.
        method: "auto", "skewed_t", "t" or "bootstrap".
        level: nominal coverage, in (0, 1).
        resamples: bootstrap resamples, at least 100.
        seed: random seed of the bootstrap.
        weights: [N], finite and not negative.
        bounds: of the difference, such as (-1, 1) for that of two shares.

    Returns:
        An `Interval` of the difference; if `excludes(0)` is False, the difference is not significant.

    Raises:
        ArgumentError: as `mean_interval`, or `a` and `b` differ in length.
    """
    first, second = _column(a, "a"), _column(b, "b")
    if first.shape != second.shape:
        raise ArgumentError(f"a paired difference needs the same rows; got {len(first)} and {len(second)}")
    return mean_interval(first - second, groups, method, level, resamples, seed, weights, bounds)


def _numbered(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """0, 1, ... for the labels in their order; without sorting where they are small numbers already."""
    if labels.dtype.kind == "i" and labels.min() >= 0 and labels.max() < 2 * len(labels):
        return np.asarray((np.bincount(labels) > 0).cumsum()[labels] - 1, np.int64)
    _, index = np.unique(labels, return_inverse=True)
    return np.asarray(index, np.int64)


def _bootstrap_ends(
    sums: Floats, sizes: Floats, level: float, resamples: int, seed: int
) -> tuple[float, float]:
    drawn = _times_drawn(len(sums), resamples, seed)
    step = max(1, _RESAMPLE_CELLS // len(sums))
    totals = [drawn[start : start + step] @ np.stack([sums, sizes], 1) for start in range(0, resamples, step)]
    total, size = np.concatenate(totals).T
    low, high = np.quantile(total / size, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@lru_cache(maxsize=2)
def _times_drawn(count: int, resamples: int, seed: int) -> npt.NDArray[np.uint16]:
    """How often each resample has each group, [resamples, count]; all intervals of a table share it."""
    generator = np.random.default_rng(seed)
    times = np.empty((resamples, count), np.uint16)
    step = max(1, _RESAMPLE_CELLS // count)
    for start in range(0, resamples, step):
        drawn = generator.integers(count, size=(min(step, resamples - start), count))
        for row, groups in enumerate(drawn, start):
            times[row] = np.bincount(groups, minlength=count)
    return times


def _inside(ends: tuple[float, float], bounds: tuple[float, float] | None) -> tuple[float, float]:
    return ends if bounds is None else (max(ends[0], bounds[0]), min(ends[1], bounds[1]))


def _ends_at_bound(
    estimate: float, bounds: tuple[float, float], level: float, effective: float
) -> tuple[float, float]:
    """Where all rows are at a bound, no spread shows how far others may be from it."""
    low, high = bounds
    reach = (high - low) * (1 - ((1 - level) / 2) ** (1 / effective))
    return (low, low + reach) if estimate == low else (high - reach, high)


def _column(values: Values, name: str) -> Floats:
    array = as_array(values)
    if array.ndim != 1 or not len(array):
        raise ArgumentError(f"{name} must be one column of at least one row; got shape {array.shape}")
    return array


def _check_options(method: str, level: float, resamples: int) -> None:
    if method not in _METHODS:
        raise ArgumentError(f"method {method!r} does not exist; allowed: {', '.join(_METHODS)}")
    if not 0 < level < 1:
        raise ArgumentError(f"level is a share between 0 and 1, such as 0.95; got {level}")
    if resamples < 100:
        raise ArgumentError(f"needs at least 100 resamples; got {resamples}")


def _check_bounds(values: Floats, bounds: tuple[float, float] | None) -> None:
    if bounds is None:
        return
    low, high = bounds
    if not low < high:
        raise ArgumentError(f"bounds are a lower and a higher number; got {bounds}")
    if (values < low).any() or (values > high).any():
        raise ArgumentError(
            f"values lie outside of bounds {bounds}: {np.nanmin(values):g} to {np.nanmax(values):g}"
        )
