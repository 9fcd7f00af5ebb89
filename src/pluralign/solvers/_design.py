"""The features in the solver's scale: standardised, and for l1 = 0 also whitened.

In: the rows of one problem, as given (float32 or float64). Out: float64 blocks of rows in a scale where every
column has unit size, and a float32 copy for the first, approximate stage.

Notation: x a row as given, z = (x - center) * scale, f = z @ rotation. A fit (v, c) in f-space is (scale *
(rotation @ v), c - center . that) in x-space, exactly, so the problem that is solved is the one given.
Standardising costs only float64 rounding. Rows are standardised whenever they are read, in blocks
that stay in the cache: that is cheaper than storing and reading a copy of twice the size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Design", "block_rows", "build_design", "row_parts"]

CPU_BLOCK, GPU_BLOCK = 2**17, 2**25
"""Elements of a block: 1 MiB of float64 stays in a core's cache; a GPU wants few large kernels."""

NULL_SHARE = 1e-9
"""A direction is left out of the fit if its spread is below this share of the numbers that cancel in it."""
ROUNDING_SHARE = 2e-15
"""Below this share of them the spread is made by the rounding of the numbers themselves: there is none."""
OFFSET = 1e6
"""Means above this many standard deviations are named where a fit is not exact."""
CLEAR = 1e-10
"""A Gram matrix resolves directions whose second moment is above this share of the largest."""


