"""Stochastic dominance: is one sample of rewards better than another for everybody, not only on average?

In: the rewards of two policies, or of two models on the same rows, and the group of each. Out: a verdict for
each order, with its confidence.

First order: at every threshold z, a reward above z is at least as likely under A: everybody who likes more
better than less prefers A. Second order: at every z the expected shortfall `E (z - X)_+` is at most as large
under A: everybody who is averse to risk (a concave utility) prefers A; the same as a CVaR at least as high at
every level.

Notation: d(z) = P(B <= z) - P(A <= z), or E (z - B)_+ - E (z - A)_+; A dominates if d(z) >= 0 for all z.

That A dominates is concluded from the largest of the one-sided p-values of "d(z) <= 0" over all z that are
tested (an intersection-union test: no correction is needed, and the p-value may be too large, never too
small); of the first order, it also needs the second, which follows from it. That A does not dominate is
concluded from the smallest of the p-values of "d(z) >= 0", corrected for the number of z by the multiplier
bootstrap of the largest statistic. A tie, such as two equal means, is neither: then nothing is known.

d(z) goes to 0 at the ends, where a sample says nothing. So rewards below the 5 % quantile of both samples
together count as equal to it: the verdicts are about people who do not distinguish them. The first order also
leaves out what lies above the 95 % quantile.

Papers: Davidson and Duclos, "Testing for restricted stochastic dominance", Econometric Reviews 32 (2013);
Barrett and Donald, "Consistent tests for stochastic dominance", Econometrica 71 (2003) for the bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pluralign.checks import as_finite
from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import Floats, Values, group_numbers, noise_generator, reward_column
from pluralign.evaluation.group_errors import effective_groups, group_error, ratio_influence
from pluralign.evaluation.student_t import student_t_tail

__all__ = ["LOWEST", "dominance", "dominance_of_groups"]

LOWEST = 0.05  # quantile of both samples below which rewards are not told apart
_MOST_THRESHOLDS = 100
_MULTIPLIERS = 999
_ROUNDING = 1e-12
_ORDERS = {"first": "everybody who prefers higher rewards", "second": "every risk-averse person"}


def dominance(
    a: Values,
    b: Values,
    group: Sequence[Any] | npt.NDArray[Any] | None = None,
    group_b: Sequence[Any] | npt.NDArray[Any] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Whether the rewards of A dominate those of B.

    Args:
        a: [N], finite rewards; higher is better.
        b: [M]; N of them if they are of the same rows.
        group: [N] labels, such as prompts; None if every row is a group of its own.
        group_b: [M] labels of b; None if they are those of a. Both must have the same groups.
        level: confidence from which on something is concluded, in (0, 1).
        seed: random seed of the bootstrap.

    Returns:
        `first` and `second`, each with `verdict` (`dominates`, `does not dominate` or `not known`),
        `confidence` (1 - p of "does not dominate"), `violated` (1 - p of "dominates"), `in_sample` (whether
        it holds for these rewards as they are), `worst` (the z where A does worst against B, and d there) and
        `words`; `difference` of the means, `lowest`, `rows`, `groups` and `effective_groups`.

    Raises:
        ArgumentError: a reward is not finite, lengths differ, groups are not the same, there is one group, or
            all rewards are equal.
    """
    first, second = reward_column(a, "a"), reward_column(b, "b")
    labels = list(range(len(first))) if group is None else list(group)
    others = labels if group_b is None else list(group_b)
    if len(labels) != len(first) or len(others) != len(second):
        raise ArgumentError(
            f"needs one group per reward: a has {len(first)} rewards and {len(labels)} groups, "
            f"b {len(second)} and {len(others)}"
        )
    codes = group_numbers([*labels, *others], len(first) + len(second), "group")
    of_a, of_b = codes[: len(first)], codes[len(first) :]
    if set(of_a.tolist()) != set(of_b.tolist()):
        raise ArgumentError("a and b must have rewards in the same groups, such as the same prompts")
    return dominance_of_groups(first, second, of_a, of_b, level=level, seed=seed)


