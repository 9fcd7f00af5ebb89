"""The linear system of an interior-point step, solved over columns or over rows, whichever are fewer.

    da = q (k - [A; E] dx),   A'da_rows + E'da_pen = missing

where q > 0 are curvatures, E picks the penalised columns (the first m), and an intercept, if there is one,
is the last column of A. In: one step's curvatures. Out: a function of (k, missing, refine).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["factorise", "lower_product", "newton_system", "weighted_gram"]

Solve: TypeAlias = Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor]]

BLOCK = 64


def weighted_gram(rows: Float[Tensor, "n p"], weights: Float[Tensor, " n"]) -> Float[Tensor, "p p"]:
    """The lower triangle of rows' diag(weights) rows; the upper triangle is undefined."""
    return lower_product(rows, weights[:, None] * rows)


def lower_product(left: Float[Tensor, "n p"], right: Float[Tensor, "n p"]) -> Float[Tensor, "p p"]:
    """The lower triangle of left' right, which must be symmetric; the upper triangle is undefined."""
    width = left.shape[1]
    if width < 2 * BLOCK:
        return left.T @ right
    out = left.new_zeros((width, width))
    for start in range(0, width, BLOCK):
        stop = min(start + BLOCK, width)
        out[start:stop, :stop] = left[:, start:stop].T @ right[:, :stop]
    return out


def factorise(matrix: Float[Tensor, "p p"]) -> Float[Tensor, "p p"]:
    """Cholesky factor from the lower triangle of a semidefinite matrix, with as much added to the diagonal as
    needed."""
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    share = 1e-13
    while int(info) != 0 and share < 1.0:
        diagonal = matrix.diagonal()
        added = share * (diagonal + 1e-3 * diagonal.amax().clamp_min(1e-300))
        factor, info = torch.linalg.cholesky_ex(matrix + torch.diag(added))
        share *= 100.0
    return factor


def newton_system(rows: Float[Tensor, "n p"], curvature: Float[Tensor, " q"], num_penalised: int) -> Solve:
    """Factorises once; the returned function gives (dx, da) for k [n + m], missing [p], whether to refine."""
    if rows.shape[0] <= num_penalised:
        return _over_rows(rows, curvature, num_penalised)
    return _over_columns(rows, curvature, num_penalised)


def _over_columns(rows: Tensor, curvature: Tensor, num_penalised: int) -> Solve:
    num_rows = rows.shape[0]
    normal = weighted_gram(rows, curvature[:num_rows])
    normal.diagonal()[:num_penalised].add_(curvature[num_rows:])
    factor = factorise(normal)

    def balance(a: Tensor) -> Tensor:
        out = a[:num_rows] @ rows
        out[:num_penalised] += a[num_rows:]
        return out

    def solve(k: Tensor, missing: Tensor, refine: bool) -> tuple[Tensor, Tensor]:
        da, dx = curvature * k, torch.zeros_like(missing)
        # Curvatures span many orders of magnitude, and a single factorisation loses digits.
        for _ in range(2 if refine else 1):
            more = torch.cholesky_solve((balance(da) - missing)[:, None], factor)[:, 0]
            dx = dx + more
            da = da - curvature * torch.cat([rows @ more, more[:num_penalised]])
        return dx, da

    return solve


def _over_rows(rows: Tensor, curvature: Tensor, num_penalised: int) -> Solve:
    """For fewer rows than columns; eliminating the penalised columns keeps A'da + E'da = missing exact."""
    num_rows = rows.shape[0]
    free = rows[:, :num_penalised]
    ease = 1.0 / curvature[num_rows:]
    matrix = (free * ease) @ free.T
    matrix.diagonal().add_(1.0 / curvature[:num_rows])
    factor = factorise(matrix)
    intercept = rows.shape[1] > num_penalised
    ones = torch.cholesky_solve(rows[:, -1:], factor)[:, 0] if intercept else rows[:, 0]

    def once(k: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        lacking, pull = missing[:num_penalised], k[num_rows:]
        right = k[:num_rows] + free @ (ease * lacking - pull)
        da = torch.cholesky_solve(right[:, None], factor)[:, 0]
        if intercept:
            last = (da.sum() - missing[-1]) / ones.sum()
            da = da - last * ones
        da_penalised = lacking - da @ free
        dx = pull - ease * da_penalised
        return torch.cat([dx, last[None]]) if intercept else dx, torch.cat([da, da_penalised])

    def solve(k: Tensor, missing: Tensor, refine: bool) -> tuple[Tensor, Tensor]:
        dx, da = once(k, missing)
        if not refine:
            return dx, da
        left = k - da / curvature - torch.cat([rows @ dx, dx[:num_penalised]])
        lacking = missing - da[:num_rows] @ rows
        lacking[:num_penalised] -= da[num_rows:]
        more = once(left, lacking)
        return dx + more[0], da + more[1]

    return solve
