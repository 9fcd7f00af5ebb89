"""How many categories: the lab's judgements put into C bins, and what learning and binning each cost.

In:  features, number of responses, seed. Out: numbers by C and loss, on the scale of ratings. It does not
know files.

Five people rate each response; their judgements before rounding fall into C bins that hold as many each,
the package's own rule, and the mean of a bin stands for it. `w1` is from the predicted distribution to the
exact one before binning; `binning` is what the true distribution, put into the same bins, would have;
`learning` is from the predicted distribution to that one. `path` is by penalty; `chosen` has the penalty with
the smallest held-out loss, as the package chooses it. With many responses the smallest penalty is taken.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from pluralign.fitting import CategoricalConfig, QuantileConfig
from pluralign.fitting.categorical import recipe as categorical
from pluralign.fitting.linear import quantile
from studies.families_lab import world
from studies.qrm_lab import world as qrm_world

COUNTS = (3, 6, 12, 24, 48)
RESPONSES = (1000, 10_000)
RATERS = 5
L2_GRID = (0.0003, 0.001, 0.003, 0.01, 0.03)
LOW, HIGH = -1.0, 7.0  # one judgement in thousands lies beyond, and is moved to the end
POINTS = LOW - 2 + (HIGH - LOW + 4) * torch.arange(0.5, 1200, dtype=torch.float64) / 1200


def grid(seed: int) -> list[dict[str, Any]]:
    """The runs of a seed."""
    return [{"features": f, "responses": n, "seed": seed} for n in RESPONSES for f in ("traits", "minilm")]


def run(features: str, responses: int, seed: int) -> dict[str, Any]:
    """Every C and loss on the same judgements, beside the quantile family."""
    conversations = world.rows_of(responses, seed)
    judgements = world.judgements(qrm_world.crowd().truth(conversations), RATERS, seed).clamp(LOW, HIGH)
    table = world.table(conversations, judgements, "overall", [LOW, HIGH])
    one = (L2_GRID[0],) if responses >= world.MANY else L2_GRID
    result: dict[str, Any] = {}
    for count in COUNTS:
        for loss in world.LOSSES:
            path = {f"{l2:g}": _fitted(loss, count, features, table, seed, l2=l2) for l2 in one}
            searched = (
                {"chosen": _fitted(loss, count, features, table, seed, l2_grid=one)} if len(one) > 1 else {}
            )
            result[f"{loss}, {count}"] = {"loss": loss, "count": count, "path": path, **searched}
    started = time.process_time()
    distribution, _ = world.fitted_distribution(
        quantile.fit, QuantileConfig(baselines=False, seed=seed), features, table
    )
    seconds = time.process_time() - started
    result["quantile"] = {"w1": _distance(_cdf(distribution)), "cpu_seconds": round(seconds, 2)}
    return result


def _fitted(loss: str, count: int, features: str, table: Any, seed: int, **penalty: Any) -> dict[str, float]:
    """One fit: its errors, penalty and time."""
    config = CategoricalConfig(loss=loss, num_categories=count, baselines=False, seed=seed, **penalty)
    started = time.process_time()
    distribution, fitted = world.fitted_distribution(categorical.fit, config, features, table)
    seconds = time.process_time() - started
    (categories,) = fitted.head.categories
    errors = _errors(distribution, categories.edges, categories.values)
    return {**errors, "l2": fitted.summary["l2"]["overall"], "cpu_seconds": round(seconds, 2)}


def _errors(distribution: Any, edges: tuple[float, ...], values: tuple[float, ...]) -> dict[str, float]:
    truth = _truth()
    inner = truth.cdf(torch.tensor(edges[1:-1], dtype=torch.float64).expand(len(truth), -1))
    ends = inner.new_ones(len(inner), 1)
    probs = torch.diff(torch.cat([0 * ends, inner, ends], 1), dim=1)
    binned = pl.Categorical(probs, torch.tensor(values, dtype=torch.float64))
    return {
        "w1": _distance(_cdf(distribution)),
        "binning": _distance(_cdf(binned)),
        "learning": float(distribution.wasserstein(binned).mean()),
        "std": float(distribution.std().mean()),
        "true_std": float(truth.std().mean()),
    }


def _distance(below: Tensor) -> float:
    """Wasserstein-1 to the truth, from a distribution function at the points."""
    return float((below - _cdf(_truth())).abs().mean()) * (HIGH - LOW + 4)


def _cdf(distribution: Any) -> Tensor:
    below: Tensor = distribution.cdf(POINTS.expand(len(distribution), -1))
    return below


@functools.cache
def _truth() -> pl.GaussianEnsemble:
    return qrm_world.crowd().truth(world.held_out())
