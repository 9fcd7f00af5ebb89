"""Losses for Gaussian heads: pure functions, one value per example, torch only.

All take `mean`, `std` and `target` of one shape, [B] (or any other, such as [B, H] with the target repeated
for each head), and return that shape. `std` must be positive; its floor belongs to the head.
Notation: mu and s the head's prediction, y the rating.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.losses.checks import require, require_tensors

__all__ = ["beta_nll", "gaussian_nll", "reparameterized_mse"]


def gaussian_nll(
    mean: Float[Tensor, " *B"], std: Float[Tensor, " *B"], target: Float[Tensor, " *B"]
) -> Float[Tensor, " *B"]:
    """Negative log density of the rating, log s + (y - mu)^2 / (2 s^2) + log(2 pi) / 2.

    Args:
        mean: mu, [B].
        std: s > 0, [B].
        target: y, [B].

    Returns:
        [B], constant included, so that it is a log density.

    Raises:
        ArgumentError: if the shapes differ or, on the CPU, a value is NaN or a standard deviation invalid.
    """
    _check("gaussian_nll", mean, std, target)
    require(std > 0, "gaussian_nll: std must be positive; give the head a floor")
    return torch.log(std) + 0.5 * ((target - mean) / std) ** 2 + 0.5 * math.log(2 * math.pi)


def beta_nll(
    mean: Float[Tensor, " *B"], std: Float[Tensor, " *B"], target: Float[Tensor, " *B"], beta: float = 0.5
) -> Float[Tensor, " *B"]:
    """Gaussian negative log-likelihood weighted by s^(2 beta), the weight held constant in the gradient.

    The gradient of the mean is (mu - y) s^(2 beta - 2): beta = 0 is `gaussian_nll`, which neglects examples
    with large s, beta = 1 has the gradient of a squared error.

    Args:
        mean: mu, [B].
        std: s > 0, [B].
        target: y, [B].
        beta: in [0, 1].

    Returns:
        [B].

    Raises:
        ArgumentError: as `gaussian_nll`, or if beta is out of range.

    Reference: Seitzer et al. 2022 (arXiv 2203.09168), equation 5.
    """
    if not 0.0 <= beta <= 1.0:
        raise ArgumentError(f"beta must lie in [0, 1], received {beta}")
    return std.detach() ** (2 * beta) * gaussian_nll(mean, std, target)


def reparameterized_mse(
    mean: Float[Tensor, " *B"],
    std: Float[Tensor, " *B"],
    target: Float[Tensor, " *B"],
    generator: torch.Generator | None = None,
) -> Float[Tensor, " *B"]:
    """Squared error of one draw, (mu + s e - y)^2 with e standard normal: the published loss of BRME.

    Its expectation is (mu - E y)^2 + s^2 + Var(y), so training drives s to 0 whatever the noise in y; kept
    for parity, `gaussian_nll` learns s.

    Args:
        mean: mu, [B].
        std: s, [B].
        target: y, [B].
        generator: source of e, on the device of `mean`; None for torch's default.

    Returns:
        [B], not negative.

    Raises:
        ArgumentError: if the shapes differ or, on the CPU, a value is NaN or a standard deviation invalid.

    Reference: Yan et al. 2024 (arXiv 2409.15360).
    """
    _check("reparameterized_mse", mean, std, target)
    require(std >= 0, "reparameterized_mse: std must not be negative")
    noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
    return (mean + std * noise - target) ** 2


def _check(name: str, mean: Tensor, std: Tensor, target: Tensor) -> None:
    require_tensors(name, mean=mean, std=std, target=target)
    if not mean.shape == std.shape == target.shape:
        shapes = f"{list(mean.shape)}, {list(std.shape)} and {list(target.shape)}"
        raise ArgumentError(f"{name} needs mean, std and target of one shape, received {shapes}")
    require(~(mean - target).isnan(), f"{name}: mean and target must not be NaN")
