"""Stage 1 in the lab: how near fitted quantiles come to the true ones. Recovery, number of levels, l1.

In:  features, sizes, seeds. Out: numbers per held-out part, on the scale of ratings (1 to 5). It does not
know files.

W1 is between the predicted and the exact distribution of a dequantised rating; CRPS and pinball loss are
expectations under that distribution, so no rater's noise is in what is measured; `floor` is the CRPS of the
true distribution itself.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from pluralign.fitting import QuantileConfig
from pluralign.fitting.linear import quantile
from pluralign.fitting.linear.quantile import chosen_penalties
from pluralign.fitting.tables.targets import RatingTargets, rating_targets
from pluralign.heads import ColumnScaling, QuantileHead
from pluralign.losses import pinball
from pluralign.solvers import fit_quantiles
from studies.qrm_lab import world

OVERALL = ("overall",)
SIZES = (100, 300, 1000, 3000, 10_000, 30_000)  # ratings; five to a text
NUM_LEVELS = (1, 5, 9, 19, 39)
PENALTIES = (0.0, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
STUDY_RATINGS = 10_000  # of the studies of K and l1
QRM_LEVELS = QuantileConfig().levels


def grid(seed: int) -> list[dict[str, Any]]:
    """The runs of `recovery`."""
    return [{**one, "ratings": n} for n in SIZES for one in both_features(seed)]


def both_features(seed: int) -> list[dict[str, Any]]:
    """The runs of `levels`."""
    return [{"features": f, "seed": seed} for f in ("traits", "minilm")]


def minilm_alone(seed: int) -> list[dict[str, Any]]:
    """The runs of `penalties`."""
    return [{"features": "minilm", "seed": seed}]


def recovery(features: str, seed: int, ratings: int) -> dict[str, Any]:
    """QRM with the package's defaults on so many ratings, beside the constant model."""
    targets = _targets(seed, ratings)
    fitted = quantile.fit(
        world.inputs(features, ratings=ratings_of(seed, ratings)), QuantileConfig(baselines=False, seed=seed)
    )
    constant = torch.quantile(targets.attributes[0].target, torch.tensor(QRM_LEVELS, dtype=torch.float64))
    result: dict[str, Any] = {"l1": fitted.summary["l1"]["overall"], "used": _used(fitted.head.weight)}
    for part in ("objects", "tasks"):
        values = fitted.head.values(_vectors(features, part))[:, 0].double()
        result[part] = {
            "model": errors(values, QRM_LEVELS, part),
            "constant": errors(constant.expand(len(values), -1), QRM_LEVELS, part),
            "true": errors(_truth(part)[1] / 4 - 0.25, QRM_LEVELS, part),
        }
    return result


def levels(features: str, seed: int) -> dict[str, Any]:
    """The same data and penalty under K levels, k/(K+1)."""
    targets, vectors, scaling = _prepared(features, seed)
    config = QuantileConfig(seed=seed)
    (l1,) = chosen_penalties(world.inputs(features), config, targets, vectors)
    result: dict[str, Any] = {"l1": l1}
    for count in NUM_LEVELS:
        chosen = tuple((k + 1) / (count + 1) for k in range(count))
        head = _head(targets, vectors, scaling, chosen, l1)
        result[str(count)] = {
            part: errors(head.values(_vectors(features, part))[:, 0].double(), chosen, part)
            for part in ("objects", "tasks")
        }
    return result


def penalties(features: str, seed: int) -> dict[str, Any]:
    """The same data and QRM's levels under each l1."""
    targets, vectors, scaling = _prepared(features, seed)
    result: dict[str, Any] = {}
    for l1 in PENALTIES:
        head = _head(targets, vectors, scaling, QRM_LEVELS, l1)
        values = {p: head.values(_vectors(features, p))[:, 0].double() for p in ("objects", "tasks")}
        result[f"{l1:g}"] = {"used": _used(head.weight)} | {
            part: errors(value, QRM_LEVELS, part) for part, value in values.items()
        }
    return result


def errors(values: Tensor, chosen: tuple[float, ...], part: str) -> dict[str, Any]:
    """Predicted quantiles on [0, 1], as fitted, against the exact distribution. [N, K]"""
    distribution, true_quantiles = _truth(part)
    given = 1 + 4 * values
    predicted = pl.Quantiles(given, torch.tensor(chosen, dtype=torch.float64), validate=False)
    points = distribution.values.double()  # 200 equally likely ratings of each text
    losses = {
        name: torch.stack(
            [pinball(v, points[:, j], predicted.levels) for j in range(0, points.shape[1], 4)]
        ).mean()
        for name, v in (("sorted", predicted.values), ("as_fitted", given))
    }
    result = {
        "w1": float(predicted.wasserstein(distribution).mean()),
        "crps": float(predicted.crps(points).mean()),
        "floor": float(distribution.crps(points).mean()),
        "crossing": float(predicted.crossing_rate.mean()),
        "pinball": float(losses["sorted"]),
        "pinball_as_fitted": float(losses["as_fitted"]),
    }
    if chosen == QRM_LEVELS:
        result["mae_by_level"] = (predicted.values - true_quantiles).abs().mean(0).tolist()
        ends = distribution.cdf(predicted.values[:, [0, -1]])
        result["coverage"] = float((ends[:, 1] - ends[:, 0]).mean())
    return result


def ratings_of(seed: int, ratings: int) -> Any:
    part = world.rated(OVERALL)["train"]
    return world.ratings_table(
        part, world.dealt(ratings // world.RATERS_PER_SEED, len(part.conversations), seed), seed
    )


def _targets(seed: int, ratings: int) -> RatingTargets:
    return rating_targets(ratings_of(seed, ratings), seed=seed)


def _prepared(features: str, seed: int) -> tuple[RatingTargets, Tensor, ColumnScaling]:
    targets = _targets(seed, STUDY_RATINGS)
    response = world.embedded(features, targets.conversations).response
    scaling = ColumnScaling.fitted(response)
    return targets, scaling(response), scaling


def _head(
    targets: RatingTargets, vectors: Tensor, scaling: ColumnScaling, chosen: tuple[float, ...], l1: float
) -> QuantileHead:
    rows = targets.attributes[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fit_quantiles(
            vectors[rows.item], rows.target, chosen, l1=l1, sample_weight=rows.weight, tol=1e-4
        )
    return QuantileHead(
        scaling,
        fit.coef[None],
        fit.intercept[None],
        torch.tensor(chosen, dtype=torch.float64),
        (rows.attribute,),
    )


def _used(weight: Tensor) -> dict[str, float]:
    """How many weights of a level are not 0, on average, and out of how many."""
    return {"weights": float((weight != 0).double().sum(-1).mean()), "columns": weight.shape[-1]}


@functools.cache
def _vectors(features: str, part: str) -> Tensor:
    return world.embedded(features, world.rated(OVERALL)[part].conversations).response


@functools.cache
def _truth(part: str) -> tuple[pl.Quantiles, Tensor]:
    return world.true_rating_distribution(world.rated(OVERALL)[part].conversations)
