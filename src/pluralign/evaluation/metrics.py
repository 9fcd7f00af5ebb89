"""Metrics of reward models, per row: pairs won, calibration on ratings, rank correlation.

In: utilities, or a `RewardDistribution` of N rows and ratings [N] or [N, R], R raters padded with NaN;
tensors, arrays or lists. Out: one value per row (float64 on the CPU) wherever the metric is a mean over
rows, so that `intervals` can respect groups; else a plain dictionary for `results.json`. A row without a
rating gives NaN, which `intervals` drops and counts. CRPS is `distribution.crps(ratings)`, the crossing rate
`quantiles.crossing_rate`.

Notation: F the predicted CDF of a row, y a rating, V uniform on (0, 1), u = F(y-) + V (F(y) - F(y-)) the
randomised probability integral transform (PIT), uniform if F is the true distribution.

Papers: Dawid 1984; Czado, Gneiting and Held 2009 (randomised PIT); Machado and Santos Silva 2005
(dequantising).
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from pluralign import rank_correlation
from pluralign.data.table_columns import Ragged
from pluralign.distributions import RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import (
    Floats,
    Values,
    as_array,
    bin_of,
    columns,
    rating_table,
    rounding,
    uniform_noise,
    unit_share,
)
from pluralign.losses import pinball

__all__ = [
    "CoverageCurve",
    "PitHistogram",
    "below_level",
    "central_coverage",
    "closed_coverage",
    "coverage_curve",
    "dequantise",
    "pair_outcomes",
    "peaked",
    "pinball_rows",
    "pit_histogram",
    "pit_values",
    "spearman",
]


class CoverageCurve(TypedDict):
    """Share of ratings below the predicted level, and inside the central interval of that mass."""

    levels: list[float]
    below: list[float]
    central: list[float]


class PitHistogram(TypedDict):
    """Share of ratings per bin of u; 1/bins everywhere for a calibrated model."""

    edges: list[float]
    share: list[float]


def pair_outcomes(utility_chosen: Values, utility_rejected: Values) -> Int8[Tensor, " N"]:
    """The winner of each row; a difference no larger than rounding is a tie.

    Numbers that are equal in theory may differ in their last digits, and the sign of that difference depends
    on the processor and the batch. A model with the same reward for every text must tie.

    Args:
        utility_chosen: [N], any unit; infinities are allowed.
        utility_rejected: [N].

    Returns:
        [N]: 1 if the chosen response wins, 0 for a tie, -1 if it loses. Accuracy is the mean of
        `outcome > 0`, so a tie counts 0; the mean of `outcome == 0` is reported with it.

    Raises:
        ArgumentError: shapes differ or a value is NaN.
    """
    chosen, rejected = columns(utility_chosen=utility_chosen, utility_rejected=utility_rejected)
    size = rounding(utility_chosen, utility_rejected) * np.maximum(np.abs(chosen), np.abs(rejected))
    with np.errstate(invalid="ignore"):  # infinities are compared, not subtracted
        apart = (np.abs(chosen - rejected) > size) | np.isinf(size)
    wins, losses = (chosen > rejected) & apart, (chosen < rejected) & apart
    return torch.from_numpy(wins.astype(np.int8) - losses.astype(np.int8))


def spearman(x: Values, y: Values) -> float | None:
    """Spearman's rank correlation: Pearson's correlation of the ranks, ties at their average rank.

    Args:
        x: [N], N >= 2.
        y: [N].

    Returns:
        A number in [-1, 1], or None if one side is constant and the correlation is not defined.

    Raises:
        ArgumentError: shapes differ, a value is NaN, or there is only one row.
    """
    a, b = columns(x=x, y=y)
    return rank_correlation.spearman(torch.from_numpy(a), torch.from_numpy(b))


def dequantise(
    ratings: Values, step: Values, seed: int = 0, noise: Values | None = None
) -> Float[Tensor, "N ..."]:
    """Add U(-step/2, step/2) to ratings on a grid, as was done before fitting; NaN stays NaN.

    Args:
        ratings: [N] or [N, R], padded with NaN.
        step: distance h >= 0 of neighbouring ratings, a number or [N, 1] beside [N, R]; 0 leaves them alone.
        seed: of the noise, the same at every call.
        noise: draws from U(0, 1) of the shape of `ratings` in its place.

    Returns:
        The shape of `ratings`; half a step wider than the scale at both ends.

    Raises:
        ArgumentError: a step is negative or not finite, or the shape does not fit.

    Reference:
        Machado and Santos Silva 2005.
    """
    values = _ratings(ratings)
    width = _tensor(step)
    if not ((width >= 0) & width.isfinite()).all():
        raise ArgumentError(f"a step is finite and not negative; got {width.tolist()}")
    drawn = uniform_noise(tuple(values.shape), seed, "dequantise") if noise is None else noise
    return values + width * (_tensor(drawn) - 0.5)


def pit_values(
    distribution: RewardDistribution, ratings: Values, seed: int = 0, noise: Values | None = None
) -> Float[Tensor, "N ..."]:
    """Randomised PIT `u = F(y-) + V (F(y) - F(y-))` of every rating under its row's distribution.

    If F is the true distribution, u is uniform, with or without atoms. Ratings on a grid need a distribution
    with those atoms (Categorical), or `dequantise` first if the distribution is continuous; otherwise u
    itself is on a grid.

    Args:
        distribution: N distributions.
        ratings: [N] or [N, R] padded with NaN, in the unit of the distributions.
        seed: of V.
        noise: V, of the shape of `ratings`, in its place.

    Returns:
        u in [0, 1], NaN where the rating is NaN; the shape of `ratings`.

    Raises:
        ArgumentError: the shape does not fit the distributions.
    """
    values = _ratings(ratings, rows=len(distribution))
    table = _by_rater(values)
    points = table.nan_to_num(nan=0.0)
    below, at_most = _tensor(distribution.cdf_left(points)), _tensor(distribution.cdf(points))
    drawn = uniform_noise(tuple(table.shape), seed, "pit") if noise is None else noise
    v = _tensor(drawn).reshape(table.shape)
    return (below + v * (at_most - below)).masked_fill(table.isnan(), float("nan")).reshape(values.shape)


def below_level(pit: Values, level: float) -> Float[Tensor, " N"]:
    """Share of a row's ratings at or below its predicted quantile: mean over raters of `u <= level`.

    Args:
        pit: [N] or [N, R] from `pit_values`.
        level: t in [0, 1].

    Returns:
        [N], t in expectation for a calibrated model; NaN for a row without a rating.

    Raises:
        ArgumentError: the level is outside [0, 1], or the shape does not fit.
    """
    u = _ratings(pit)
    return _rater_mean(u <= unit_share(level), u)


def central_coverage(pit: Values, mass: float) -> Float[Tensor, " N"]:
    """Share of a row's ratings in its central interval: mean over raters of `|u - 1/2| <= mass / 2`.

    Args:
        pit: [N] or [N, R] from `pit_values`.
        mass: nominal coverage in [0, 1].

    Returns:
        [N], `mass` in expectation for a calibrated model; NaN for a row without a rating.

    Raises:
        ArgumentError: the mass is outside [0, 1], or the shape does not fit.
    """
    u = _ratings(pit)
    return _rater_mean((u - 0.5).abs() <= unit_share(mass) / 2, u)


def closed_coverage(distribution: RewardDistribution, ratings: Values, mass: float) -> Float[Tensor, " N"]:
    """Share of a row's ratings in the closed interval [Q((1 - mass)/2), Q((1 + mass)/2)].

    Only for comparison with `central_coverage`: with atoms it is far above `mass` for a perfect model.

    Args:
        distribution: N distributions.
        ratings: [N] or [N, R] padded with NaN, in the unit of the distributions.
        mass: nominal coverage in [0, 1].

    Returns:
        [N]; NaN for a row without a rating.

    Raises:
        ArgumentError: the mass is outside [0, 1], or the shape does not fit.
    """
    values = _ratings(ratings, rows=len(distribution))
    low, high = _central_interval(distribution, mass)
    table = _by_rater(values)
    return _rater_mean((table >= low[:, None]) & (table <= high[:, None]), values)


def coverage_curve(pit: Values | Ragged, levels: Values) -> CoverageCurve:
    """`below_level` and `central_coverage` over many levels, each row with the same weight.

    Args:
        pit: [N] or [N, R] from `pit_values`, or a list for each row.
        levels: [T] in [0, 1].

    Returns:
        Lists of length T.

    Raises:
        ArgumentError: a level is outside [0, 1], or there are no ratings.
    """
    u, weight = _weighted(pit)
    nominal: list[float] = _tensor(levels).tolist()
    return {
        "levels": nominal,
        "below": [float(weight[u <= unit_share(t)].sum()) for t in nominal],
        "central": [float(weight[np.abs(u - 0.5) <= unit_share(t) / 2].sum()) for t in nominal],
    }


def pit_histogram(pit: Values | Ragged, bins: int = 10) -> PitHistogram:
    """Share of u per bin of equal width, each row with the same weight.

    Args:
        pit: [N] or [N, R] from `pit_values`, or a list for each row.
        bins: number of bins.

    Returns:
        Edges [bins + 1] and shares [bins] that sum to 1.

    Raises:
        ArgumentError: bins < 1, or there are no ratings.
    """
    u, weight = _weighted(pit)
    share = np.bincount(bin_of(u, bins), weights=weight, minlength=bins)
    return {"edges": [b / bins for b in range(bins + 1)], "share": share.tolist()}


def pinball_rows(distribution: RewardDistribution, ratings: Values, levels: Values) -> Float[Tensor, " N"]:
    """Pinball loss of the predicted quantiles, mean over levels and over a row's raters.

    Args:
        distribution: N distributions.
        ratings: [N] or [N, R] padded with NaN, in the unit of the distributions.
        levels: [T] in (0, 1), increasing.

    Returns:
        [N]; NaN for a row without a rating.

    Raises:
        ArgumentError: shapes do not fit, or the levels are not increasing in (0, 1).
    """
    values = _ratings(ratings, rows=len(distribution))
    grid = _tensor(levels)
    quantiles = _tensor(distribution.quantile(grid))
    table = _by_rater(values)
    row, rater = (~table.isnan()).nonzero(as_tuple=True)
    losses = torch.zeros_like(table)
    losses[row, rater] = pinball(quantiles[row], table[row, rater], grid)
    return _rater_mean(losses, values)


def peaked(
    distribution: RewardDistribution, scale_width: float, mass: float = 0.9, share: float = 0.05
) -> Float[Tensor, " N"]:
    """1 for a very narrow distribution: its central interval is below `share` of the rating scale.

    Args:
        distribution: N distributions.
        scale_width: highest minus lowest possible rating, in the unit of the distributions.
        mass: of the central interval, in [0, 1].
        share: of the scale, in [0, 1].

    Returns:
        [N] of 0 and 1; the mean is the peakedness.

    Raises:
        ArgumentError: the scale is not positive, or a share is outside [0, 1].
    """
    if not scale_width > 0:
        raise ArgumentError(f"scale_width must be positive (highest minus lowest rating); got {scale_width}")
    low, high = _central_interval(distribution, mass)
    return (high - low < unit_share(share) * scale_width).double()


def _central_interval(distribution: RewardDistribution, mass: float) -> tuple[Tensor, Tensor]:
    half = unit_share(mass) / 2
    return _tensor(distribution.quantile(0.5 - half)), _tensor(distribution.quantile(0.5 + half))


def _by_rater(values: Tensor) -> Tensor:
    """[N] or [N, R] -> [N, R]."""
    return values.reshape(len(values), -1)


def _rater_mean(per_rating: Tensor, ratings: Tensor) -> Tensor:
    """Mean over the raters that exist, NaN if there are none; [N] or [N, R] -> [N]."""
    present = ~_by_rater(ratings).isnan()
    return torch.where(present, per_rating.double().reshape(present.shape), 0.0).sum(1) / present.sum(1)


def _weighted(pit: Values | Ragged) -> tuple[Floats, Floats]:
    """All values that are there, and their weights: each row that has any weighs the same, in all 1."""
    if isinstance(pit, Ragged):
        values, sizes = pit.values, pit.sizes
    else:
        table = _by_rater(_ratings(pit)).numpy()
        present = ~np.isnan(table)
        values, sizes = table[present], present.sum(1)
    sizes = sizes[sizes > 0]
    if not len(sizes):
        raise ArgumentError("no row has a rating")
    return values, np.repeat(1 / sizes, sizes) / len(sizes)


def _ratings(values: Values, rows: int | None = None) -> Tensor:
    return torch.from_numpy(rating_table(values, rows))


def _tensor(values: Values) -> Tensor:
    return torch.from_numpy(as_array(values))
