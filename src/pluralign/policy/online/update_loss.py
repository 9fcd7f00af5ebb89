"""The loss of an update: clipped surrogate and clipped value error, summed over tokens, and metrics.

In: new and old log-probabilities and values of the tokens of some responses [B, T]. Out: sums over kept
tokens; the loop divides by the tokens of the whole minibatch, so that the gradient does not depend on how it
was split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.losses.online import clipped_surrogate, clipped_value, kl_estimate, quantile_huber
from pluralign.policy.online.critic_targets import token_targets, value_levels

__all__ = ["CriticError", "Drawn", "quantile_value_error", "scalar_value_error", "update_loss"]


@dataclass(frozen=True)
class Drawn:
    """The tokens of a batch, with data from the time of sampling.

    Attributes:
        log_probs: log-probabilities of the sampling policy, [B, T].
        keep_mask: tokens that the policy chose, [B, T].
        advantages: advantages from `shaping`, [B, T].
        rewards: rewards per token, including the KL, [B, T].
        values: values of the critic at that time, [B, T, K]; None without one.
        returns: unwhitened advantages plus values, [B, T]; None without a critic.
    """

    log_probs: Float[Tensor, "B T"]
    keep_mask: Bool[Tensor, "B T"]
    advantages: Float[Tensor, "B T"]
    rewards: Float[Tensor, "B T"]
    values: Float[Tensor, "B T K"] | None = None
    returns: Float[Tensor, "B T"] | None = None

    def rows(self, places: Tensor) -> Drawn:
        """Some of the responses."""
        return Drawn(
            log_probs=self.log_probs[places],
            keep_mask=self.keep_mask[places],
            advantages=self.advantages[places],
            rewards=self.rewards[places],
            values=None if self.values is None else self.values[places],
            returns=None if self.returns is None else self.returns[places],
        )


CriticError = Callable[[Tensor, Drawn], Tensor]
"""The critic's error at each token, [B, T], 0 where not kept, from its values [B, T, K] and the batch.

Not of the kept tokens alone: a number of rows that depends on values makes the host wait for the device.
"""


def scalar_value_error(value_clip: float) -> CriticError:
    """Half the squared error of one value per token, clipped; see `losses.clipped_value`."""

    def error(values: Tensor, drawn: Drawn) -> Tensor:
        assert drawn.values is not None
        assert drawn.returns is not None
        found = clipped_value(values[..., 0], drawn.values[..., 0], drawn.returns, value_clip)
        return found.masked_fill(~drawn.keep_mask, 0.0)

    return error


def quantile_value_error(count: int, gamma: float, lam: float, steps: int, kappa: float) -> CriticError:
    """Quantile regression of K values per token on the mixture over n-step returns; see `critic_targets`."""

    def error(values: Tensor, drawn: Drawn) -> Tensor:
        assert drawn.values is not None
        keep = drawn.keep_mask
        targets, weights = token_targets(drawn.rewards, drawn.values, keep, gamma, lam, steps)
        new, targets, weights = (part.flatten(0, 1) for part in (values, targets, weights))
        found = quantile_huber(new, targets, value_levels(count, values.device), kappa, weights)
        return found.reshape(keep.shape).masked_fill(~keep, 0.0)

    return error


def update_loss(
    log_probs: Float[Tensor, "B T"],
    values: Float[Tensor, "B T K"] | None,
    drawn: Drawn,
    clip: float,
    value_error: CriticError,
    value_weight: float,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The sum of losses over kept tokens, and sums for metrics.

    Args:
        log_probs: log-probabilities of the current policy, [B, T].
        values: values of the current critic, [B, T, K]; None without one.
        drawn: the same tokens at the time of sampling.
        clip: clip of the probability ratio.
        value_error: error of the critic.
        value_weight: weight of the critic's loss.

    Returns:
        Scalar, differentiable; sums by name over the same tokens, without gradient: policy_loss, value_loss,
        clipped (tokens whose ratio is outside the clip), kl (k3 between the sampling and the current policy).
    """
    keep = drawn.keep_mask
    policy = clipped_surrogate(log_probs, drawn.log_probs, drawn.advantages, clip).masked_fill(~keep, 0).sum()
    loss = policy
    sums = {"policy_loss": policy.detach()}
    if values is not None:
        error = value_error(values, drawn).sum() + 0 * values.sum()  # every value has a gradient (DDP)
        loss = loss + value_weight * error
        sums["value_loss"] = error.detach()
    with torch.no_grad():
        moved = (log_probs - drawn.log_probs).masked_fill(~keep, 0.0)
        sums["clipped"] = ((moved.exp() - 1).abs() > clip).sum().to(moved.dtype)
        # Sampled from the old policy, so its log-probabilities are the first argument.
        sums["kl"] = kl_estimate(drawn.log_probs, log_probs, "k3").masked_fill(~keep, 0.0).sum()
    return loss, sums
