"""Transforms f of the quantile reward, each with the logarithm of its partition function.

The policy that maximises `E[f(R_q)] - b KL(pi || ref)` is proportional to `ref * exp(f(R_q) / b)`, and
because R_q is uniform on (0, 1) under ref its normaliser is the same for every prompt:

    Z(b) = integral of exp(f(t) / b) over t in (0, 1)

    name           f(t)                     meaning
    identity       t                        exponential tilt of the rank
    log            log t                    pi* proportional to ref * t^(1/b): best of N with N = 1 + 1/b
    square, sqrt   t^2, sqrt t              more or less weight on the top
    normal:mu:s    mu + s Phi^-1(t)         a Gaussian reward; `normal` is mu = 0, s = 1

In: ranks in [0, 1] and b > 0. Out: float64. A new transform is one class and one line in the table; for a
callable Z is computed by quadrature.

Reference: Matrenok et al. 2025 (arXiv 2507.08068), its transforms of the quantile reward.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import ArgumentError, did_you_mean
from pluralign.losses.dawson import dawson
from pluralign.losses.log_quadrature import log_nodes
from pluralign.precision import widened

__all__ = [
    "TRANSFORMS",
    "Custom",
    "Identity",
    "Log",
    "Normal",
    "Sqrt",
    "Square",
    "Transform",
    "TransformLike",
    "parse_transform",
]


class Transform(ABC):
    """A nondecreasing function of the quantile reward, and the log of its partition function."""

    @abstractmethod
    def __call__(self, ranks: Float[Tensor, " *B"]) -> Float[Tensor, " *B"]:
        """f(t) for ranks t in [0, 1], elementwise, float64."""

    @abstractmethod
    def log_partition(self, beta: Float[Tensor, " *B"]) -> Float[Tensor, " *B"]:
        """log Z(b) for b > 0, elementwise, float64, differentiable in b."""


TransformLike = str | Transform | Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True)
class Identity(Transform):
    """f(t) = t, Z = b (e^(1/b) - 1)."""

    def __call__(self, ranks: Tensor) -> Tensor:
        """The ranks."""
        return widened(ranks)

    def log_partition(self, beta: Tensor) -> Tensor:
        """log Z = 1/b + log(b (1 - e^(-1/b))); the published log b + 1/b is off by .46 at b = 1."""
        x = 1 / widened(beta)
        return x + torch.log(-torch.expm1(-x) / x)


@final
@dataclass(frozen=True)
class Log(Transform):
    """f(t) = log t, Z = b / (b + 1); ranks of 0 must be clamped away."""

    def __call__(self, ranks: Tensor) -> Tensor:
        """log t."""
        return widened(ranks).log()

    def log_partition(self, beta: Tensor) -> Tensor:
        """log Z = -log(1 + 1/b)."""
        return -torch.log1p(widened(beta).reciprocal())


@final
@dataclass(frozen=True)
class Square(Transform):
    """f(t) = t^2, Z = (sqrt(pi b) / 2) erfi(1 / sqrt b)."""

    def __call__(self, ranks: Tensor) -> Tensor:
        """t^2."""
        return widened(ranks).square()

    def log_partition(self, beta: Tensor) -> Tensor:
        """log Z = 1/b + log(sqrt(b) D(1 / sqrt b)) with Dawson's D, which does not overflow."""
        x = widened(beta).rsqrt()
        return x * x + torch.log(dawson(x) / x)


@final
@dataclass(frozen=True)
class Sqrt(Transform):
    """f(t) = sqrt t, Z = 2b (b + (1 - b) e^(1/b))."""

    def __call__(self, ranks: Tensor) -> Tensor:
        """sqrt t."""
        return torch.sqrt(widened(ranks))

    def log_partition(self, beta: Tensor) -> Tensor:
        """With x = 1/b: x + log(2 (e^-x - 1 + x) / x^2); its Taylor series where the bracket cancels."""
        x = 1 / widened(beta)
        small = x < 1
        large = torch.where(small, 1.0, x)
        direct = large + torch.log(2 * (torch.expm1(-large) + large) / large**2)
        inner = torch.where(small, x, 0.0)
        # Z = sum over k of 2 (k + 1) / (k + 2)! x^k
        terms = [2 * (k + 1) / math.factorial(k + 2) * inner**k for k in range(1, 18)]
        return torch.where(small, torch.log1p(torch.stack(terms).sum(0)), direct)


