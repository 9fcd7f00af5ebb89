"""What a reward model says of responses, all at once: utilities, what is logged of them, and their profile.

In: a scorer, a risk measure, conversations. Out: a `Judgement`. It knows nothing of training.
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

__all__ = ["Judgement", "judge"]

_TAIL = 0.1


@dataclass(frozen=True)
class Judgement:
    """What a reward says of B responses.

    Attributes:
        utilities: [B], on the CPU.
        columns: of `model.profiles.profile`; the utility alone where the reward is a number from the start.
        metrics: means over the responses of their distributions' mean, std, tail (the mean of the worst
            tenth) and disagreement (spread of the heads' means); empty likewise.
    """

    utilities: Float[Tensor, " B"]
    columns: Mapping[str, Float[Tensor, " B"]]
    metrics: Mapping[str, float]

    @classmethod
    def of_numbers(cls, numbers: Float[Tensor, " B"]) -> Judgement:
        """Where there are no distributions."""
        return cls(numbers, {"utility": numbers.double()}, {})


@torch.no_grad()
def judge(model: Any, measure: RiskMeasure, conversations: Sequence[Any]) -> Judgement:
    """Asks a scorer once.

    Args:
        model: a `RewardModel`, or anything with `distribution(conversations)`.
        measure: makes distributions numbers.
        conversations: B message lists, each ending in the response.

    Raises:
        ArgumentError: it is no scorer, or answers with something else.
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
    with warnings.catch_warnings():  # of a tail beyond the lowest level, which is only logged
        warnings.simplefilter("ignore", TailWarning)
        metrics = {"mean": distribution.mean(), "std": distribution.std(), "tail": distribution.cvar(_TAIL)}
    columns = profile(distribution, utilities, gate)
    heads = heads_of(columns)
    if heads is not None:
        metrics["disagreement"] = heads.std(-1)
    return Judgement(utilities, columns, {key: float(one.float().mean()) for key, one in metrics.items()})
