"""The heads of an ensemble: how similar they are, and whether their uncertainty predicts errors.

In: distributions with several heads on evaluated rows. Out: columns per row, and a summary.

There are two kinds of uncertainty: `within`, the spread of ratings that a head predicts, and `between`, the
standard deviation of the heads' means, which is large where the data does not determine the reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pluralign.distributions import RewardDistribution
from pluralign.evaluation import metrics
from pluralign.evaluation.jackknife import jackknife_intervals
from pluralign.heads import Head
from pluralign.heads.agreement import head_agreement

__all__ = ["distribution_columns", "margin_columns", "summarise_ensemble"]

_HEAD, _MARGIN = "model_head_", "margin_head_"
_CORRELATIONS = ("correlation", *(f"spearman_{name}_error" for name in ("std", "within", "between")))
_BOUNDS = dict.fromkeys(_CORRELATIONS, (-1.0, 1.0)) | {"split": (0.0, 1.0)}


def distribution_columns(distribution: RewardDistribution) -> dict[str, Tensor]:
    """One entry per row for a distribution with several heads: each head's mean, both kinds of uncertainty.

    Returns:
        `head_0` ..., `within_std` and `between_std`, each [N]; empty for any other distribution.
    """
    heads = distribution.heads()
    if heads is None or heads.means.shape[1] < 2:
        return {}
    means = {f"head_{h}": heads.means[:, h] for h in range(heads.means.shape[1])}
    within, between = distribution.variances()
    return means | {"within_std": within.sqrt(), "between_std": between.sqrt()}


def margin_columns(head: Head, chosen: RewardDistribution, rejected: RewardDistribution) -> dict[str, Any]:
    """Each head's mean reward of the chosen minus the rejected response, one entry per pair.

    Returns:
        `margin_head_0` ..., each [N]; empty unless the model is an ensemble of several heads.
    """
    first, second = chosen.heads(), rejected.heads()
    if head.num_heads < 2 or first is None or second is None:
        return {}
    margins = first.means - second.means
    return {f"{_MARGIN}{h}": margins[:, h].cpu().numpy() for h in range(head.num_heads)}


def summarise_ensemble(columns: dict[str, Any]) -> dict[str, Any]:
    """How similar the heads are, and the rank correlation of their uncertainty with the error.

    Args:
        columns: those of a table of ratings or pairs.

    Returns:
        For ratings by attribute, for pairs at once: `heads`, `correlation` and `disagreement` as
        `head_agreement` returns them, `within_std` and `between_std`, the square roots of the two variances'
        means over the rows, on the scale of the ratings; and Spearman's correlation of each kind of
        uncertainty with the error: |mean - observed mean|, or 1 if the wrong side of the pair won. Pairs also
        have `split`, the share on which some head prefers the other side. `intervals` has the defined ones of
        these numbers with their interval over groups. Empty unless the model is an ensemble.
    """
    margins = _stacked(columns, _MARGIN)
    if margins is not None:
        return _of_pairs(columns, margins)
    means = _stacked(columns, _HEAD)
    if means is None:
        return {}
    attribute = np.asarray(columns["attribute"])
    error = np.abs(columns["model_mean"] - columns["observed_mean"])
    return {
        name: _of_ratings(columns, means, error, np.flatnonzero(attribute == name))
        for name in dict.fromkeys(columns["attribute"])
    }


def _of_ratings(columns: dict[str, Any], means: Any, error: Any, where: Any) -> dict[str, Any]:
    doubts = {"std": "model_std", "within": "model_within_std", "between": "model_between_std"}

    def measured(rows: Any) -> dict[str, float | None]:
        rows = where[rows]
        if len(rows) < 2:
            return {}
        parts = {f"{kind}_std": columns[f"model_{kind}_std"][rows] for kind in ("within", "between")}
        typical = {name: float(np.sqrt(np.mean(np.square(part)))) for name, part in parts.items()}
        return (
            head_agreement(torch.from_numpy(means[rows]))
            | typical
            | {
                f"spearman_{name}_error": metrics.spearman(columns[column][rows], error[rows])
                for name, column in doubts.items()
            }
        )

    return _with_intervals(means.shape[1], measured, np.asarray(columns["group"])[where])


def _of_pairs(columns: dict[str, Any], margins: Any) -> dict[str, Any]:
    wrong = (columns["model_outcome"] <= 0).astype(np.float64)
    split = (margins > 0).any(1) & (margins <= 0).any(1)

    def measured(rows: Any) -> dict[str, float | None]:
        alone = {"split": float(split[rows].mean())} if len(rows) else {}
        if len(rows) < 2:
            return alone | {"spearman_between_error": None}
        doubt = metrics.spearman(margins[rows].std(1), wrong[rows])
        return head_agreement(torch.from_numpy(margins[rows])) | alone | {"spearman_between_error": doubt}

    return _with_intervals(margins.shape[1], measured, columns["group"])


def _with_intervals(
    heads: int, measured: Callable[[Any], Mapping[str, float | None]], groups: Sequence[Any]
) -> dict[str, Any]:
    """The numbers of all rows, and intervals of those that are defined."""
    whole = measured(np.arange(len(groups)))
    if not whole:
        return {}
    found = {
        name: part.to_dict() for name, part in jackknife_intervals(measured, groups, bounds=_BOUNDS).items()
    }
    return {"heads": heads, **whole, "intervals": found}


def _stacked(columns: dict[str, Any], prefix: str) -> Any:
    """[N, H] of the columns prefix0, prefix1, ..., or None if there are none."""
    names = sorted((c for c in columns if c.startswith(prefix)), key=lambda c: int(c.removeprefix(prefix)))
    return np.stack([columns[name] for name in names], 1).astype(np.float64) if names else None