def dominance_of_groups(
    a: Floats,
    b: Floats,
    of_a: npt.NDArray[Any],
    of_b: npt.NDArray[Any],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """`dominance` of finite rewards whose groups are numbered 0 to G - 1, each with rows of both."""
    if not 0 < as_finite(level) < 1:
        raise ArgumentError(f"level is a share between 0 and 1, such as 0.95; got {level}")
    groups = int(of_a.max()) + 1
    if groups < 2:
        raise ArgumentError("dominance needs at least two groups: the variation between groups is unknown")
    both, difference = np.concatenate([a, b]), float(a.mean() - b.mean())
    if both.min() == both.max():
        raise ArgumentError(f"all rewards are {both[0]:g}: there is nothing to compare")
    sizes = [np.bincount(codes, minlength=groups).astype(np.float64) for codes in (of_a, of_b)]
    shares = (sizes[0] / len(a) + sizes[1] / len(b)) / 2
    generator = noise_generator(seed, "dominance")
    signs = generator.integers(0, 2, (_MULTIPLIERS, groups), np.int8) * np.int8(2) - np.int8(1)
    found: dict[str, Any] = {"lowest": LOWEST, "rows": [len(a), len(b)], "groups": groups}
    floor = min(np.sort(both)[int(LOWEST * (len(both) - 1))], both[both < both.max()].max())
    a, b = np.maximum(a, floor), np.maximum(b, floor)
    needed = 0.0
    for order in ("second", "first"):
        thresholds = _thresholds(np.concatenate([a, b]), order)
        parts = [
            _shortfalls(values, codes, thresholds, order, groups) for values, codes in ((a, of_a), (b, of_b))
        ]
        gap = parts[1].sum(0) / len(b) - parts[0].sum(0) / len(a)
        influence = ratio_influence(parts[1], sizes[1]) - ratio_influence(parts[0], sizes[0])
        tested = _Tested.of(gap, influence, shares, signs)
        needed = max(needed, tested.holds)
        found[order] = _verdict(order, thresholds, tested, needed, level)
    return found | {
        "difference": difference,
        "effective_groups": effective_groups(shares),
        "level": level,
    }


def _thresholds(both: Floats, order: str) -> Floats:
    """Observed rewards, spread evenly over the ranks if there are many; at least one.

    Both differences are largest at observed rewards, or linear between two of them. The lowest has no
    shortfall, and at the highest both probabilities are 1.
    """
    ordered = np.sort(both)
    if order == "first":
        high = ordered[int(np.ceil((1 - LOWEST) * (len(ordered) - 1)))]
        inside = ordered[(ordered <= high) & (ordered < ordered[-1])]
    else:
        inside = ordered[ordered > ordered[0]]
    places = np.linspace(0, len(inside) - 1, _MOST_THRESHOLDS).round().astype(int)
    distinct = np.unique(inside)
    return distinct if len(distinct) <= _MOST_THRESHOLDS else np.unique(inside[places])


def _shortfalls(
    values: Floats, codes: npt.NDArray[Any], thresholds: Floats, order: str, groups: int
) -> Floats:
    """Sums over each group of `1 {x <= z}` or `(z - x)_+`: [G, Z]."""
    columns = [
        np.bincount(
            codes, (values <= z).astype(np.float64) if order == "first" else np.maximum(z - values, 0), groups
        )
        for z in thresholds
    ]
    return np.asarray(np.stack(columns, 1))


@dataclass(frozen=True)
class _Tested:
    """The difference at each threshold, and the p-values of both conclusions.

    Attributes:
        gap: [Z] d(z).
        t: [Z] d(z) over its standard error; infinite where all groups have the same difference.
        holds: the p-value of "A does not dominate".
        fails: the p-value of "A dominates".
    """

    gap: Floats
    t: Floats
    holds: float
    fails: float

    @classmethod
    def of(cls, gap: Floats, influence: Floats, shares: Floats, signs: npt.NDArray[np.int8]) -> _Tested:
        error = group_error(influence, shares)
        known = error.standard_error > _ROUNDING * float(np.abs(gap).max())
        gap = np.where(np.abs(gap) > _ROUNDING * float(np.abs(gap).max()), gap, 0.0)
        t = np.where(gap > 0, np.inf, np.where(gap < 0, -np.inf, 0.0))
        t[known] = gap[known] / error.standard_error[known]
        decisive = known | (gap != 0)  # where no group differs both are equal, which is no objection
        least = float(t[decisive].min()) if decisive.any() else 0.0
        by_signs = 2.0**-error.groups  # all groups agree: the p-value of their signs
        holds = by_signs if least == np.inf else student_t_tail(least, error.df)
        fails = 1.0
        if least == -np.inf:
            fails = by_signs
        elif least < 0:
            drawn = signs.astype(np.float64) @ (influence[:, known] / error.standard_error[known])
            fails = float((1 + (drawn.max(1) >= -least).sum()) / (1 + len(signs)))
        return cls(gap, np.where(decisive, t, np.inf), holds, fails)


def _verdict(order: str, thresholds: Floats, tested: _Tested, holds: float, level: float) -> dict[str, Any]:
    gap, worst = tested.gap, int(np.argmin(tested.t))
    in_sample = bool((gap >= 0).all() and (gap > 0).any())
    verdict = (
        "dominates"
        if holds <= 1 - level
        else "does not dominate"
        if tested.fails <= 1 - level
        else "not known"
    )
    people = _ORDERS[order]
    words = {
        "dominates": f"A is better for {people} (confidence {_shown(1 - holds)})",
        "does not dominate": f"A is not better for {people} (confidence {_shown(1 - tested.fails)})",
        "not known": f"not known whether A is better for {people}"
        + (f": it is in this sample, with a confidence of {_shown(1 - holds)}" if in_sample else ""),
    }
    return {
        "verdict": verdict,
        "confidence": 1 - holds,
        "violated": 1 - tested.fails,
        "in_sample": in_sample,
        "worst": {"threshold": float(thresholds[worst]), "difference": float(gap[worst])},
        "thresholds": len(thresholds),
        "words": words[verdict],
    }


def _shown(confidence: float) -> str:
    return "over 99.9 %" if confidence > 0.999 else f"{100 * confidence:.1f} %"
