"""What families on ratings are compared with: the constant model, and Bradley-Terry on the same embeddings.

In: rating targets, and whatever gives pairs. Out: heads. It does not know the family that they stand beside.
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
    """The baselines by name, and what to remember of them; one that the data does not allow is absent.

    Args:
        inputs: of the fit, with the ratings that the targets were made of.
        targets: dequantised like those of the quantile family.
        scaling: of the embeddings.
        levels: [K], of the constant model's quantiles.
        seed: of Bradley-Terry's held-out groups.
    """
    heads, facts = bradley_terry_of(inputs, seed)
    return {"constant": constant_head(targets, scaling, levels), **heads}, facts


def bradley_terry_of(inputs: Inputs, seed: int) -> tuple[dict[str, Head], dict[str, Any]]:
    """Bradley-Terry by its name, and what to remember; without it where the data gives no pairs."""
    try:
        head, l2, _ = bradley_terry.fit_head(inputs, BradleyTerryConfig(seed=seed))
    except DataError as error:  # an absent baseline is reported, it does not spoil the model
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
