"""Special functions for the distributions: stable where the textbook formula loses digits or overflows.

They are pure, differentiable functions of tensors. Notation: Phi and phi are the standard normal CDF and
density, Z a standard normal variable; a scale of 0 always means an atom.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "as_shares",
    "bisect",
    "divide",
    "hypot",
    "log_mean_exp",
    "log_sinhc",
    "normal_cdf",
    "normal_density",
    "normal_excess",
    "safe_sqrt",
]

# Beyond this many standard deviations Phi is 0 or 1 and phi is 0 in float64.
_FAR = 40.0


def as_shares(weights: Tensor) -> Tensor:
    """Weights of at least 0, one of each last axis above 0, as shares that sum to 1; their own sum may be
    larger than the dtype holds."""
    few = torch.where(weights.sum(-1, keepdim=True).isfinite(), weights, weights / weights.shape[-1])
    return few / few.sum(-1, keepdim=True)


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """`numerator / denominator`, and 0 (with gradient 0) where the denominator is 0."""
    zero = denominator == 0
    return torch.where(zero, 0.0, numerator / torch.where(zero, 1.0, denominator))


def hypot(first: Tensor, second: Tensor) -> Tensor:
    """sqrt(a^2 + b^2) of two values that are not negative, with a finite gradient where both are 0."""
    large, small = torch.maximum(first, second), torch.minimum(first, second)
    return large * torch.sqrt(1 + divide(small, large) ** 2)


def safe_sqrt(value: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite."""
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1.0).sqrt(), 0.0)


def _standardise(difference: Tensor, scale: Tensor) -> Tensor:
    return divide(difference, scale).clamp(-_FAR, _FAR)


def _phi(z: Tensor) -> Tensor:
    """Phi, exact in the lower tail too, where torch's `ndtr` is 0 from 8.3 standard deviations on."""
    upper: Tensor = torch.special.erfc(-math.sqrt(0.5) * z)
    return 0.5 * upper


def normal_cdf(difference: Tensor, scale: Tensor, *, left: bool = False) -> Tensor:
    """P(scale * Z <= difference); with `left` P(scale * Z < difference), which differs where scale is 0."""
    step = difference > 0 if left else difference >= 0
    return torch.where(scale > 0, _phi(_standardise(difference, scale)), step.to(difference.dtype))


def normal_density(difference: Tensor, scale: Tensor) -> Tensor:
    """Density of scale * Z at `difference`; 0 where scale is 0 (an atom has no density)."""
    z = _standardise(difference, scale)
    return divide(torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi), scale)


def normal_excess(difference: Tensor, scale: Tensor) -> Tensor:
    """E[(difference + scale * Z)+] = difference Phi(z) + scale phi(z), z = difference / scale."""
    z = _standardise(difference, scale)
    smooth = difference * _phi(z) + scale * torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return torch.where(scale > 0, smooth, difference.clamp(min=0))


def log_sinhc(value: Tensor) -> Tensor:
    """log(sinh(v) / v), even in v, 0 at 0: by its series for small v, without overflow for large v."""
    v = value.abs()
    small = v < 0.1
    squared = torch.where(small, v, 0.0) ** 2
    series = squared * (1 / 6 - squared * (1 / 180 - squared * (1 / 2835 - squared / 37800)))
    large = torch.where(small, 1.0, v)
    direct = large + torch.log1p(-torch.exp(-2 * large)) - torch.log(2 * large)
    return torch.where(small, series, direct)


def log_mean_exp(weights: Tensor, exponents: Tensor) -> Tensor:
    """log sum_k w_k exp(e_k) over the last dimension, for weights that sum to 1.

    If all exponents are small, the result is of their order and exp would round it away, so it is computed as
    log1p(sum w expm1(e)); otherwise the largest exponent is factored out. Weights of 0 are ignored.
    """
    keep = weights > 0
    top = exponents.detach().masked_fill(~keep, -math.inf).amax(-1, keepdim=True)
    kept = torch.where(keep, exponents, top)
    small = kept.detach().abs().amax(-1) <= 1.0
    near = torch.log1p((weights * torch.expm1(kept.clamp(-1.0, 1.0))).sum(-1))
    far = top.squeeze(-1) + torch.log((weights * torch.exp(kept - top)).sum(-1))
    return torch.where(small, near, far)


@torch.no_grad()
def bisect(
    stay: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """Halves [low, high] elementwise; `stay(middle)` is true where the root lies above `middle`.

    Returns:
        the last brackets (low, high); the root is in each if `stay` changes from true to false once.
    """
    for _ in range(iterations):
        middle = low + 0.5 * (high - low)
        above = stay(middle)
        low = torch.where(above, middle, low)
        high = torch.where(above, high, middle)
    return low, high
