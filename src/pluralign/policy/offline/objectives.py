"""The objectives: a table from names to pure functions of `losses`.

In: log-probabilities and rewards of one batch, by side. Out: one loss per row, [B]. A new objective is one
pure function in `losses` and one line in `OBJECTIVES`; a trainer also takes an `Objective` that is not in the
table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.errors import ArgumentError, did_you_mean
from pluralign.losses.policy import dpo, length_normalised_beta, qrpo, qrpo_absolute, rebel, simpo
from pluralign.policy.rewards.columns import PAIRS, UNPAIRED, Shape

__all__ = ["OBJECTIVES", "Objective", "Responses", "Settings", "Sides", "find_objective", "row_beta"]


@dataclass(frozen=True)
class Settings:
    """Settings of objectives.

    Attributes:
        beta: weight of the KL penalty, or the objective's own scale of it.
        transform: name of the transformation f of quantile rewards.
        gamma_beta_ratio: SimPO's margin in nats per token.
        length_normalized: use log-probabilities per token; for QRPO, beta / |y| and the corresponding Z.
        beta_max: largest beta / |y|.
    """

    beta: float
    transform: str = "identity"
    gamma_beta_ratio: float = 0.5
    length_normalized: bool = False
    beta_max: float | None = 0.1


@dataclass(frozen=True)
class Responses:
    """One response to each prompt of a batch; fields that an objective does not need are None.

    Attributes:
        log_probs: log pi(y|x), sum over tokens, [B], with gradient.
        num_tokens: |y|, including the end token, [B].
        reference_log_probs: log ref(y|x), [B].
        rewards: [B].
        quantile_rewards: [B], in [0, 1].
        log_partition: finite log Z, [B]; None for the exact one.
    """

    log_probs: Float[Tensor, " B"]
    num_tokens: Int[Tensor, " B"]
    reference_log_probs: Float[Tensor, " B"] | None = None
    rewards: Float[Tensor, " B"] | None = None
    quantile_rewards: Float[Tensor, " B"] | None = None
    log_partition: Float[Tensor, " B"] | None = None


Sides = Mapping[str, Responses]  # "completion", or "chosen" and "rejected"


@dataclass(frozen=True)
class Objective:
    """A loss and its requirements.

    Attributes:
        loss: from sides and settings to one loss per row, [B].
        beta: default beta.
        shapes: shapes of training tables that it can use.
        rewards: whether it needs rewards of the responses.
        ranks: whether it needs quantile rewards, and so reference rewards.
        reference: whether it needs reference log-probabilities.
    """

    loss: Callable[[Sides, Settings], Tensor]
    beta: float
    shapes: tuple[Shape, ...] = (PAIRS,)
    rewards: bool = False
    ranks: bool = False
    reference: bool = True


def row_beta(responses: Responses, settings: Settings) -> float | Tensor:
    """The weight of each row's log-ratio: beta, or beta / |y| if lengths are normalized."""
    if not settings.length_normalized:
        return settings.beta
    return length_normalised_beta(settings.beta, responses.num_tokens, settings.beta_max)


def _pointwise(loss: Callable[..., Tensor], sides: Sides, settings: Settings) -> Tensor:
    """A loss of single responses, averaged over the responses of a row."""
    losses = [
        loss(
            side.log_probs,
            side.reference_log_probs,
            side.quantile_rewards,
            beta=row_beta(side, settings),
            transform=settings.transform,
            log_partition=side.log_partition,
        )
        for side in sides.values()
    ]
    return torch.stack(losses).mean(0)


def _dpo(sides: Sides, settings: Settings) -> Tensor:
    return dpo(*_log_probs(sides, settings), settings.beta)


def _rebel(sides: Sides, settings: Settings) -> Tensor:
    rewards = (_given(sides["chosen"].rewards), _given(sides["rejected"].rewards))
    return rebel(*_log_probs(sides, settings), *rewards, settings.beta)


def _simpo(sides: Sides, settings: Settings) -> Tensor:
    chosen, rejected = (side.log_probs / side.num_tokens for side in (sides["chosen"], sides["rejected"]))
    return simpo(chosen, rejected, settings.beta, settings.gamma_beta_ratio)


def _log_probs(sides: Sides, settings: Settings) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """chosen, rejected, reference_chosen, reference_rejected; per token if lengths are normalized."""
    chosen, rejected = (sides[name] for name in ("chosen", "rejected"))
    per = (chosen.num_tokens, rejected.num_tokens) if settings.length_normalized else (1, 1)
    return (
        chosen.log_probs / per[0],
        rejected.log_probs / per[1],
        _given(chosen.reference_log_probs) / per[0],
        _given(rejected.reference_log_probs) / per[1],
    )


def _given(value: Tensor | None) -> Tensor:
    if value is None:
        raise ArgumentError("the batch lacks rewards or reference log-probabilities that the loss needs")
    return value


_BOTH: tuple[Shape, ...] = (UNPAIRED, PAIRS)

# One line per objective. The betas are the middle of the published grids; that of DPO is the usual one.
OBJECTIVES: dict[str, Objective] = {
    "qrpo": Objective(partial(_pointwise, qrpo), beta=1e-3, shapes=_BOTH, rewards=True, ranks=True),
    "qrpo_absolute": Objective(
        partial(_pointwise, qrpo_absolute), beta=1e-3, shapes=_BOTH, rewards=True, ranks=True
    ),
    "dpo": Objective(_dpo, beta=0.1),
    "rebel": Objective(_rebel, beta=1e-4, rewards=True),
    "simpo": Objective(_simpo, beta=2.5, reference=False),
}


def find_objective(objective: str | Objective) -> Objective:
    """The objective of this name, or the given one.

    Raises:
        ArgumentError: there is no such objective.
    """
    if isinstance(objective, Objective):
        return objective
    if objective not in OBJECTIVES:
        hint = did_you_mean(objective, OBJECTIVES)
        raise ArgumentError(
            f"unknown objective {objective!r}{hint}; allowed: {', '.join(OBJECTIVES)}, or an Objective"
        )
    return OBJECTIVES[objective]
