"""Linear least squares with a ridge penalty, for all penalties of a grid at once.

    minimise  sum_i w_i (y_i - x_i . v - c)^2 / sum_i w_i  +  l2 ||v||^2

In: features, targets, weights. Out: weights and intercepts. One eigendecomposition of the D x D covariance
serves the whole grid.

Reference: Hoerl and Kennard 1970; per attribute in Wang et al. 2024 (ArmoRM), arXiv 2406.12845, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["ridge_path"]

_CHUNK_ROWS = 16_384


def ridge_path(
    features: Float[Tensor, "N D"],
    target: Float[Tensor, " N"],
    weight: Float[Tensor, " N"],
    penalties: Sequence[float],
) -> tuple[Float[Tensor, "L D"], Float[Tensor, " L"]]:
    """Fits every penalty.

    Args:
        features: [N, D].
        target: [N].
        weight: [N], not negative, not all 0.
        penalties: L of them, positive.

    Returns:
        Weights [L, D] and intercepts [L], float64 on the device of the features.
    """
    share = (weight / weight.sum()).to(features.device, torch.float64)
    y = target.to(share)
    center = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for rows in _chunks(len(features)):
        center += share[rows] @ features[rows].double()
    mean = share @ y
    covariance = torch.zeros(len(center), len(center), dtype=torch.float64, device=features.device)
    cross = torch.zeros_like(center)
    for rows in _chunks(len(features)):
        x = features[rows].double() - center
        weighted = x * share[rows, None]
        covariance += x.T @ weighted
        cross += weighted.T @ (y[rows] - mean)
    values, vectors = torch.linalg.eigh(covariance)
    shrunk = (vectors.T @ cross) / (values.clamp_min(0) + torch.tensor(penalties).to(values)[:, None])
    coef = shrunk @ vectors.T
    return coef, mean - coef @ center


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + _CHUNK_ROWS) for start in range(0, count, _CHUNK_ROWS)]
