"""The baselines of families on ratings: the constant model, and Bradley-Terry on the same embeddings.

In: rating targets, and any data that gives pairs. Out: heads.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import DataError
from pluralign.fitting.linear import bradley_terry
from pluralign.fitting.linear.config import BradleyTerryConfig
from pluralign.fitting.tables.inputs import Inputs
from pluralign.fitting.tables.targets import RatingTargets
from pluralign.heads import BradleyTerryHead, ColumnScaling, Head, QuantileHead

__all__ = ["baselines_of", "bradley_terry_of", "constant_head", "weighted_quantiles"]


def baselines_of(
    inputs: Inputs, targets: RatingTargets, scaling: ColumnScaling, levels: Tensor, seed: int
) -> tuple[dict[str, Head], dict[str, Any]]:
    """The baselines by name, and a record of them; those that the data does not allow are missing.

    Args:
        inputs: inputs of the fit, with the ratings that the targets were made from.
        targets: dequantised like those of the quantile family.
        scaling: scaling of the embeddings.
        levels: [K], levels of the constant model's quantiles.
        seed: seed of Bradley-Terry's held-out groups.
    """
    heads, facts = bradley_terry_of(inputs, seed)
    return {"constant": constant_head(targets, scaling, levels), **heads}, facts


def bradley_terry_of(inputs: Inputs, seed: int) -> tuple[dict[str, Head], dict[str, Any]]:
    """Bradley-Terry by its name, and a record of it; empty if the data gives no pairs."""
    try:
        head, l2, _ = bradley_terry.fit_head(inputs, BradleyTerryConfig(seed=seed))
    except DataError as error:  # a missing baseline is reported, but is not an error
        inputs.report(f"no Bradley-Terry baseline: {error}")
        return {}, {f"no_{BradleyTerryHead.family}": str(error)}
    return {head.family: head}, {f"{head.family}_l2": l2}


def constant_head(targets: RatingTargets, scaling: ColumnScaling, levels: Tensor) -> QuantileHead:
    """A quantile head without weights: the quantiles of all ratings of an attribute, for every text."""
    attributes = tuple(rows.attribute for rows in targets.attributes)
    weight = torch.zeros(len(attributes), len(levels), len(scaling.center))
    bias = torch.stack([weighted_quantiles(a.target, a.weight, levels) for a in targets.attributes])
    anywhere = scaling.center[None]
    return QuantileHead(scaling, weight, bias, levels, attributes).in_units_of(anywhere, anywhere)


def weighted_quantiles(
    values: Float[Tensor, " R"], weights: Float[Tensor, " R"], levels: Float[Tensor, " K"]
) -> Float[Tensor, " K"]:
    """The lower weighted quantiles of a sample, minimisers of its pinball loss."""
    order = values.argsort()
    cumulative = weights[order].cumsum(0)
    position = torch.searchsorted(cumulative, levels.to(values) * cumulative[-1] * (1 - 1e-12))
    return values[order][position.clamp_max(len(values) - 1)]
