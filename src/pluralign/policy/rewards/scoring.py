"""Scores of responses by a reward model: utilities, logged statistics, and profile.

In: a scorer, a risk measure, conversations. Out: `ResponseScores`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import TailWarning
from pluralign.model.profiles import heads_of, profile
from pluralign.model.scorer import distributions_of
from pluralign.risk import RiskMeasure

__all__ = ["ResponseScores", "score_responses"]

_TAIL = 0.1


@dataclass(frozen=True)
class ResponseScores:
    """The rewards of B responses, with statistics of their distributions.

    Attributes:
        utilities: [B], on the CPU.
        columns: columns of `model.profiles.profile`; only the utility if rewards are numbers, not
            distributions.
        metrics: means over the responses of their distributions' mean, std, tail (the mean of the worst
            tenth), disagreement (spread of the heads' means) and within (std within a head); empty if
            rewards are numbers.
    """

    utilities: Float[Tensor, " B"]
    columns: Mapping[str, Float[Tensor, " B"]]
    metrics: Mapping[str, float]

    @classmethod
    def of_numbers(cls, numbers: Float[Tensor, " B"]) -> ResponseScores:
        """For rewards that are numbers, not distributions."""
        return cls(numbers, {"utility": numbers.double()}, {})


@torch.no_grad()
def score_responses(model: Any, measure: RiskMeasure, conversations: Sequence[Any]) -> ResponseScores:
    """Scores conversations with one call of the model.

    Args:
        model: a `RewardModel`, or anything with `distribution(conversations)`.
        measure: risk measure that turns distributions into numbers.
        conversations: B message lists, each ending in the response.

    Raises:
        ArgumentError: it is not a scorer, or returns something else.
        RiskError: the measure does not apply.
    """
    gate = None
    if hasattr(model, "head"):
        inputs = model.read(conversations)
        distribution = model.head.distribution(*inputs)
        if model.head.has_gate:
            gate = model.head.gate_weights(inputs.prompt)
    else:
        distribution = distributions_of(model, conversations, type(model).__name__)
    utilities = measure(distribution).detach().cpu()
    with warnings.catch_warnings():  # about a tail beyond the lowest level; it is only logged
        warnings.simplefilter("ignore", TailWarning)
        metrics = {"mean": distribution.mean(), "std": distribution.std(), "tail": distribution.cvar(_TAIL)}
    columns = profile(distribution, utilities, gate)
    heads = heads_of(columns)
    if heads is not None:
        metrics["disagreement"] = heads.std(-1)
        metrics["within"] = distribution.variances().within.sqrt()
    return ResponseScores(
        utilities, columns, {key: float(one.float().mean()) for key, one in metrics.items()}
    )
