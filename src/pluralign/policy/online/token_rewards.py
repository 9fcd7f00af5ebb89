"""From one reward per response to one per token: the KL penalty at each token, the reward at the last.

In: rewards, log-probabilities under policy and reference. Out: rewards of tokens, for advantages.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.losses.online import kl_estimate

__all__ = ["last_kept", "token_rewards"]


def token_rewards(
    rewards: Float[Tensor, " B"],
    log_probs: Float[Tensor, "B T"],
    reference_log_probs: Float[Tensor, "B T"],
    keep_mask: Bool[Tensor, "B T"],
    beta: float,
) -> Float[Tensor, "B T"]:
    """-beta (log pi - log ref) at each token that the policy chose, plus the reward at the last of them.

    The estimator must be k1: its sum over a response is the log-ratio, so that the expected return is
    E[R] - beta KL(pi || ref). Other estimators in a reward have other gradients.

    Args:
        rewards: rewards of responses, [B].
        log_probs: log-probabilities under the sampling policy, [B, T].
        reference_log_probs: log-probabilities of the same tokens under the reference, [B, T].
        keep_mask: tokens that the policy chose, [B, T]; may have holes. A row without any gets 0 everywhere.
        beta: weight of the KL, in units of the rewards per nat.

    Returns:
        [B, T], 0 where not kept, without gradient.
    """
    with torch.no_grad():
        kl = kl_estimate(log_probs, reference_log_probs, "k1").masked_fill(~keep_mask, 0.0)
        return -beta * kl + last_kept(keep_mask) * rewards[:, None].to(kl.dtype)


def last_kept(keep_mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """True at the last kept token of each row."""
    behind = keep_mask.flip(1).cumsum(1).flip(1)  # number of kept tokens from here on
    return keep_mask & (behind == 1)
