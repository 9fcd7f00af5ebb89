"""The loss of an update: clipped surrogate and clipped value error, summed over tokens, and what to report.

In: new and old log-probabilities and values of the tokens of some responses [B, T]. Out: sums over kept
tokens; the loop divides by the tokens of the whole minibatch, so that the gradient does not depend on how it
was split. It knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.losses.online import clipped_surrogate, clipped_value, kl_estimate

__all__ = ["Drawn", "update_loss"]


@dataclass(frozen=True)
class Drawn:
    """What is known of the tokens of a batch since it was drawn; [B, T] each, [B, T, K] for quantile values.

    Attributes:
        log_probs: of the policy that drew.
        keep_mask: tokens that the policy chose.
        advantages: see `shaping`.
        values: of the critic then; None without one.
        returns: what the critic is fitted to; None without one.
    """

    log_probs: Float[Tensor, "B T"]
    keep_mask: Bool[Tensor, "B T"]
    advantages: Float[Tensor, "B T"]
    values: Tensor | None
    returns: Float[Tensor, "B T"] | None

    def rows(self, places: Tensor) -> Drawn:
        """Some of the responses."""
        values = None if self.values is None else self.values[places]
        returns = None if self.returns is None else self.returns[places]
        return Drawn(self.log_probs[places], self.keep_mask[places], self.advantages[places], values, returns)


def update_loss(
    log_probs: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"] | None,
    drawn: Drawn,
    clip: float,
    value_clip: float,
    value_weight: float,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The sum of losses over kept tokens, and sums to be reported.

    Args:
        log_probs: under the policy as it is, [B, T].
        values: of the critic as it is, [B, T]; None without one.
        drawn: the same tokens when they were drawn.
        clip: of the probability ratio.
        value_clip: of the values.
        value_weight: of the critic's loss.

    Returns:
        Scalar, differentiable; sums by name over the same tokens, without gradient: policy_loss, value_loss,
        clipped (tokens whose ratio left the clip), kl (k3 between the policy that drew and this one).
    """
    keep = drawn.keep_mask
    policy = clipped_surrogate(log_probs, drawn.log_probs, drawn.advantages, clip).masked_fill(~keep, 0).sum()
    loss = policy
    sums = {"policy_loss": policy.detach()}
    if values is not None and drawn.values is not None and drawn.returns is not None:
        error = clipped_value(values, drawn.values, drawn.returns, value_clip).masked_fill(~keep, 0).sum()
        loss = loss + value_weight * error
        sums["value_loss"] = error.detach()
    with torch.no_grad():
        moved = (log_probs - drawn.log_probs).masked_fill(~keep, 0.0)
        sums["clipped"] = ((moved.exp() - 1).abs() > clip).sum().to(moved.dtype)
        # Drawn from the old policy, so its log-probabilities come first.
        sums["kl"] = kl_estimate(drawn.log_probs, log_probs, "k3").masked_fill(~keep, 0.0).sum()
    return loss, sums