def block_rows(width: int, device: torch.device) -> int:
    """Rows of a block in which every row has `width` elements."""
    return max(64, (CPU_BLOCK if device.type == "cpu" else GPU_BLOCK) // max(1, width))


@dataclass(frozen=True)
class Design:
    """Features of one problem with the affine map that standardises them.

    Attributes:
        features: the rows as given.
        center: subtracted from every row; zeros if there is no intercept.
        scale: one over the standard deviation (root mean square without an intercept); 0 for constants.
        rotation: maps standardised columns to uncorrelated ones of unit variance; None keeps the columns.
        held: further directions of unit variance, which are real but too faint to use in the fit; None if the
            columns are kept. A fit without them is optimal only if they could not improve it.
    """

    features: Float[Tensor, "N D"]
    center: Float[Tensor, " D"]
    scale: Float[Tensor, " D"]
    rotation: Float[Tensor, "D P"] | None
    held: Float[Tensor, "D Q"] | None = None

    @property
    def uncentred(self) -> Float[Tensor, " D"]:
        """Root mean square of the standardised columns before centring, at least 1."""
        return (1.0 + (self.center * self.scale).square()).sqrt()

    @property
    def num_held(self) -> int:
        """Number of directions that are left out of f-space although they vary."""
        return 0 if self.held is None else self.held.shape[1]

    def with_held(self) -> Design:
        """The same rows with those directions in f-space."""
        if self.rotation is None or self.held is None:
            return self
        return replace(self, rotation=torch.cat([self.rotation, self.held], dim=1), held=None)

    def held_rounding(self) -> Float[Tensor, " Q"]:
        """How much of the unit spread of each of these directions can be rounding: two units in the last
        place."""
        held = self.center.new_zeros((self.center.shape[0], 0)) if self.held is None else self.held
        noise: Tensor = 2.0 * torch.finfo(torch.float64).eps * (held * self.uncentred[:, None]).norm(dim=0)
        return noise

    def held_columns(self) -> list[int]:
        """The original columns that contribute most to each of these directions, at most three for each."""
        found: set[int] = set()
        for direction in () if self.held is None else self.held.T:
            part = (direction * self.uncentred).abs()
            largest = part.argsort(descending=True, stable=True)[:3]
            found |= {int(column) for column in largest if part[column] >= 0.3 * part[largest[0]]}
        return sorted(found)

    def offset_columns(self) -> list[int]:
        """The columns as given that vary by less than a millionth of their mean."""
        return (self.center.abs() * self.scale > OFFSET).nonzero()[:, 0].tolist()

    def sizes(self) -> Float[Tensor, " D"]:
        """Root mean square of the columns as given; 0 for constants, whose coefficient is 0."""
        return torch.where(self.scale > 0.0, self.uncentred / self.scale, 0.0)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.features.shape[0]

    @property
    def num_columns(self) -> int:
        """Number of columns in f-space."""
        return self.features.shape[1] if self.rotation is None else self.rotation.shape[1]

    def _standardise(self, rows: Tensor) -> Tensor:
        return rows.to(torch.float64, copy=True).sub_(self.center).mul_(self.scale)

    def blocks(self) -> Iterator[tuple[slice, Float[Tensor, "n D"]]]:
        """All rows, standardised but not rotated, in order, one block at a time."""
        for part in row_parts(self.num_rows, block_rows(self.features.shape[1], self.features.device)):
            yield part, self._standardise(self.features[part])

    def subset(self, rows: Int[Tensor, " n"]) -> Design:
        """Some rows, in the same scale."""
        return replace(self, features=self.features[rows])

    def take(self, rows: Int[Tensor, " n"], columns: Int[Tensor, " m"] | None = None) -> Float[Tensor, "n m"]:
        """Some rows, and some columns, in f-space."""
        if self.rotation is not None:
            rotation = self.rotation if columns is None else self.rotation[:, columns]
            return self._standardise(self.features[rows]) @ rotation
        if columns is None:
            return self._standardise(self.features[rows])
        chosen = self.features[rows[:, None], columns].double()
        return chosen.sub_(self.center[columns]).mul_(self.scale[columns])

    def single(self) -> Float[Tensor, "N P"]:
        """All rows in f-space, float32."""
        out = self.features.new_empty((self.num_rows, self.num_columns), dtype=torch.float32)
        for part, block in self.blocks():
            out[part] = block if self.rotation is None else block @ self.rotation
        return out

    def to_standardised(self, coef: Float[Tensor, "M P"]) -> Float[Tensor, "M D"]:
        """Coefficients of f-space as coefficients of z."""
        return coef if self.rotation is None else coef @ self.rotation.T

    def rotate_sums(self, sums: Float[Tensor, "M D"]) -> Float[Tensor, "M P"]:
        """Sums over rows of something times z, as sums of something times f."""
        return sums if self.rotation is None else sums @ self.rotation

    def to_given(
        self, coef: Float[Tensor, "M P"], intercept: Float[Tensor, " M"]
    ) -> tuple[Float[Tensor, "M D"], Float[Tensor, " M"]]:
        """A fit in f-space as the same fit of the features as given."""
        given = self.to_standardised(coef) * self.scale
        return given, intercept - given @ self.center

    def from_given(
        self, coef: Float[Tensor, "M D"], intercept: Float[Tensor, " M"]
    ) -> tuple[Float[Tensor, "M P"], Float[Tensor, " M"]]:
        """The reverse of `to_given`; parts along constant columns and directions are lost."""
        standardised = torch.where(self.scale > 0.0, coef / self.scale, 0.0)
        if self.rotation is not None:
            # In columns of unit size before centring, the columns of a whitening rotation are orthogonal.
            axes = self.uncentred[:, None] * self.rotation
            standardised = ((standardised * self.uncentred) @ axes) / axes.square().sum(0)
        return standardised, intercept + coef @ self.center


def row_parts(num_rows: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows."""
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))


def build_design(features: Float[Tensor, "N D"], centered: bool, whiten: bool) -> Design:
    """Measures centre and scale in float64 and, with `whiten`, the directions that are not constant.

    Args:
        features: [N, D], finite.
        centered: subtract the column means; valid only if the fit has an intercept.
        whiten: rotate to uncorrelated columns and hold out faint directions. An L1 norm is not invariant to
            this.
    """
    num_rows, num_columns = features.shape
    center = features.new_zeros(num_columns, dtype=torch.float64)
    parts = list(row_parts(num_rows, block_rows(num_columns, features.device)))
    if centered:
        for part in parts:
            center += features[part].sum(0, dtype=torch.float64)
        center /= num_rows
    power, off = torch.zeros_like(center), torch.zeros_like(center)
    for part in parts:
        rows = features[part].to(torch.float64, copy=True).sub_(center)
        off += rows.sum(0)
        power += rows.square_().sum(0)
    if centered:
        # The mean of many large numbers is rounded more than they are; its rounding is not spread.
        center = center + off / num_rows
        power = (power - off.square() / num_rows).clamp_min(0.0)
    size = (power / num_rows).sqrt()
    constant = size <= ROUNDING_SHARE * torch.maximum(center.abs(), size)
    scale = torch.where(constant, 0.0, 1.0 / torch.where(constant, 1.0, size))
    design = Design(features, center, scale, None)
    if not whiten:
        return design
    rotation, held = _whitening(design)
    return replace(design, rotation=rotation, held=held)


def _moments(design: Design, left: Float[Tensor, "D P"], right: Float[Tensor, "D Q"]) -> Float[Tensor, "P Q"]:
    """Second moments: the mean over the rows of the projections on `left` times those on `right`."""
    total = design.center.new_zeros((left.shape[1], right.shape[1]))
    for _, block in design.blocks():
        total.addmm_((block @ left).T, block @ right)
    return total / design.num_rows


def _whitening(design: Design) -> tuple[Float[Tensor, "D P"], Float[Tensor, "D Q"]]:
    """Directions with unit second moment: those used in the fit, and the faint ones that are left out.

    They are the principal axes of columns that would have unit size if they had not been centred, so that a
    faint direction is separated from all others. Its spread is then the share that remains of the numbers
    that cancel in it: below `NULL_SHARE` float64 predictions lose more than the direction can add, and below
    `ROUNDING_SHARE` rounding alone could have produced it and there is no direction.

    A Gram matrix squares the condition number, so directions below 1e-5 of the largest are noise in it. They
    are measured again among themselves, from the rows, until none is hidden by another. Before that, what
    they contain of the directions found is taken out: an eigenvector is rounded by a share of the largest
    moment over that of the other, so that a copy of a column would seem to vary by what it contains of the
    faintest one.
    """
    axes = torch.diag(1.0 / design.uncentred)
    found, spreads, rounding = [], [], 0.0
    while axes.shape[1]:
        moments, mixing = torch.linalg.eigh(_moments(design, axes, axes))
        axes, spread = axes @ mixing, moments.clamp_min(0.0).sqrt()
        rounding = rounding or ROUNDING_SHARE * (1.0 + float(spread[-1]))
        if float(spread[-1]) <= rounding:
            break  # these and all fainter ones
        clear = (moments > CLEAR * moments[-1]) & (spread > rounding)
        found.append(axes[:, clear])
        spreads.append(spread[clear])
        axes = axes[:, ~clear]
        if axes.shape[1]:
            known = found[-1] / spreads[-1]
            axes = axes - known @ _moments(design, known, axes)
    if not found:
        return axes[:, :0], axes[:, :0]
    axes, spread = torch.cat(found, dim=1), torch.cat(spreads)
    seen = spread > NULL_SHARE
    return axes[:, seen] / spread[seen], axes[:, ~seen] / spread[~seen]
