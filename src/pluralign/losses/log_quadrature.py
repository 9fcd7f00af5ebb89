"""Nodes and weights for log of integral of exp(g(t)) over t in (0, 1), found by adaptive bisection.

In: an exponent g, which may be huge and may be -inf. Out: nodes t and log-weights, so that
`logsumexp(g(t) + log_weights)` is the result; the caller may differentiate through it.

Panels are graded towards both ends, where exponents of sharp distributions have their mass, and then halved
wherever halving changes the integral. Only shares of the whole integral count, so nothing overflows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import ArgumentError

__all__ = ["log_nodes"]

_NOT_FOUND = (
    "the integral of exp(f(t) / beta) over (0, 1) could not be computed: f is too rough, or its mass lies "
    "too close to 1; use a larger beta, or a Transform with its own log_partition"
)
_ORDER = 16
_TOLERANCE = 1e-13  # change of a panel, as a share of the integral
_ROUNDS = 60
_LAST = 1 - 2.0**-53  # the largest float64 below 1
_BLURRED = 2.0**-46  # this close to 1, t has few digits left
_LOST = 1e-10  # share of the integral that may be wrong for that reason


def log_nodes(exponent: Callable[[Tensor], Tensor]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Nodes in (0, 1) and logarithms of their weights, fine enough for this exponent.

    Args:
        exponent: g, elementwise on float64 tensors; -inf is allowed, NaN and +inf are not.

    Returns:
        t and log w, [N] each, float64.

    Raises:
        ArgumentError: g is not a valid exponent, or the integral cannot be computed in float64: it diverges,
            or it lies within 1e-16 of t = 1, where t has no digits left.
    """
    low, high = _graded_panels()
    kept: list[tuple[Tensor, Tensor]] = []
    settled: list[Tensor] = []
    coarse = _panel_integrals(exponent, low, high)
    for _ in range(_ROUNDS):
        middle = low + 0.5 * (high - low)
        left, right = _panel_integrals(exponent, low, middle), _panel_integrals(exponent, middle, high)
        fine = torch.logaddexp(left, right)
        whole = torch.logsumexp(torch.cat((*settled, fine)), 0)
        if not whole.isfinite():
            raise ArgumentError(f"the integral of exp(f(t) / beta) over (0, 1) is exp({float(whole)})")
        change = (torch.exp(fine - whole) - torch.exp(coarse - whole)).abs()
        # Rounding of an exponent e changes exp(e) by a relative 1e-16 |e|; no halving removes that.
        rounding = 8 * torch.finfo(torch.float64).eps * (whole.abs() + 1) * torch.exp(fine - whole)
        done = change <= torch.clamp(rounding, min=_TOLERANCE)
        kept += [(low[done], middle[done]), (middle[done], high[done])]
        settled.append(fine[done])
        if bool(done.all()):
            nodes, log_weights = _nodes(torch.cat([a for a, _ in kept]), torch.cat([b for _, b in kept]))
            _check_end(exponent, nodes, log_weights, whole)
            return nodes, log_weights
        low, middle, high = low[~done], middle[~done], high[~done]
        coarse = torch.cat((left[~done], right[~done]))
        low, high = torch.cat((low, middle)), torch.cat((middle, high))
    raise ArgumentError(_NOT_FOUND)


def _graded_panels() -> tuple[Tensor, Tensor]:
    """Panels that halve towards 0 (down to 2^-200) and towards 1 (down to 2^-50)."""
    powers = 0.5 ** torch.arange(1, 201, dtype=torch.float64)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    edges = torch.cat((zero, powers.flip(0), 1 - powers[1:50], one))
    return edges[:-1], edges[1:]


@cache
def _gauss_legendre() -> tuple[Tensor, Tensor]:
    """Nodes on (0, 1) and log-weights, by the eigenvalues of the Jacobi matrix (Golub and Welsch 1969)."""
    k = torch.arange(1, _ORDER, dtype=torch.float64)
    off = k / torch.sqrt(4 * k * k - 1)
    values, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return 0.5 + 0.5 * values, 2 * vectors[0].abs().log()


def _nodes(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    place, log_weight = _gauss_legendre()
    width = (high - low).unsqueeze(-1)
    nodes = (low.unsqueeze(-1) + width * place).clamp(max=_LAST)
    return nodes.flatten(), (width.log() + log_weight).flatten()


def _check_end(
    exponent: Callable[[Tensor], Tensor], nodes: Tensor, log_weights: Tensor, whole: Tensor
) -> None:
    """Rejects a distribution with mass where t has no digits left, unless it hardly changes there."""
    last = exponent(nodes.new_tensor([1 - _BLURRED, _LAST]))
    near = nodes > 1 - _BLURRED
    share = torch.exp(torch.logsumexp(exponent(nodes[near]) + log_weights[near], 0) - whole)
    if float(share * last.diff().abs().clamp(max=1)) > _LOST:
        raise ArgumentError(_NOT_FOUND)


def _panel_integrals(exponent: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    nodes, log_weights = _nodes(low, high)
    values = exponent(nodes)
    if values.shape != nodes.shape or bool((values.isnan() | (values == torch.inf)).any()):
        raise ArgumentError(
            "a transform must map ranks in (0, 1) one by one to finite numbers or -inf; received NaN, +inf "
            f"or the shape {list(values.shape)} for {list(nodes.shape)}"
        )
    return torch.logsumexp((values + log_weights).reshape(-1, _ORDER), -1)
