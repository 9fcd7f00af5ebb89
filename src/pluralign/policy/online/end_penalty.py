"""The penalty for a missing end token, for responses that were cut off at the token limit.

In: rewards, and which responses ended. Out: rewards. A reward model has mostly seen responses that end, so
its reward for one that does not is unreliable.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["penalize_missing_end"]


def penalize_missing_end(
    rewards: Float[Tensor, " B"], ended: Bool[Tensor, " B"], penalty: float
) -> Float[Tensor, " B"]:
    """reward - penalty if the response has no end token.

    Args:
        rewards: [B].
        ended: whether the policy generated the end of its turn, [B].
        penalty: in units of the rewards at this step; 0 for none.
    """
    return rewards - penalty * (~ended).to(rewards.dtype)
