"""The principal axes of features: training along them needs few steps, and an L2 penalty is unchanged.

In: features [N, D]. Out: a rotation [D, D]. Weights along the axes are rotated back by its transpose.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.precision import widened

__all__ = ["principal_axes"]

_CHUNK_ROWS = 16_384


def principal_axes(features: Float[Tensor, "N D"]) -> Float[Tensor, "D D"]:
    """The eigenvectors of the features' second moments, a rotation, float32."""
    moments = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64, device=features.device)
    for start in range(0, len(features), _CHUNK_ROWS):
        rows = widened(features[start : start + _CHUNK_ROWS])
        moments += rows.T @ rows
    axes: Tensor = torch.linalg.eigh(moments).eigenvectors
    return axes.float()
