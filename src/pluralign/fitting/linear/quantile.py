"""The quantile recipe (QRM): ratings to K linear quantiles per attribute, pairs to their gate.

In: ratings, or comparisons whose votes rate both sides; pairs or votes for the gate. Out: a `QuantileHead`,
with the constant model and Bradley-Terry beside it. The penalty of each attribute is chosen on held-out
groups (`search`), then the head is fitted on all rows. Paper: Dorka 2024, arXiv 2409.10164; scaling,
dequantisation and the choice of the penalty are this project's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ConstantHeadWarning, DataError
from pluralign.fitting.linear.baselines import baselines_of
from pluralign.fitting.linear.config import QuantileConfig
from pluralign.fitting.linear.search import chosen_penalties
from pluralign.fitting.mix.mixing import add_mixing
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.fitting.tables.targets import AttributeRows, RatingTargets, rated_table, rating_targets
from pluralign.heads import ColumnScaling, Head, QuantileHead
from pluralign.solvers import fit_quantiles

__all__ = ["fit"]


def fit(inputs: Inputs, config: QuantileConfig) -> Fitted:
    """Fits quantile heads for every attribute of the ratings, then their gate."""
    ratings = rated_table(inputs, "quantile")
    inputs = replace(inputs, ratings=ratings)
    targets = rating_targets(ratings, raters=config.raters, dequantise=config.dequantise, seed=config.seed)
    _check_counts(targets, len(config.levels))
    inputs.report(f"{len(targets.conversations):,} distinct texts, {len(targets.attributes)} attributes")
    embedded = inputs.embed(targets.conversations)
    scaling = ColumnScaling.fitted(embedded.response).to(embedded.response.device)
    features = scaling(embedded.response)

    penalties = (
        [config.l1] * len(targets.attributes)
        if config.l1 is not None
        else chosen_penalties(inputs, config, targets, features)
    )
    weight, bias, gap = _fit_all(targets.attributes, features, config.levels, penalties, config.tol)
    levels = torch.tensor(config.levels, dtype=torch.float64)
    attributes = tuple(a.attribute for a in targets.attributes)
    head = QuantileHead(scaling, weight, bias, levels, attributes, mix=config.mix)
    if head.constant_attributes:
        warnings.warn(
            f"all weights are 0 for {', '.join(head.constant_attributes)}: the model predicts the same "
            f"distribution for every text. The penalty may be too large, or the embeddings say nothing.",
            ConstantHeadWarning,
            stacklevel=2,
        )
    inputs.report(f"quantile: {len(config.levels)} levels each, largest certified gap {gap:.1e}")
    chosen = {a.name: l1 for a, l1 in zip(attributes, penalties, strict=True)}
    summary: dict[str, Any] = {"l1": chosen, "gap": gap, "num_texts": len(targets.conversations)}
    summary |= add_mixing(head, inputs, config, targets.conversations, embedded, seed=config.seed)
    baselines: dict[str, Head] = {}
    if config.baselines:
        baselines, facts = baselines_of(inputs, targets, scaling, levels, config.seed)
        summary |= facts
    return Fitted(head, baselines, summary)


def _check_counts(targets: RatingTargets, num_levels: int) -> None:
    for rows in targets.attributes:
        if len(rows.target) < num_levels:
            raise DataError(
                f"attribute {rows.attribute.name!r} has {len(rows.target)} ratings, fewer than the "
                f"{num_levels} levels; ask for fewer levels or give more ratings"
            )
        if rows.target.numel() and float(rows.target.min()) == float(rows.target.max()):
            warnings.warn(
                f"every rating of {rows.attribute.name!r} is the same; its head will predict that constant",
                ConstantHeadWarning,
                stacklevel=3,
            )


def _fit_all(
    attributes: tuple[AttributeRows, ...],
    features: Tensor,
    levels: tuple[float, ...],
    penalties: Sequence[float],
    tol: float,
) -> tuple[Tensor, Tensor, float]:
    """Weights [A, K, D], intercepts [A, K] and the largest gap."""
    coef, bias, gap = [], [], 0.0
    for rows, l1 in zip(attributes, penalties, strict=True):
        fitted = fit_quantiles(
            features[rows.item.to(features.device)],
            rows.target.to(features.device),
            levels,
            l1=l1,
            sample_weight=rows.weight.to(features.device),
            tol=tol,
        )
        coef.append(fitted.coef)
        bias.append(fitted.intercept)
        gap = max(gap, float(fitted.gap.max()))
    return torch.stack(coef), torch.stack(bias), gap
