"""What an ensemble's heads say: how alike they are, and whether their doubt warns of errors.

In: distributions with several heads on judged rows. Out: columns per row, and a summary. It knows no tables
and no files.

Two kinds of doubt are kept apart: `within`, what a head itself expects ratings to vary by, and `between`, the
standard deviation of the heads' means, which is large where the data does not say what the reward is.
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


def distribution_columns(distribution: RewardDistribution) -> dict[str, Tensor]:
    """One entry per row, for a distribution with several heads: each head's mean, and both kinds of doubt.

    Returns:
        `head_0` ..., `within_std` and `between_std`, each [N]; empty for any other distribution.
    """
    heads = distribution.heads()
    if heads is None or heads.means.shape[1] < 2:
        return {}
    means = {f"head_{h}": heads.means[:, h] for h in range(heads.means.shape[1])}
    within = heads.stds.square().mean(1).sqrt()
    return means | {"within_std": within, "between_std": heads.means.std(1, unbiased=False)}


def margin_columns(head: Head, chosen: RewardDistribution, rejected: RewardDistribution) -> dict[str, Any]:
    """Each head's mean reward of the chosen minus the rejected response, one entry per pair.

    Returns:
        `margin_head_0` ..., each [N]; empty where the model is no ensemble of several heads.
    """
    first, second = chosen.heads(), rejected.heads()
    if head.num_heads < 2 or first is None or second is None:
        return {}
    margins = first.means - second.means
    return {f"{_MARGIN}{h}": margins[:, h].cpu().numpy() for h in range(head.num_heads)}


def summarise_ensemble(columns: dict[str, Any]) -> dict[str, Any]:
    """How alike heads are, and the rank correlation of their doubt with the error.

    Args:
        columns: of a table of ratings or pairs.

    Returns:
        For ratings by attribute, for pairs at once: `heads`, `correlation` and `disagreement` as
        `head_agreement` has them, and Spearman's correlation of each kind of doubt with the error: |mean -
        observed mean|, or 1 where the pair was judged wrongly. Pairs also have `split`, the share on which
        some head prefers the other side. `intervals` has those numbers that exist with their interval over
        groups. Empty where the model is no ensemble.
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
        return head_agreement(torch.from_numpy(means[rows])) | {
            f"spearman_{name}_error": metrics.spearman(columns[column][rows], error[rows])
            for name, column in doubts.items()
        }

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
    """The numbers of all rows, and those that exist as intervals."""
    whole = measured(np.arange(len(groups)))
    if not whole:
        return {}
    found = {name: part.to_dict() for name, part in jackknife_intervals(measured, groups).items()}
    return {"heads": heads, **whole, "intervals": found}


def _stacked(columns: dict[str, Any], prefix: str) -> Any:
    """[N, H] of the columns prefix0, prefix1, ..., or None where there are none."""
    names = sorted((c for c in columns if c.startswith(prefix)), key=lambda c: int(c.removeprefix(prefix)))
    return np.stack([columns[name] for name in names], 1).astype(np.float64) if names else None
