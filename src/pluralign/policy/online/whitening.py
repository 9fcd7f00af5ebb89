"""Whitening: advantages of mean 0 and standard deviation 1 over the tokens of a batch.

In: advantages and a mask of tokens. Out: whitened advantages. Rewards are mixed (`robust:w`, sums of models)
long before: whitening the parts would weight them by the inverse of their own spreads.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pluralign.policy.online.normalization import Reduce
from pluralign.precision import widened

__all__ = ["whiten"]

_VARIANCE_FLOOR = 1e-8  # as in TRL: constant advantages become 0


def whiten(
    advantages: Float[Tensor, "B T"], keep_mask: Bool[Tensor, "B T"], reduce: Reduce = lambda sums: sums
) -> Float[Tensor, "B T"]:
    """(advantage - mean) / sqrt(variance + 1e-8) over the kept tokens of all processes.

    Args:
        advantages: [B, T].
        keep_mask: tokens to use, [B, T].
        reduce: sums a tensor over processes.

    Returns:
        [B, T], 0 where not kept.
    """
    kept = widened(advantages).masked_fill(~keep_mask, 0.0)
    count, total = reduce(torch.stack([widened(keep_mask.sum()), kept.sum()]))
    centred = (kept - total / count.clamp(min=1)).masked_fill(~keep_mask, 0.0)
    variance = reduce((centred**2).sum()) / count.clamp(min=1)
    whitened: Tensor = centred / (variance + _VARIANCE_FLOOR).sqrt()
    return whitened.to(advantages.dtype)
