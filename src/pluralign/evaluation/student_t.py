"""Student's t distribution: its tail and its quantiles, without scipy.

In: numbers. Out: numbers, to about 1e-10 relative.

`P(T > t) = I_x(df/2, 1/2) / 2` at `x = df / (df + t^2)` for t >= 0, with I the regularised incomplete beta
function.

Reference: Abramowitz and Stegun (1964), 26.7.1 and 26.5.8.
"""

from __future__ import annotations

import math
from functools import lru_cache

from pluralign.errors import ArgumentError

__all__ = ["student_t_quantile", "student_t_tail"]


@lru_cache(maxsize=256)
def student_t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t by bisection on its distribution function.

    Args:
        probability: in (0, 1).
        df: degrees of freedom, greater than 0 and finite; need not be whole.

    Returns:
        The quantile, to about 1e-10 relative.

    Raises:
        ArgumentError: an argument is out of range.
    """
    if not 0 < probability < 1 or not 0 < df < math.inf:
        raise ArgumentError(f"needs 0 < probability < 1 and finite df > 0; got {probability} and {df}")
    if probability == 0.5:
        return 0.0
    tail = min(probability, 1 - probability)
    high = 1.0
    while student_t_tail(high, df) > tail:
        high *= 2
    low = 0.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if student_t_tail(middle, df) > tail else (low, middle)
    return math.copysign(high, probability - 0.5)


def student_t_tail(t: float, df: float) -> float:
    """P(T > t), for t of either sign, infinities included.

    Args:
        t: a number; NaN is an error.
        df: degrees of freedom, greater than 0 and finite.

    Raises:
        ArgumentError: an argument is out of range.
    """
    if math.isnan(t) or not 0 < df < math.inf:
        raise ArgumentError(f"needs a number t and finite df > 0; got {t} and {df}")
    if t < 0:
        return 1 - student_t_tail(-t, df)
    if t * t == 0:
        return 0.5
    if math.isinf(t) or math.isinf(square := t * t):
        return 0.0
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
