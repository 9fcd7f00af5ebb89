"""All families in the lab: how near each comes to the true distribution of ratings as rated responses grow.

In:  features, raters per response, number of ratings, seed. Out: numbers by family, on the scale of ratings
(1 to 5).

`w1` is between distributions of a dequantised rating, as in the recovery study of QRM: categories are
spread over their step, other distributions are as predicted. `on_categories` reads every distribution on
the five ratings instead. `order` is the share of pairs of responses to one prompt that the mean orders as
the crowd's true mean does, all that can be asked of Bradley-Terry, which has no scale.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from pluralign.evaluation import crowd
from pluralign.fitting import (
    BradleyTerryConfig,
    GaussianEnsembleConfig,
    QuantileConfig,
    RegressionConfig,
)
from pluralign.fitting.categorical import recipe as categorical
from pluralign.fitting.ensemble import recipe as gaussian_ensemble
from pluralign.fitting.linear import bradley_terry, quantile, regression
from pluralign.lab.truth import dequantised_quantile
from studies.families_lab import world
from studies.qrm_lab import world as qrm_world

SIZES = {1: (100, 300, 1000, 3000, 10_000, 30_000), 5: (1000, 10_000)}  # raters per response -> ratings
PAIRS = 30  # of a prompt, that Bradley-Terry learns from
LOW, REACH = -3.0, 12.0
POINTS = LOW + REACH * torch.arange(0.5, 1200, dtype=torch.float64) / 1200  # of distribution functions
ATOMS = torch.arange(1, 6, dtype=torch.float64)

Recipe = tuple[Callable[..., Any], Any]


def families(responses: int, seed: int) -> dict[str, Recipe]:
    """The recipe and config of each family on so many responses."""
    return {
        "quantile": (quantile.fit, QuantileConfig(baselines=False, seed=seed)),
        "gaussian": (regression.fit, RegressionConfig(residual="gaussian", baselines=False, seed=seed)),
        "gaussian_ensemble": (gaussian_ensemble.fit, GaussianEnsembleConfig(baselines=False, seed=seed)),
        **{loss: (categorical.fit, world.categorical(loss, responses, seed)) for loss in world.LOSSES},
    }


def grid(seed: int) -> list[dict[str, Any]]:
    """The runs of a seed."""
    return [
        {"features": f, "raters": r, "ratings": n, "seed": seed}
        for r, sizes in SIZES.items()
        for n in sizes
        for f in ("minilm", "traits")
    ]


def run(features: str, raters: int, ratings: int, seed: int) -> dict[str, Any]:
    """Every family on the same ratings, beside the average distribution and Bradley-Terry."""
    conversations = world.rows_of(ratings // raters, seed)
    probs = qrm_world.crowd().rating_truth(conversations).probs
    drawn = 1 + world.drawn(probs, raters, seed)
    table = world.table(conversations, drawn, "overall", [1.0, 5.0])
    shares = torch.bincount(drawn.flatten() - 1, minlength=5).double() / drawn.numel()
    constant = pl.Categorical(shares.expand(len(world.held_out()), -1), ATOMS)
    result: dict[str, Any] = {"constant": errors(constant)}
    for name, (fit, config) in families(len(conversations), seed).items():
        started = time.process_time()
        distribution, fitted = world.fitted_distribution(fit, config, features, table)
        seconds = time.process_time() - started
        penalty = {key: fitted.summary[key] for key in ("l1", "l2", "std_l2") if key in fitted.summary}
        result[name] = {**errors(distribution), **penalty, "cpu_seconds": round(seconds, 2)}
    result["bradley_terry"] = {"order": bradley_terry_order(features, table, seed)}
    return result


def bounds(seed: int) -> dict[str, Any]:
    """What is left of W1 when nothing is left to learn: the nearest that each family's form and loss aim at.

    Quantiles are the true ones, Gaussians have the true mean and the true standard deviation (or one for all
    texts), and transport follows the median of what so many raters would say at each threshold.
    """
    probs = _truth()
    edges = torch.arange(1, 20, dtype=torch.float64) / 20
    mean = probs @ ATOMS
    variance = probs @ ATOMS.square() - mean.square() + 1 / 12  # of a dequantised rating
    same = variance.mean().sqrt().expand(len(probs))
    return {
        "quantile": errors(pl.Quantiles(dequantised_quantile(probs, edges), edges)),
        "gaussian": errors(_gaussian(mean, same)),
        "gaussian_ensemble": errors(_gaussian(mean, variance.sqrt())),
        **{f"transport, {n} raters": errors(pl.Categorical(medians(probs, n), ATOMS)) for n in (1, 5, 20)},
    }


def _gaussian(mean: Tensor, std: Tensor) -> pl.GaussianEnsemble:
    return pl.GaussianEnsemble(mean[:, None], std[:, None])


def medians(probs: Tensor, raters: int) -> Tensor:
    """Probabilities whose distribution function is the median of that of so many raters, [N, C]."""
    below = probs.cumsum(1)[:, :-1].clamp(0, 1)
    counts = torch.arange(raters + 1, dtype=torch.float64)
    ways = torch.tensor([math.comb(raters, k) for k in range(raters + 1)], dtype=torch.float64)
    chances = (ways * below[..., None] ** counts * (1 - below[..., None]) ** (raters - counts)).cumsum(-1)
    half = (chances < 0.5).sum(-1) / raters  # the smallest share whose probability to be reached is a half
    ends = half.new_ones(len(half), 1)
    return torch.diff(torch.cat([0 * ends, half, ends], 1), dim=1)


def bradley_terry_order(features: str, table: Any, seed: int) -> float | None:
    """None where the ratings hold no responses to one prompt that differ, or only one such prompt."""
    pairs = pl.data.pairs_from_ratings(table, max_pairs_per_group=PAIRS)
    if len(set(pairs["group"])) < 2:
        return None
    own = replace(world.inputs(features, None), pairs=pairs)
    fitted = bradley_terry.fit(own, BradleyTerryConfig(seed=seed))
    vectors = world.embedded(features, world.held_out())
    with torch.no_grad():
        scores = fitted.head.raw(vectors.response, vectors.prompt).mean()
    return world.gold_order(scores, _gold())


def errors(distribution: Any) -> dict[str, float]:
    """A predicted distribution of ratings against the exact one."""
    probs = _truth()
    discrete = isinstance(distribution, pl.Categorical)
    spread = (
        _spread_cdf(distribution.probs)
        if discrete
        else distribution.cdf(POINTS.expand(len(distribution), -1))
    )
    on = crowd.on_categories(distribution, ATOMS)
    mean, true_mean = on.mean(), probs @ ATOMS
    return {
        "w1": float((spread - _spread_cdf(probs)).abs().mean()) * REACH,
        "on_categories": float(on.wasserstein(pl.Categorical(probs, ATOMS)).mean()),
        "total_variation": float((on.probs - probs).abs().sum(-1).mean()) / 2,
        "mean_error": float((mean - true_mean).abs().mean()),
        "std": float(on.std().mean()),
        "true_std": float(pl.Categorical(probs, ATOMS).std().mean()),
        "order": world.gold_order(distribution.mean(), _gold()),
    }


def _spread_cdf(probs: Tensor) -> Tensor:
    """The distribution function of `rating + U(-1/2, 1/2)` at the points of the grid, [N, G]."""
    edge = probs.new_zeros(len(probs), 1)
    below = torch.cat([edge, probs.cumsum(1)], 1)
    place = (POINTS - 0.5).clamp(0, 5)
    cell = place.long().clamp_max(4)
    return below[:, cell] + (place - cell) * probs[:, cell]


@functools.cache
def _truth() -> Tensor:
    """The exact probabilities of the ratings of each held-out text, [N, 5]."""
    return qrm_world.crowd().rating_truth(world.held_out()).probs.double()


@functools.cache
def _gold() -> Tensor:
    return qrm_world.crowd().gold(world.held_out())
