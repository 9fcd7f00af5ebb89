"""From one reward per response to one per token: the KL penalty at each token, the reward at the last.

In: rewards, log-probabilities under policy and reference. Out: what advantages are made of. It knows nothing
of how the rewards came about.
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

    k1 is what belongs here: its sum over a response is the log-ratio, so that the expected return is
    E[R] - beta KL(pi || ref). The other estimators have other gradients when they stand in a reward.

    Args:
        rewards: of responses, [B].
        log_probs: under the policy that drew, [B, T].
        reference_log_probs: of the same tokens, [B, T].
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
    behind = keep_mask.flip(1).cumsum(1).flip(1)  # kept tokens here and later
    return keep_mask & (behind == 1)
