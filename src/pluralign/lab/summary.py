"""A summary of a crowd in numbers.

In:  a crowd's settings, and its judgements of texts of the behaviour policy.
Out: settings, sizes and averages, ready for JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.lab import parser, world
from pluralign.lab.parser import TRAITS
from pluralign.lab.personas import ATTRIBUTES, PERSONAS
from pluralign.lab.world import Message

__all__ = ["describe"]


def describe(
    settings: Mapping[str, Any],
    texts: Sequence[Sequence[Message]],
    utilities: Float[Tensor, "N P"],
    gold: Float[Tensor, " N"],
    harm_rate: Float[Tensor, " N"],
) -> dict[str, Any]:
    """Summarises a crowd.

    Args:
        settings: settings of the crowd, JSON types.
        texts: N conversations.
        utilities: utility of each for each persona.
        gold: gold reward of each.
        harm_rate: share of people who find each harmful.
    """
    length = parser.read(texts)[0][:, TRAITS.index("length")]
    agreement = torch.corrcoef(utilities.T)[np.triu_indices(len(PERSONAS), 1)]
    return {
        "prompts": len(world.PROMPTS),
        "kinds": list(world.KINDS),
        "word_types": len(world.VOCABULARY),
        "attributes": list(ATTRIBUTES),
        **settings,
        "mean_words": float(length.mean()),
        "share_over_36_words": float((length > 36).double().mean()),
        "mean_gold": float(gold.mean()),
        "harm_rate": float(harm_rate.mean()),
        "persona_correlation": [float(agreement.min()), float(agreement.max())],
    }
