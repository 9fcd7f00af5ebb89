"""The regression recipe (ArmoRM): from ratings to one linear prediction per attribute, and their gate.

In: ratings, or comparisons whose votes rate both sides; pairs or votes for the gate. Out: a `RegressionHead`,
and the baselines, the constant model and Bradley-Terry. Each attribute's ridge penalty has the smallest
cross-validated squared error over folds of groups.

Paper: Wang et al. 2024 (ArmoRM), arXiv 2406.12845; the Gaussian residual is this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import DataError
from pluralign.fitting.linear.config import QRM_LEVELS, RegressionConfig
from pluralign.fitting.linear.finishing import finished
from pluralign.fitting.linear.ridge import ridge_path
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.fitting.tables.targets import AttributeRows, rated_table, rating_targets
from pluralign.fitting.train.search import fold_of, search_penalty
from pluralign.heads import RegressionHead

__all__ = ["fit"]


@dataclass(frozen=True)
class _Fit:
    """One attribute: weights [D], intercept, penalty, and the residual's standard deviation (or nan)."""

    coef: Tensor
    intercept: Tensor
    l2: float
    residual_std: float


def fit(inputs: Inputs, config: RegressionConfig) -> Fitted:
    """Fits a ridge regression for every attribute of the ratings, then their gate."""
    inputs = replace(inputs, ratings=rated_table(inputs, "regression"))
    plain = rating_targets(inputs.ratings, raters=config.raters, dequantise=False)
    spread = rating_targets(
        inputs.ratings, raters=config.raters, dequantise=config.dequantise, seed=config.seed
    )
    inputs.report(f"{len(plain.conversations):,} distinct texts, {len(plain.attributes)} attributes")
    embedded, scaling, features = inputs.features(plain.conversations)
    fits = [
        _fit_attribute(inputs, config, rows, noisy.target, plain.groups, features)
        for rows, noisy in zip(plain.attributes, spread.attributes, strict=True)
    ]
    attributes = tuple(rows.attribute for rows in plain.attributes)
    head = RegressionHead(
        scaling,
        torch.stack([f.coef for f in fits]),
        torch.stack([f.intercept for f in fits]),
        attributes,
        residual_std=torch.tensor([f.residual_std for f in fits]) if config.residual == "gaussian" else None,
        mix=config.mix,
    )
    summary: dict[str, Any] = {
        "l2": {a.name: f.l2 for a, f in zip(attributes, fits, strict=True)},
        "num_texts": len(plain.conversations),
    }
    return finished(head, inputs, config, QRM_LEVELS, spread, embedded, summary)


def _fit_attribute(
    inputs: Inputs,
    config: RegressionConfig,
    rows: AttributeRows,
    spread: Tensor,
    groups: Sequence[str],
    features: Tensor,
) -> _Fit:
    name = rows.attribute.name
    if len(rows.target) < 2:
        raise DataError(f"attribute {name!r} has {len(rows.target)} rating; at least 2 are needed")
    rows.warn_if_constant(stacklevel=4)
    l2, error = config.l2, float("nan")
    if l2 is None or (config.residual == "gaussian" and len({groups[i] for i in rows.item.tolist()}) > 1):
        l2, error = _cross_validated(inputs, config, rows, spread, groups, features)
    coef, intercept = _ridge(rows, features, (l2,))
    if config.residual == "gaussian" and error != error:  # one group and a fixed penalty: nothing to hold out
        error = _squared_errors(rows, spread, features, coef, intercept)[0]
    return _Fit(coef[0].cpu(), intercept[0].cpu(), l2, error**0.5)


def _cross_validated(
    inputs: Inputs,
    config: RegressionConfig,
    rows: AttributeRows,
    spread: Tensor,
    groups: Sequence[str],
    features: Tensor,
) -> tuple[float, float]:
    """The best penalty of the grid, and the held-out mean squared error of single ratings there."""
    grid = config.l2_grid if config.l2 is None else (config.l2,)
    fold = fold_of([groups[i] for i in rows.item.tolist()], config.seed, what="l2")

    @cache
    def errors(k: int) -> dict[float, float]:  # of all penalties, from one decomposition
        train, test = rows.restricted(fold != k), rows.restricted(fold == k)
        found = _squared_errors(test, spread[fold == k], features, *_ridge(train, features, grid))
        return dict(zip(grid, found, strict=True))

    return search_penalty(
        grid,
        fold,
        rows.weight,
        lambda l2, k: errors(k)[l2],
        family="regression",
        name=rows.attribute.name,
        what="l2",
        loss="squared error",
        journal=inputs.journal,
        settings=f"raters={config.raters} dequantise={config.dequantise} seed={config.seed}",
        report=inputs.report,
        stop_early=False,
    )


def _ridge(rows: AttributeRows, features: Tensor, grid: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Fits texts by the weighted mean of their ratings: the same optimum as for individual ratings."""
    items, inverse = torch.unique(rows.item, return_inverse=True)
    weight = torch.zeros(len(items), dtype=torch.float64).index_add_(0, inverse, rows.weight)
    target = torch.zeros_like(weight).index_add_(0, inverse, rows.weight * rows.target) / weight
    return ridge_path(features[items.to(features.device)], target, weight, grid)


def _squared_errors(
    rows: AttributeRows, target: Tensor, features: Tensor, coef: Tensor, intercept: Tensor
) -> list[float]:
    """Weighted mean squared error of single ratings, for each row of coefficients."""
    predicted = (features[rows.item.to(features.device)].double() @ coef.T + intercept).cpu()
    error = rows.weight @ (target[:, None] - predicted).square() / rows.weight.sum()
    return [float(value) for value in error]
