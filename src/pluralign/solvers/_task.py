"""One batch of quantile regressions on the same rows, and the passes over all rows that every stage needs.

In: a design, targets of unit size, levels, weights. Out: residuals block by block, losses, sums over rows.
Nothing of size rows x fits is stored here.

Notation: fits m = 1..M run attribute-major, M = A * K; a dual d is one number per fit and row, inside
[t - 1, t]; where it is stored, it is stored as w d.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.solvers._design import Design

__all__ = ["Task", "check_loss"]


def check_loss(residual: Float[Tensor, "*M n"], levels: Float[Tensor, "*M 1"]) -> Float[Tensor, "*M n"]:
    """rho_t(r) = max(t r, (t - 1) r)."""
    return torch.maximum(levels * residual, (levels - 1.0) * residual)


@dataclass(frozen=True)
class Task:
    """The fits to compute.

    Attributes:
        design: the features.
        targets: float64, one row per attribute, of unit size.
        levels: in (0, 1).
        weights: float64, positive, mean 1; None means all 1.
        l1: penalty in the units of the features as given.
        fit_intercept: whether c is free.
    """

    design: Design
    targets: Float[Tensor, "A N"]
    levels: tuple[float, ...]
    weights: Float[Tensor, " N"] | None
    l1: float
    fit_intercept: bool

    @property
    def penalties(self) -> Float[Tensor, " P"] | None:
        """lam_j of every column of f-space; None at l1 = 0."""
        scale = self.design.scale
        # A constant column has scale 0; any penalty keeps its coefficient at 0.
        return None if self.l1 == 0.0 else self.l1 * torch.where(scale > 0.0, scale, 1.0)

    @property
    def attribute(self) -> Int[Tensor, " M"]:
        """The row of `targets` of each fit."""
        index = torch.arange(self.targets.shape[0], device=self.targets.device)
        return index.repeat_interleave(len(self.levels))

    @property
    def level(self) -> Float[Tensor, "M 1"]:
        """The level of each fit."""
        return self.targets.new_tensor(self.levels).repeat(self.targets.shape[0])[:, None]

    def subset(self, rows: Int[Tensor, " n"]) -> Task:
        """The same fits on some rows, in the same scale."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(
            self,
            design=self.design.subset(rows),
            targets=self.targets[:, rows],
            weights=None if weights is None else weights / weights.mean(),
        )

    def residuals(
        self, coef: Float[Tensor, "M P"], intercept: Float[Tensor, " M"], attribute: Int[Tensor, " M"]
    ) -> Iterator[tuple[slice, Float[Tensor, "n D"], Float[Tensor, "M n"]]]:
        """Block by block: the rows, their standardised features, and y - f v - c."""
        standardised = self.design.to_standardised(coef)
        for part, block in self.design.blocks():
            residual = torch.addmm(intercept[:, None], standardised, block.T)
            yield part, block, torch.sub(self.targets[:, part][attribute], residual, out=residual)

    def weigh(self, values: Float[Tensor, "*M n"], part: slice) -> Float[Tensor, "*M n"]:
        """Values times the weights of their rows."""
        return values if self.weights is None else values * self.weights[part]

    def penalty(self, coef: Float[Tensor, "M P"]) -> Float[Tensor, " M"]:
        """sum_j lam_j |v_j|."""
        penalties = self.penalties
        return coef.new_zeros(coef.shape[0]) if penalties is None else coef.abs() @ penalties

    def with_intercept(self, rows: Float[Tensor, "n P"]) -> Float[Tensor, "n Q"]:
        """Rows with a last column of ones if there is an intercept."""
        return torch.cat([rows, rows.new_ones(rows.shape[0], 1)], dim=1) if self.fit_intercept else rows

    def join_sums(self, sums: Float[Tensor, "M D"], totals: Float[Tensor, " M"]) -> Float[Tensor, "M Q"]:
        """Sums of d z and of d over rows, as sums of d f with the intercept's last."""
        rotated = self.design.rotate_sums(sums)
        return torch.cat([rotated, totals[:, None]], dim=1) if self.fit_intercept else rotated
