"""The quantile recipe (QRM): from ratings to K linear quantiles per attribute, and from pairs to their gate.

In: ratings, or comparisons whose votes rate both sides; pairs or votes for the gate. Out: a `QuantileHead`,
and the baselines, the constant model and Bradley-Terry. The penalty of each attribute is chosen on held-out
groups, then the head is fitted on all rows. Paper: Dorka 2024, arXiv 2409.10164; scaling,
dequantisation and the choice of the penalty are this project's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pluralign.errors import ConstantHeadWarning, ConvergenceWarning, DataError
from pluralign.fitting.linear.config import QuantileConfig
from pluralign.fitting.linear.finishing import finished
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.fitting.tables.targets import AttributeRows, RatingTargets, rated_table, rating_targets
from pluralign.fitting.train.search import fold_of, search_penalty
from pluralign.heads import QuantileHead
from pluralign.losses import pinball
from pluralign.solvers import QuantileFit, fit_quantiles

__all__ = ["chosen_penalties", "fit", "held_out_loss"]

# The search compares penalties; five levels at a loose gap rank them like nineteen at a tight one.
SEARCH_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
SEARCH_TOL = 1e-3


def fit(inputs: Inputs, config: QuantileConfig) -> Fitted:
    """Fits quantile heads for every attribute of the ratings, then their gate."""
    ratings = rated_table(inputs, "quantile")
    inputs = replace(inputs, ratings=ratings)
    targets = rating_targets(ratings, raters=config.raters, dequantise=config.dequantise, seed=config.seed)
    _check_counts(targets, len(config.levels))
    inputs.report(f"{len(targets.conversations):,} distinct texts, {len(targets.attributes)} attributes")
    embedded, scaling, features = inputs.features(targets.conversations)
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
            f"distribution for every text. The penalty may be too large, or the embeddings not informative.",
            ConstantHeadWarning,
            stacklevel=2,
        )
    inputs.report(f"quantile: {len(config.levels)} levels each, largest certified gap {gap:.1e}")
    chosen = {a.name: l1 for a, l1 in zip(attributes, penalties, strict=True)}
    summary = {"l1": chosen, "gap": gap, "num_texts": len(targets.conversations)}
    return finished(head, inputs, config, config.levels, targets, embedded, summary)


def chosen_penalties(
    inputs: Inputs, config: QuantileConfig, targets: RatingTargets, features: Tensor
) -> list[float]:
    """One penalty per attribute.

    For the same texts one attribute may be predictable from the embeddings and another not at all, and only a
    separate penalty lets the second fall back to the constant model.

    Raises:
        DataError: an attribute's ratings are all in one group, so none can be held out.
    """
    return [_chosen(inputs, config, rows, targets.groups, features) for rows in targets.attributes]


def _chosen(
    inputs: Inputs, config: QuantileConfig, rows: AttributeRows, groups: Sequence[str], features: Tensor
) -> float:
    fold = fold_of([groups[i] for i in rows.item.tolist()], config.seed, what="l1")
    best, _ = search_penalty(
        config.l1_grid,
        fold,
        rows.weight,
        lambda l1, k: held_out_loss(rows.restricted(fold != k), rows.restricted(fold == k), features, l1),
        family="quantile",
        name=rows.attribute.name,
        what="l1",
        loss="pinball loss",
        journal=inputs.journal,
        settings=f"raters={config.raters} dequantise={config.dequantise} seed={config.seed}",
        report=inputs.report,
    )
    return best


def held_out_loss(train: AttributeRows, test: AttributeRows, features: Tensor, l1: float) -> float:
    """Mean pinball loss on `test` of a fit on `train`; the quantiles are sorted, as in a head."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = _fitted(train, features, SEARCH_LEVELS, l1, SEARCH_TOL)
    values = (features[test.item.to(features.device)].double() @ fit.coef.T + fit.intercept).sort(-1).values
    levels = torch.tensor(SEARCH_LEVELS, dtype=torch.float64, device=values.device)
    losses = pinball(values, test.target.to(values), levels).cpu()
    return float(test.weight @ losses) / float(test.weight.sum())


def _fitted(
    rows: AttributeRows, features: Tensor, levels: Sequence[float], l1: float, tol: float
) -> QuantileFit:
    device = features.device
    target, weight = rows.target.to(device), rows.weight.to(device)
    return fit_quantiles(features[rows.item.to(device)], target, levels, l1=l1, sample_weight=weight, tol=tol)


def _check_counts(targets: RatingTargets, num_levels: int) -> None:
    for rows in targets.attributes:
        if len(rows.target) < num_levels:
            raise DataError(
                f"attribute {rows.attribute.name!r} has {len(rows.target)} ratings, fewer than the "
                f"{num_levels} levels; use fewer levels or provide more ratings"
            )
        rows.warn_if_constant(stacklevel=3)


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
        fitted = _fitted(rows, features, levels, l1, tol)
        coef.append(fitted.coef)
        bias.append(fitted.intercept)
        gap = max(gap, float(fitted.gap.max()))
    return torch.stack(coef), torch.stack(bias), gap
