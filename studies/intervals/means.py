"""Coverage of nominal 95 % intervals of a mean over rows whose groups have effects.

In: how large groups are, how many, the distribution of their effects. Out: how often each kind of interval
covers the truth, and how wide it is against Student's.

A row is its group's effect, of mean 0 and variance 1, plus normal noise of variance 1 (none for `bare`
effects). Groups have 10 rows each, or the numbers of ratings of emobank's 76 groups; of fewer than 76, those
at evenly spread ranks, the largest included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pluralign.evaluation.group_errors import (
    effective_groups,
    group_error,
    interval_ends,
    ratio_influence,
)
from pluralign.evaluation.student_t import student_t_quantile

Floats = npt.NDArray[np.float64]

EMOBANK = (
    *(60, 72, 78, 78, 78, 84, 84, 96, 96, 102, 102, 108, 108, 108, 114, 114, 126, 126, 126, 138, 144, 150),
    *(150, 156, 174, 174, 174, 180, 192, 198, 198, 204, 204, 216, 222, 240, 246, 246, 270, 270, 270, 270),
    *(276, 282, 294, 312, 336, 336, 372, 372, 432, 444, 504, 516, 534, 564, 576, 624, 720, 732, 738, 768),
    *(804, 864, 906, 1080, 1296, 1362, 1470, 1494, 2190, 2784, 3432, 3774, 5550, 7152),
)
DRAWS, RESAMPLED, RESAMPLES = 4000, 400, 399


def _lognormal(generator: np.random.Generator, size: tuple[int, int]) -> Floats:
    drawn = np.exp(generator.normal(size=size))
    return np.asarray((drawn - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e))


EFFECTS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda generator, size: generator.normal(size=size),
    "lognormal": _lognormal,
    "bare lognormal": _lognormal,
    "t3": lambda generator, size: generator.standard_t(3, size) / np.sqrt(3),
}


def sizes_of(kind: str, groups: int) -> Floats:
    """The number of rows of each group."""
    if kind == "equal":
        return np.full(groups, 10.0)
    ranks = np.linspace(len(EMOBANK) - 1, 0, min(groups, len(EMOBANK))).round().astype(int)
    return np.array(EMOBANK, np.float64)[ranks]


def run(sizes: str, groups: int, effects: str, seed: int) -> dict[str, Any]:
    """Coverage of every kind of interval on the same draws."""
    generator = np.random.default_rng(seed)
    rows = sizes_of(sizes, groups)
    sums = rows[:, None] * EFFECTS[effects](generator, (len(rows), DRAWS))
    if not effects.startswith("bare"):
        sums += np.sqrt(rows)[:, None] * generator.normal(size=sums.shape)
    estimates, shares = sums.sum(0) / rows.sum(), rows / rows.sum()
    influence = ratio_influence(sums, rows)
    error = group_error(influence, shares)
    spread, skewness = error.standard_error, error.skewness

    def ends(draw: int, *, skewed: bool) -> tuple[float, float]:
        own = error._replace(standard_error=spread[draw], skewness=skewness[draw])
        return interval_ends(float(estimates[draw]), own, 0.95, skewed=skewed)

    intervals = {
        "ours": np.array([ends(draw, skewed=True) for draw in range(DRAWS)]),
        "CR2": np.array([ends(draw, skewed=False) for draw in range(DRAWS)]),
        "Student": _symmetric(estimates, _linearised(influence), len(rows) - 1),
        "jackknife": _symmetric(estimates, _jackknife(sums, rows), len(rows) - 1),
    }
    part = generator.choice(DRAWS, RESAMPLED, replace=False)
    boots = [_bootstrap(sums[:, draw], rows, generator) for draw in part]
    intervals["bootstrap"] = np.array(boots)
    covered = {
        name: float(((found[:, 0] <= 0) & (found[:, 1] >= 0)).mean()) for name, found in intervals.items()
    }
    covered["wild bootstrap"] = float(
        np.mean([_wild_p(sums[:, draw], rows, generator) > 0.05 for draw in part])
    )
    widths = {name: float(np.median(found[:, 1] - found[:, 0])) for name, found in intervals.items()}
    return {
        "covered": covered,
        "width": {name: width / widths["Student"] for name, width in widths.items()},
        "effective": effective_groups(shares),
        "df": error.df,
        "draws": DRAWS,
        "resampled": RESAMPLED,
    }


def _symmetric(estimates: Floats, errors: Floats, df: float) -> Floats:
    half = student_t_quantile(0.975, df) * errors
    return np.stack([estimates - half, estimates + half], 1)


def _linearised(influence: Floats) -> Floats:
    count = len(influence)
    return np.asarray(np.sqrt(count / (count - 1) * np.square(influence).sum(0)))


def _jackknife(sums: Floats, rows: Floats) -> Floats:
    """Of leaving out one group at a time."""
    without = (sums.sum(0) - sums) / (rows.sum() - rows)[:, None]
    count = len(rows)
    return np.asarray(np.sqrt((count - 1) / count * np.square(without - without.mean(0)).sum(0)))


def _bootstrap(sums: Floats, rows: Floats, generator: np.random.Generator) -> tuple[float, float]:
    """Percentiles over resampled groups."""
    drawn = generator.integers(len(rows), size=(RESAMPLES, len(rows)))
    low, high = np.quantile(sums[drawn].sum(1) / rows[drawn].sum(1), [0.025, 0.975])
    return float(low), float(high)


def _wild_p(sums: Floats, rows: Floats, generator: np.random.Generator) -> float:
    """p of the truth, 0, by the restricted wild cluster bootstrap-t with Rademacher weights."""
    signs = generator.choice([-1.0, 1.0], size=(len(rows), RESAMPLES))
    drawn = np.concatenate([sums[:, None], sums[:, None] * signs], 1)
    t = np.abs(drawn.sum(0)) / rows.sum() / _linearised(ratio_influence(drawn, rows))
    return float((t[1:] >= t[0] * (1 - 1e-9)).mean())
