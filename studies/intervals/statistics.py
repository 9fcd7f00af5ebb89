"""Coverage of nominal 95 % intervals of statistics that are not means, by the influence of groups left out.

In: a statistic and a number of groups of equal size. Out: how often its interval covers the truth, which is
that of a very large sample; the same of the t interval of the delete-one jackknife, which was used before.

Pairs (x, y) of a row are normal with correlation .5, half of the variance of each being that of its group.
`auc`: how well x ranks whether y is above 0. `calibration_error`: of the probability Phi(x) for y > 0, in 10
bins; it is biased upwards in small samples, which no interval mends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pluralign.evaluation.intervals import student_t_quantile
from pluralign.evaluation.jackknife import jackknife_intervals
from pluralign.evaluation.probabilities import expected_calibration_error, reliability_curve
from pluralign.rank_correlation import mean_ranks, spearman

Floats = npt.NDArray[np.float64]

DRAWS, ROWS, LARGE = 400, 20, 100_000


def _spearman(x: Floats, y: Floats) -> float | None:
    return spearman(torch.from_numpy(x), torch.from_numpy(y))


def _auc(x: Floats, y: Floats) -> float | None:
    above = y > 0
    wins = int(above.sum())
    if wins in (0, len(y)):
        return None
    ranks = mean_ranks(torch.from_numpy(x)).numpy()
    return float((ranks[above].sum() - wins * (wins + 1) / 2) / (wins * (len(y) - wins)))


def _ratio(x: Floats, y: Floats) -> float:
    return float(np.exp(x).sum() / np.exp(y).sum())


def _calibration_error(x: Floats, y: Floats) -> float:
    probs = torch.special.ndtr(torch.from_numpy(x)).numpy()
    return expected_calibration_error(reliability_curve(probs, (y > 0).astype(np.float64)))


STATISTICS: dict[str, Callable[[Floats, Floats], float | None]] = {
    "spearman": _spearman,
    "auc": _auc,
    "ratio": _ratio,
    "calibration_error": _calibration_error,
}


def run(statistic: str, groups: int, seed: int) -> dict[str, Any]:
    """Coverage of both intervals on the same draws."""
    generator = np.random.default_rng(seed)
    measure = STATISTICS[statistic]
    truth = measure(*_drawn(generator, LARGE, 1))
    assert truth is not None  # both kinds of y are in so many rows
    covered, before, widths = [], [], []
    for _ in range(DRAWS):
        x, y = _drawn(generator, groups, ROWS)
        member = np.repeat(np.arange(groups), ROWS)
        found = jackknife_intervals(lambda rows, x=x, y=y: {"it": measure(x[rows], y[rows])}, member)
        if "it" not in found or found["it"].low is None or found["it"].high is None:
            continue
        covered.append(found["it"].low <= truth <= found["it"].high)
        widths.append(found["it"].high - found["it"].low)
        low, high = _delete_one(lambda rows, x=x, y=y: measure(x[rows], y[rows]), member, groups)
        before.append(low <= truth <= high)
    return {
        "truth": truth,
        "covered": {"ours": float(np.mean(covered)), "jackknife": float(np.mean(before))},
        "width": float(np.median(widths)),
        "draws": len(covered),
    }


def _drawn(generator: np.random.Generator, groups: int, rows: int) -> tuple[Floats, Floats]:
    """x and y, [groups * rows] each."""
    covariance = np.array([[1.0, 0.5], [0.5, 1.0]]) / 2
    effects = generator.multivariate_normal([0, 0], covariance, size=groups)
    noise = generator.multivariate_normal([0, 0], covariance, size=groups * rows)
    both = np.repeat(effects, rows, 0) + noise
    return both[:, 0].copy(), both[:, 1].copy()


def _delete_one(
    measure: Callable[[Any], float | None], member: npt.NDArray[np.int64], groups: int
) -> tuple[float, float]:
    """Student's interval with the spread of the statistic without each of up to 50 blocks of groups."""
    block = member % 50
    count = min(groups, 50)
    without = np.array([measure(block != b) for b in range(count)], np.float64)
    half = student_t_quantile(0.975, count - 1) * np.sqrt((count - 1) * without.var())
    whole = measure(member >= 0)
    assert whole is not None
    return float(whole - half), float(whole + half)
