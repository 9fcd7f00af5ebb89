"""What is measured of predicted distributions against the ratings of their texts, row by row.

In: N distributions on the scale of the ratings, and ratings with any number of raters each. Out: a dict of
columns [N]. It knows no tables and no models. How ratings on a grid and categories are spread, `rows` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pluralign.data.table_columns import Ragged
from pluralign.distributions import RewardDistribution, rounded_to_grid
from pluralign.evaluation import metrics
from pluralign.evaluation.ensembles import distribution_columns
from pluralign.evaluation.raters import blocks, filled, noise_of
from pluralign.evaluation.spread import spread_distribution
from pluralign.heads import Attribute
from pluralign.heads.categories import Categories

__all__ = ["COVERAGE", "LEVELS", "Rated", "calibration"]

COVERAGE = 0.9  # mass of the central interval, from the 5 % to the 95 % quantile
LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))  # one grid for every family and every K


@dataclass(frozen=True)
class Rated:
    """The ratings of one attribute, with the draws that spread them.

    Attributes:
        attribute: name, scale and grid step.
        ratings: of N texts.
        truth: [N, K], the true quantiles where they are known.
        spread: draws that spread ratings on a grid, one per rating; None where they lie on none.
        pit: draws of the randomised PIT.
    """

    attribute: Attribute
    ratings: Ragged
    truth: Tensor | None
    spread: Ragged | None
    pit: Ragged

    @classmethod
    def drawn(
        cls, attribute: Attribute, ratings: Ragged, truth: Tensor | None, *, width: int, seed: int
    ) -> Rated:
        """With draws by seed; `width` is the largest number of raters in the whole table."""
        spread = noise_of(ratings.sizes, width, seed, "dequantise") if attribute.step is not None else None
        return cls(attribute, ratings, truth, spread, noise_of(ratings.sizes, width, seed, "pit"))

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> Rated:
        truth = None if self.truth is None else self.truth[torch.from_numpy(rows)]
        spread = None if self.spread is None else self.spread[rows]
        return Rated(self.attribute, self.ratings[rows], truth, spread, self.pit[rows])


def calibration(
    distribution_of: Callable[[Tensor], RewardDistribution],
    rated: Rated,
    categories: Categories | None,
    grid_step: float | None,
    most_rows: int,
) -> dict[str, Any]:
    """Everything that is measured, one entry per row.

    Args:
        distribution_of: the predicted distributions of some of the N texts, in float64 on the CPU.
        rated: what people said.
        categories: where the model predicts categories.
        grid_step: step of the grid that predictions can be rounded to; None where there is none.
        most_rows: rows that are measured at a time.

    Returns:
        `mean`, `std`, `coverage`, `closed_coverage`, `peaked`, `crossing`, `pinball`, `crps`, `pit` (a list
        per row); `quantile_error` where the truth is known, what `distribution_columns` gives, and where
        there is a grid, `pinball`, `crps`, `mean` and `std` on it as `<name>_on_grid`.
    """
    columns: dict[str, Any] = {}
    count = len(rated.ratings.sizes)
    for rows in blocks(rated.ratings.sizes, most_rows):
        measured = _measured(distribution_of(torch.from_numpy(rows)), rated[rows], categories, grid_step)
        for key, values in measured.items():
            if key not in columns:
                columns[key] = np.empty(count, dtype=values.dtype)
            columns[key][rows] = values
    return columns


def _measured(
    distribution: RewardDistribution, rated: Rated, categories: Categories | None, grid_step: float | None
) -> Mapping[str, Any]:
    attribute, observed = rated.attribute, filled(rated.ratings)
    spread = observed
    if attribute.step is not None and rated.spread is not None:
        spread = metrics.dequantise(observed, attribute.step, noise=filled(rated.spread))
    step = None
    masses = distribution.point_masses()
    if categories is not None and masses is not None:
        observed = masses[0].gather(1, categories.places(observed)).where(~observed.isnan(), observed)
        step = attribute.step if categories.edges is None else None
    judged = spread if categories is None else observed
    pit = metrics.pit_values(distribution, judged, noise=filled(rated.pit))
    crossing = getattr(distribution, "crossing_rate", None)
    measured = {
        "mean": distribution.mean(),
        "std": distribution.std(),
        "coverage": metrics.central_coverage(pit, COVERAGE),
        "closed_coverage": metrics.closed_coverage(distribution, observed, COVERAGE),
        "peaked": metrics.peaked(distribution, attribute.span),
        "crossing": crossing if crossing is not None else torch.zeros(len(distribution)),
    }
    measured |= _losses(distribution, spread, rated.truth, step) | distribution_columns(distribution)
    if grid_step is not None:
        measured |= _on_grid(distribution, filled(rated.ratings), attribute, grid_step)
    columns: dict[str, Any] = {key: values.detach().cpu().numpy() for key, values in measured.items()}
    columns["pit"] = np.empty(len(distribution), dtype=object)
    for i, (row, size) in enumerate(zip(pit.tolist(), rated.ratings.sizes.tolist(), strict=True)):
        columns["pit"][i] = row[:size]
    return columns


def _losses(
    distribution: RewardDistribution, ratings: Tensor, truth: Tensor | None, step: float | None
) -> dict[str, Tensor]:
    """Pinball loss, CRPS and distance to the true quantiles; categories `step` apart are spread first."""
    if step is not None:
        distribution = spread_distribution(distribution, step)
    losses = {
        "pinball": metrics.pinball_rows(distribution, ratings, LEVELS),
        "crps": distribution.crps(ratings),
    }
    if truth is not None:
        losses["quantile_error"] = _quantile_error(distribution, truth)
    return losses


def _on_grid(
    distribution: RewardDistribution, ratings: Tensor, attribute: Attribute, step: float
) -> dict[str, Tensor]:
    """Losses, mean and std of the distributions over the ratings that people can give."""
    on_grid = rounded_to_grid(distribution, attribute.low, attribute.high, step)
    return {
        "pinball_on_grid": metrics.pinball_rows(on_grid, ratings, LEVELS),
        "crps_on_grid": on_grid.crps(ratings),
        "mean_on_grid": on_grid.mean(),
        "std_on_grid": on_grid.std(),
    }


def _quantile_error(distribution: RewardDistribution, truth: Tensor) -> Tensor:
    """Mean over the true levels k/(K+1) of |predicted quantile - true quantile|: [N]."""
    count = truth.shape[1]
    levels = torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)
    return (distribution.quantile(levels) - truth).abs().mean(1)
