"""From utilities of responses to advantages of tokens, in the one order that this package promises.

    utility -> running normalization (optional) -> penalty for a missing end token -> KL penalty per token
            -> advantages -> whitening

In: utilities, log-probabilities, values. Out: the input of an update. Each step is a separate function; this
file only calls them in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.policy.online.advantages import ADVANTAGES
from pluralign.policy.online.end_penalty import penalize_missing_end
from pluralign.policy.online.normalization import Moments, Reduce, normalize
from pluralign.policy.online.token_rewards import token_rewards
from pluralign.policy.online.whitening import whiten

__all__ = ["Shaped", "Shaping", "shape"]


@dataclass(frozen=True)
class Shaping:
    """The settings of the steps; see the fields of `PPOConfig` with these names."""

    advantages: str
    beta: float
    gamma: float
    lam: float
    normalize_rewards: bool
    missing_end_penalty: float
    whiten: bool


@dataclass(frozen=True)
class Shaped:
    """The result of the steps.

    Attributes:
        rewards: rewards of responses, before the KL penalty, [B].
        token_rewards: rewards of tokens, with the KL penalty, [B, T].
        advantages: [B, T], whitened if set; 0 where not kept.
        returns: targets of a critic, [B, T]; None without one.
        moments: moments of rewards, with this batch.
    """

    rewards: Float[Tensor, " B"]
    token_rewards: Float[Tensor, "B T"]
    advantages: Float[Tensor, "B T"]
    returns: Float[Tensor, "B T"] | None
    moments: Moments


def shape(
    utilities: Float[Tensor, " B"],
    ended: Bool[Tensor, " B"],
    log_probs: Float[Tensor, "B T"],
    reference_log_probs: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"] | None,
    keep_mask: Bool[Tensor, "B T"],
    group: Sequence[int],
    moments: Moments,
    settings: Shaping,
    reduce: Reduce = lambda sums: sums,
) -> Shaped:
    """All steps, in order.

    Args:
        utilities: risk measures of reward distributions, [B].
        ended: whether the response has an end token, [B].
        log_probs: log-probabilities of the sampling policy, [B, T].
        reference_log_probs: [B, T].
        values: values of the critic at the time of sampling, [B, T]; None without one.
        keep_mask: tokens that the policy chose, [B, T]; may have holes.
        group: the prompt of each response, B ids.
        moments: moments of all rewards before.
        settings: the settings of the steps.
        reduce: sums a tensor over processes.
    """
    rewards = utilities
    if settings.normalize_rewards:
        rewards, moments = normalize(rewards, moments, reduce)
    rewards = penalize_missing_end(rewards, ended, settings.missing_end_penalty)
    per_token = token_rewards(rewards, log_probs, reference_log_probs, keep_mask, settings.beta)
    kind = ADVANTAGES[settings.advantages]
    advantages, returns = kind.function(per_token, values, keep_mask, group, settings.gamma, settings.lam)
    if settings.whiten:
        advantages = whiten(advantages, keep_mask, reduce)
    return Shaped(rewards, per_token, advantages, returns, moments)