@final
@dataclass(frozen=True)
class Normal(Transform):
    """f(t) = mu + s Phi^-1(t), Z = exp(mu/b + s^2 / (2 b^2)); ranks of 0 and 1 must be clamped away.

    Attributes:
        mean: mu, finite.
        std: s, positive and finite.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ArgumentError(
                "the transform normal needs a finite mean and a positive std, "
                f"received {self.mean}, {self.std}"
            )

    def __call__(self, ranks: Tensor) -> Tensor:
        """mu + s Phi^-1(t)."""
        score: Tensor = torch.special.ndtri(widened(ranks))
        return self.mean + self.std * score

    def log_partition(self, beta: Tensor) -> Tensor:
        """log Z = mu/b + s^2 / (2 b^2)."""
        x = 1 / widened(beta)
        return self.mean * x + 0.5 * (self.std * x) ** 2


@final
@dataclass(frozen=True)
class Custom(Transform):
    """Any function of the rank; Z by quadrature, once per distinct b.

    Attributes:
        function: elementwise on float64 tensors in (0, 1); finite, or -inf. It should not decrease.
    """

    function: Callable[[Tensor], Tensor]

    def __call__(self, ranks: Tensor) -> Tensor:
        """f(t)."""
        return self.function(widened(ranks))

    def log_partition(self, beta: Tensor) -> Tensor:
        """log Z by adaptive quadrature in log space, to about 1e-12."""
        wide = widened(beta)
        distinct, place = torch.unique(wide.detach(), return_inverse=True)
        grids = []
        for value in distinct.cpu():
            with torch.no_grad():
                nodes, log_weights = log_nodes(lambda t, b=value: self(t) / b)  # type: ignore[misc]
                grids.append((self(nodes).to(wide.device), log_weights.to(wide.device)))
        flat = [
            torch.logsumexp(grids[i][0] / b + grids[i][1], 0)
            for b, i in zip(wide.flatten(), place.flatten().tolist(), strict=True)
        ]
        return torch.stack(flat).reshape(wide.shape) if flat else wide.clone()


TRANSFORMS: Mapping[str, type[Transform]] = {
    "identity": Identity,
    "log": Log,
    "square": Square,
    "sqrt": Sqrt,
    "normal": Normal,
}


def parse_transform(transform: TransformLike) -> Transform:
    """The transform for a name, with its parameters after colons; callables are wrapped.

    Args:
        transform: `identity`, `log`, `square`, `sqrt`, `normal`, `normal:mu:s`, a `Transform`, or any
            function of ranks.

    Raises:
        ArgumentError: an unknown name, or parameters that do not fit.

    >>> parse_transform("normal:0.5:0.2")
    Normal(mean=0.5, std=0.2)
    """
    if isinstance(transform, Transform):
        return transform
    if not isinstance(transform, str):
        if not callable(transform):
            raise ArgumentError(
                f"transform: received {type(transform).__name__}; allowed: {_allowed()}, or a function"
            )
        return Custom(transform)
    name, *given = transform.split(":")
    if name not in TRANSFORMS:
        hint = did_you_mean(name, TRANSFORMS)
        raise ArgumentError(f"unknown transform {transform!r}{hint}; allowed: {_allowed()}, or a function")
    try:
        return TRANSFORMS[name](*map(float, given))
    except (TypeError, ValueError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"the parameters of transform {transform!r} do not fit; allowed: {_allowed()}"
        ) from error


def _allowed() -> str:
    return ", ".join(TRANSFORMS) + ", normal:mu:s"
