"""Confidence intervals for means over rows that come in groups (prompts, topics, texts).

In: one value per row and the group of each row. Out: an `Interval`, plain numbers that go into
`results.json`. Rows of one group are never treated as independent: a group is drawn, or left out, as a whole.
A mean over training seeds is the case of one row per group.

Notation: N rows, G groups, x_i values, w_i weights, S_g = sum of w_i x_i and C_g = sum of w_i over group g.
The estimate is the ratio of means sum S_g / sum C_g, which is the weighted mean of the rows.

Papers: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3; Cameron and Miller,
"A Practitioner's Guide to Cluster-Robust Inference", Journal of Human Resources 50 (2015), section VI.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import Floats, Values, as_array

__all__ = ["Interval", "Method", "difference_interval", "mean_interval", "student_t_quantile"]

Method = Literal["auto", "bootstrap", "t"]

_FEW_GROUPS = 100  # below this a percentile bootstrap is too narrow, so "auto" uses the t interval
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
        method: "bootstrap" or "t".
        reason: why there is no interval; empty if there is one.
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
) -> Interval:
    """Weighted mean over rows with an interval that respects groups.

    - `bootstrap`: percentiles of the ratio over resamples of whole groups with replacement.
    - `t`: the linearised ratio, `var = G/(G-1) sum_g (S_g - m C_g)^2 / (sum_g C_g)^2`, with the quantile of
      Student's t at G - 1 degrees of freedom; for equal groups this is the t interval over group means.
    - `auto`: `t` under 100 groups, else `bootstrap`.

    A ratio `sum a / sum b` is the call `mean_interval(a / b, groups, weights=b)`.

    Args:
        values: [N], any unit; rows that are NaN are dropped and counted.
        groups: [N] labels, or None if every row is a separate group (seeds).
        method: "auto", "bootstrap" or "t".
        level: nominal coverage, in (0, 1).
        resamples: bootstrap resamples, at least 100.
        seed: random seed of the bootstrap; the same seed gives the same interval.
        weights: [N], finite and not negative; rows of weight 0 are ignored. Default: all 1.

    Returns:
        An `Interval`. For a single group the ends are None and `reason` says so.

    Raises:
        ArgumentError: shapes differ, no row is left, a value is infinite, or an argument is out of range.
    """
    _check_options(method, level, resamples)
    x = _column(values, "values")
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
    chosen = ("t" if count < _FEW_GROUPS else "bootstrap") if method == "auto" else method
    estimate = float(sums.sum() / sizes.sum())
    ends: tuple[float, float] | None = None
    if count > 1:
        ends = (
            _t_ends(sums, sizes, level)
            if chosen == "t"
            else _bootstrap_ends(sums, sizes, level, resamples, seed)
        )
    return Interval(
        estimate=estimate,
        low=None if ends is None else ends[0],
        high=None if ends is None else ends[1],
        level=level,
        groups=count,
        rows=int(keep.sum()),
        dropped=int(missing.sum()),
        method=chosen,
        reason="" if ends else "only one group: the variation between groups is unknown",
    )


def difference_interval(
    a: Values,
    b: Values,
    groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    method: Method = "auto",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    weights: Values | None = None,
) -> Interval:
    """Mean of `a - b` over the same rows, paired; positive if `a` is larger.

    Args:
        a: [N] values of the first system; a row that is NaN in either is dropped and counted.
        b: [N] values of the second system on the same rows.
        groups: as in `mean_interval`, like the arguments that follow.
        method: "auto", "bootstrap" or "t".
        level: nominal coverage, in (0, 1).
        resamples: bootstrap resamples, at least 100.
        seed: random seed of the bootstrap.
        weights: [N], finite and not negative.

    Returns:
        An `Interval` of the difference; if `excludes(0)` is False, the difference is not significant.

    Raises:
        ArgumentError: as `mean_interval`, or `a` and `b` differ in length.
    """
    first, second = _column(a, "a"), _column(b, "b")
    if first.shape != second.shape:
        raise ArgumentError(f"a paired difference needs the same rows; got {len(first)} and {len(second)}")
    return mean_interval(first - second, groups, method, level, resamples, seed, weights)


@lru_cache(maxsize=256)
def student_t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t by bisection on its distribution function.

    `P(T > t) = I_x(df/2, 1/2) / 2` at `x = df / (df + t^2)` for t >= 0, with I the regularised incomplete
    beta function.

    Args:
        probability: in (0, 1).
        df: degrees of freedom, greater than 0 and finite.

    Returns:
        The quantile, to about 1e-10 relative.

    Raises:
        ArgumentError: an argument is out of range.

    Reference:
        Abramowitz and Stegun (1964), 26.7.1 and 26.5.8.
    """
    if not 0 < probability < 1 or not 0 < df < math.inf:
        raise ArgumentError(f"needs 0 < probability < 1 and finite df > 0; got {probability} and {df}")
    if probability == 0.5:
        return 0.0
    tail = min(probability, 1 - probability)
    high = 1.0
    while _t_tail(high, df) > tail:
        high *= 2
    low = 0.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _t_tail(middle, df) > tail else (low, middle)
    return math.copysign(high, probability - 0.5)


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


def _t_ends(sums: Floats, sizes: Floats, level: float) -> tuple[float, float]:
    count, total = len(sums), sizes.sum()
    estimate = sums.sum() / total
    variance = count / (count - 1) * np.square(sums - estimate * sizes).sum() / total**2
    half = student_t_quantile((1 + level) / 2, count - 1) * math.sqrt(variance)
    return float(estimate - half), float(estimate + half)


def _t_tail(t: float, df: float) -> float:
    """P(T > t) for t > 0."""
    square = t * t
    return 0.5 * _regularised_beta(df / (df + square), square / (df + square), df / 2, 0.5)


def _regularised_beta(x: float, complement: float, a: float, b: float) -> float:
    """I_x(a, b) by its continued fraction (modified Lentz); `complement` is 1 - x, given exactly."""
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast only left of the mean
        return 1 - _regularised_beta(complement, x, b, a)
    log_front = (
        a * math.log(x)
        + b * math.log(complement)
        + math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
        - math.log(a)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    fraction = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = fraction
        for term in (even, odd):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            fraction *= c * d
        if abs(fraction - before) <= 1e-16 * abs(fraction):
            break
    return math.exp(log_front) * fraction


def _column(values: Values, name: str) -> Floats:
    array = as_array(values)
    if array.ndim != 1 or not len(array):
        raise ArgumentError(f"{name} must be one column of at least one row; got shape {array.shape}")
    return array


def _check_options(method: str, level: float, resamples: int) -> None:
    if method not in ("auto", "bootstrap", "t"):
        raise ArgumentError(f"method {method!r} does not exist; use 'auto', 'bootstrap' or 't'")
    if not 0 < level < 1:
        raise ArgumentError(f"level is a share between 0 and 1, such as 0.95; got {level}")
    if resamples < 100:
        raise ArgumentError(f"needs at least 100 resamples; got {resamples}")
