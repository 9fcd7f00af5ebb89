"""The integral of |F1 - F2| for any two distributions: pieces of one sign, each in closed form.

Between knots D = F1 - F2 is smooth. Cells with two of its extrema are divided and all extrema located, so
that between neighbouring points it is monotone and has at most one zero; that zero is located next. On a
piece of one sign the integral of |D| is the difference of integrated CDFs. A misplaced zero costs only the
square of its error, because D vanishes there, and for the same reason its movement adds nothing to the
gradient. Computed in float64.

Distributions are accessed only through the primitives of `Integrable`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions.special import bisect, divide
from pluralign.precision import wide_dtype

__all__ = ["cdf_distance"]

# Cells of a row that are divided at most; more than a few never hold two extrema.
_DIVIDED = 16
# Halvings of a cell. An extremum only has to separate zeros; a zero is polished by one secant step.
_EXTREMUM, _ZERO = 10, 12


class Integrable(Protocol):
    """The primitives of a distribution that its distance to another needs; they are defined in `base`."""

    @property
    def device(self) -> torch.device: ...
    def to(self, *, dtype: torch.dtype) -> Self: ...
    def _cdf(self, x: Tensor, *, left: bool = False) -> Tensor: ...
    def _density(self, x: Tensor, *, left: bool = False) -> Tensor: ...
    def _integrated_cdf(self, x: Tensor) -> Tensor: ...
    def _knots(self) -> Tensor: ...


def cdf_distance(first: Integrable, second: Integrable) -> Float[Tensor, " B"]:
    """Integral of |F1 - F2| over the real line, shape [B], float64.

    Args:
        first: any distribution.
        second: any distribution of the same batch shape.
    """
    first, second = (part.to(dtype=wide_dtype(part.device)) for part in (first, second))

    def gap(x: Tensor, *, left: bool = False) -> Tensor:
        return first._cdf(x, left=left) - second._cdf(x, left=left)

    def slope(x: Tensor, *, left: bool = False) -> Tensor:
        return first._density(x, left=left) - second._density(x, left=left)

    def integral(x: Tensor) -> Tensor:
        return first._integrated_cdf(x) - second._integrated_cdf(x)

    points = torch.cat((first._knots(), second._knots()), -1).sort(-1).values
    with torch.no_grad():
        twice, middles = _double_turns(points, slope)
    points = torch.cat((points, torch.where(twice, middles, points[:, -1:])), -1).sort(-1).values
    with torch.no_grad():
        low, high = points[:, :-1], points[:, 1:]
        start = slope(low)
        turns = start * slope(high, left=True) < 0
        extrema, _ = bisect(lambda x: slope(x) * start > 0, low, high, _EXTREMUM)
    points = torch.cat((points, torch.where(turns, extrema, points[:, 1:])), -1).sort(-1).values
    with torch.no_grad():
        low, high = points[:, :-1], points[:, 1:]
        start, end = gap(low).sign(), gap(high, left=True).sign()
        crosses = (start * end < 0) & (low < high)
        above, below = bisect(lambda x: gap(x) * start > 0, low, high, _ZERO)
        rise, fall = gap(above), gap(below, left=True)
        zero = above + (below - above) * divide(rise, rise - fall).clamp(0, 1)
        # Signs are those of D, not of the integral over a cell, which rounding may flip in a tiny cell.
        before, after = torch.where(start == 0, end, start), torch.where(end == 0, start, end)
    at_points = integral(points)
    at_zero = integral(torch.where(crosses, zero, points[:, 1:]))
    return (before * (at_zero - at_points[:, :-1]) + after * (at_points[:, 1:] - at_zero)).sum(-1)


def _double_turns(points: Tensor, slope: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Cells where D turns twice, which its slope at the ends does not tell: [B, M] flags and midpoints."""
    low, high = points[:, :-1], points[:, 1:]
    middle = (low + high) / 2
    start, end = slope(low), slope(high, left=True)
    turns = (start * end > 0) & (start * slope(middle) < 0)
    found = turns.to(points.dtype).topk(min(_DIVIDED, turns.shape[1]), -1)
    return found.values > 0, middle.gather(-1, found.indices)
