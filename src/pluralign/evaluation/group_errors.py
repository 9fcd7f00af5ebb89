"""How far an estimate from grouped rows may be from the truth: the one formula behind every interval and
every comparison.

In: the influence of each group on an estimate, and its share of the weight. Out: a standard error with its
degrees of freedom, ends of intervals, p-values.

Notation: G groups; p_g the share of group g in the weight, sum p_g = 1; psi_g its influence, so that the
estimate minus the truth is about sum psi_g. For a ratio of sums, psi_g = (S_g - m C_g) / sum C and
p_g = C_g / sum C.

Variance: CR2 with the working model of random effects, one effect per group. psi_g is then the residual of an
effect u_g, p_g (u_g - sum_h p_h u_h), and a_g^2 psi_g^2 with `a_g^2 = 1 / (1 - 2 p_g + sum p^2)` has the mean
p_g^2 var(u). The degrees of freedom are Bell's and McCaffrey's (Satterthwaite's) for `sum_g a_g^2 psi_g^2`
under the same model. Groups of equal weight have the variance and the G - 1 degrees of freedom of a mean of G
numbers; groups of unequal weight have fewer, down to 1 where one group holds most of the rows.

Skewness: T = (estimate - truth) / standard error leans to one side where the effects do. Hall's transform
`h(T) = T + g (T^2/3 + 1/6) + g^2 T^3/27`, with g the skewness of the estimate, leans less; its interval is
longer on the side of the long tail. As g is estimated from few groups, the interval here is the union with
that of T itself: it is never shorter than Student's. [the union is ours; `studies/intervals` has its coverage
beside that of the jackknife, of the wild bootstrap and others]

Papers: Bell and McCaffrey, "Bias reduction in standard errors for linear regression with multi-stage
samples", Survey Methodology 28 (2002); Imbens and Kolesar, "Robust standard errors in small samples", Review
of Economics and Statistics 98 (2016), section III.C for random effects in the working model; Hall, "On the
removal of skewness by transformation", Journal of the Royal Statistical Society B 54 (1992), equation 2.2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pluralign.evaluation.columns import Floats
from pluralign.evaluation.student_t import student_t_quantile, student_t_tail

__all__ = ["GroupError", "effective_groups", "group_error", "interval_ends", "ratio_influence", "two_sided_p"]

_ROUNDING = 1e-12  # a standard error below this share of the estimate is that of equal groups


class GroupError(NamedTuple):
    """How far an estimate may be from the truth.

    Attributes:
        standard_error: of the estimate; [M] for M estimates.
        skewness: g, of the estimate, in [-2.5, 2.5] about; [M] for M estimates.
        df: degrees of freedom of the standard error, from 1 to G - 1 up to rounding.
        groups: G.
    """

    standard_error: Floats
    skewness: Floats
    df: float
    groups: int


def group_error(influence: Floats, shares: Floats) -> GroupError:
    """Standard error over groups.

    Args:
        influence: [G] or [G, M], G >= 2, the influence of each group on each of M estimates.
        shares: [G], not negative, with sum 1.
    """
    total = float(np.square(shares).sum())
    adjust = 1 / (1 - 2 * shares + total)
    largest = np.abs(influence).max(0)  # squares of numbers near the ends of the range are none
    unit = influence / np.where(largest > 0, largest, 1.0)
    squares = np.square(unit)
    variance = adjust @ squares
    effective = 1 / total
    unbiased = math.sqrt(effective * (effective - 1)) / max(effective - 2, 0.5)
    spread = squares.sum(0) ** 1.5
    cubes = (squares * unit).sum(0)
    skewness = unbiased * np.divide(cubes, spread, out=np.zeros_like(cubes), where=spread > 0)
    df = _degrees_of_freedom(shares, adjust, total)
    return GroupError(largest * np.sqrt(variance), skewness, df, len(shares))


def interval_ends(
    estimate: float, error: GroupError, level: float, *, skewed: bool = True
) -> tuple[float, float]:
    """The ends of an interval for one estimate.

    Args:
        estimate: the estimate.
        error: its error.
        level: nominal coverage, in (0, 1).
        skewed: whether to lengthen the interval on the side of a long tail; without it, it is Student's.
    """
    spread, g = float(error.standard_error), float(error.skewness)
    if spread == 0:
        return estimate, estimate
    reach = student_t_quantile((1 + level) / 2, error.df)
    low, high = -reach, reach
    if skewed and g != 0:
        low, high = min(low, _back(low, g)), max(high, _back(high, g))
    return estimate - high * spread, estimate - low * spread


def two_sided_p(estimate: float, error: GroupError, *, skewed: bool = True) -> float:
    """The p-value of "the truth is 0": 1 - level of the widest interval that leaves 0 out.

    Where all groups agree to the last digit, so that there is no error to measure, it is that of the signs of
    the groups, 2^(1 - G).
    """
    spread, g = float(error.standard_error), float(error.skewness)
    if spread <= _ROUNDING * abs(estimate) or spread == 0:
        return 1.0 if estimate == 0 else 2.0 ** (1 - error.groups)
    t = estimate / spread
    least = abs(t)
    if skewed and g != 0:
        least = min(least, abs(_forth(t, g)))
    return min(1.0, 2 * student_t_tail(least, error.df))


def _forth(t: float, g: float) -> float:
    """Hall's transform; it increases with t."""
    return t + g * (t * t / 3 + 1 / 6) + g * g * t**3 / 27


def _back(value: float, g: float) -> float:
    """The t of which Hall's transform is `value`."""
    return 3 / g * (float(np.cbrt(1 + g * (value - g / 6))) - 1)


def effective_groups(shares: Floats) -> float:
    """`1 / sum p^2 = (sum n_g)^2 / sum n_g^2`: how many groups of equal size vary as much."""
    return float(1 / np.square(shares).sum())


def ratio_influence(sums: Floats, sizes: Floats) -> Floats:
    """The influence of each group on `sum S / sum C`.

    Args:
        sums: [G] or [G, M].
        sizes: [G], with a positive sum.

    Returns:
        As `sums`; it sums to 0 over the groups.
    """
    total = sizes.sum()
    column = sizes if sums.ndim == 1 else sizes[:, None]
    return np.asarray((sums - sums.sum(0) / total * column) / total)


def _degrees_of_freedom(shares: Floats, adjust: Floats, total: float) -> float:
    """`(tr M)^2 / tr(M^2)`, M the covariance of `a_g psi_g` for effects of variance 1.

    `M = diag(d) - x q' - q x' + t q q'` with d = a^2 p^2, x = a p^2, q = a p and t = sum p^2: no G x G matrix
    is formed.
    """
    root = np.sqrt(adjust)
    d, x, q = adjust * shares**2, root * shares**2, root * shares
    xx, xq, qq = float(x @ x), float(x @ q), float(q @ q)
    trace = float((d - 2 * x * q + total * q * q).sum())
    squares = float((d * d - 4 * d * x * q + 2 * total * d * q * q).sum())
    squares += 2 * xx * qq + 2 * xq**2 - 4 * total * xq * qq + (total * qq) ** 2
    return trace**2 / squares
