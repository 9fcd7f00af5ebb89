"""The L1 penalty of each attribute, by the pinball loss of groups that the fit has not seen.

In: an attribute's rows, scaled embeddings and a grid of penalties. Out: the penalty with the smallest
cross-validated loss. It knows no heads and no tables.

Attributes are searched one by one: on one set of texts one attribute may be readable from the embeddings
and the next not at all, and only a penalty of its own lets the second fall back on the constant model.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from pluralign.errors import ConvergenceWarning
from pluralign.fitting.linear.config import QuantileConfig
from pluralign.fitting.tables.inputs import Inputs, best_penalty, fold_of, judged_folds
from pluralign.fitting.tables.targets import AttributeRows, RatingTargets
from pluralign.losses import pinball
from pluralign.solvers import fit_quantiles

__all__ = ["chosen_penalties", "held_out_loss"]

# The search compares penalties; five levels at a loose gap rank them like nineteen at a tight one.
SEARCH_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
SEARCH_TOL = 1e-3


def chosen_penalties(
    inputs: Inputs, config: QuantileConfig, targets: RatingTargets, features: Tensor
) -> list[float]:
    """One penalty per attribute, each searched from the largest down.

    Raises:
        DataError: an attribute's ratings are all of one group, so none can be held out.
    """
    return [_chosen(inputs, config, rows, targets.groups, features) for rows in targets.attributes]


def _chosen(
    inputs: Inputs, config: QuantileConfig, rows: AttributeRows, groups: Sequence[str], features: Tensor
) -> float:
    name = rows.attribute.name
    fold = fold_of([groups[i] for i in rows.item.tolist()], config.seed, what="l1")
    settings = f"raters={config.raters} dequantise={config.dequantise} seed={config.seed}"

    def loss(l1: float) -> float:
        total = mass = 0.0
        for k in judged_folds(fold):
            train, test = rows.restricted(fold != k), rows.restricted(fold == k)
            key = f"quantile {name} l1={l1!r} fold={k} {settings}"
            weight = float(test.weight.sum())
            total += weight * inputs.journal.remember(key, partial(held_out_loss, train, test, features, l1))
            mass += weight
        return total / mass

    best, losses = best_penalty(config.l1_grid, loss)
    tried = ", ".join(f"{l1:g}: {value:.5f}" for l1, value in sorted(losses.items()))
    inputs.report(f"{name}: l1 {best:g}, by held-out pinball loss ({tried})")
    return best


def held_out_loss(train: AttributeRows, test: AttributeRows, features: Tensor, l1: float) -> float:
    """Mean pinball loss on `test` of a fit on `train`; the quantiles are sorted, as a head sorts them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = fit_quantiles(
            features[train.item.to(features.device)],
            train.target.to(features.device),
            SEARCH_LEVELS,
            l1=l1,
            sample_weight=train.weight.to(features.device),
            tol=SEARCH_TOL,
        )
    values = (features[test.item.to(features.device)].double() @ fit.coef.T + fit.intercept).sort(-1).values
    levels = torch.tensor(SEARCH_LEVELS, dtype=torch.float64, device=values.device)
    losses = pinball(values, test.target.to(values), levels).cpu()
    return float(test.weight @ losses) / float(test.weight.sum())
