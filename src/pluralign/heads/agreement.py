"""How similar the heads of an ensemble are.

In: the means of several heads on some responses. Out: their correlation and disagreement.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.precision import widened

__all__ = ["head_agreement"]


def head_agreement(means: Float[Tensor, "N H"]) -> dict[str, float]:
    """How similar heads are on some responses.

    Args:
        means: the mean of each head; N >= 2.

    Returns:
        `correlation`, the mean over pairs of heads (1 if a head is constant or the only one); `disagreement`,
        the mean over responses of the standard deviation between heads, divided by the standard deviation of
        the heads' average over the responses (0 if that does not vary).
    """
    means = widened(means)
    between = float(means.std(1, unbiased=False).mean())
    spread = float(means.mean(1).std(unbiased=False))
    correlation = 1.0
    if means.shape[1] > 1 and bool((means.std(0, unbiased=False) > 0).all()):
        matrix = torch.corrcoef(means.T)
        correlation = float(matrix[~torch.eye(len(matrix), dtype=torch.bool)].mean())
    return {"correlation": correlation, "disagreement": between / spread if spread > 0 else 0.0}
