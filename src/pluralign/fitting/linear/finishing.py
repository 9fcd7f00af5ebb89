"""What follows the fit of the attributes in both recipes: gate, debiasing and unit of the head, baselines.

In: a fitted head, the ratings and their embeddings. Out: a `Fitted`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from pluralign.fitting.linear.baselines import baselines_of
from pluralign.fitting.linear.config import QuantileConfig, RegressionConfig
from pluralign.fitting.mix.mixing import add_mixing
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.fitting.tables.targets import RatingTargets
from pluralign.heads import MixedHead

if TYPE_CHECKING:
    from pluralign.backbones import Embeddings

__all__ = ["finished"]


def finished(
    head: MixedHead,
    inputs: Inputs,
    config: QuantileConfig | RegressionConfig,
    levels: Sequence[float],
    targets: RatingTargets,
    embedded: Embeddings,
    summary: Mapping[str, Any] | None = None,
) -> Fitted:
    """A head with its gate and its unit, and the baselines on the same embeddings.

    Args:
        head: without gate and debiasing.
        inputs: of the fit, with its ratings.
        config: of the fit.
        levels: of the constant model's quantiles.
        targets: of those ratings, dequantised.
        embedded: embeddings of their texts.
        summary: of the fit so far; what follows is added.
    """
    head, mixing = add_mixing(head, inputs, config, targets.conversations, embedded, seed=config.seed)
    mixing = dict(summary or {}) | mixing
    if not config.baselines:
        return Fitted(head, {}, mixing)
    quantiles = torch.tensor(levels, dtype=torch.float64)
    baselines, facts = baselines_of(inputs, targets, head.scaling, quantiles, config.seed)
    return Fitted(head, baselines, mixing | facts)
