"""`Point`: all probability on one reward; the prediction of a Bradley-Terry or regression model."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions.checks import TensorLike, as_float, check_shape, require
from pluralign.distributions.piecewise import PiecewiseLinear, Segments

__all__ = ["Point"]


@final
class Point(PiecewiseLinear):
    """The distribution of a reward that is known exactly.

    Args:
        values: the rewards, [B].
        validate: check that they are finite.

    Raises:
        ArgumentError: if the shape is not [B] or, when validating, a value is not finite.

    >>> Point([1.0, 2.0]).cdf(1.5)
    tensor([1., 0.])
    """

    _batched: ClassVar[tuple[str, ...]] = ("values",)
    is_point: ClassVar[bool] = True

    def __init__(self, values: TensorLike, *, validate: bool = True) -> None:
        self.values: Tensor = as_float(values, "values")
        self._validate = validate
        if self.values.ndim != 1:
            check_shape(self.values, "values", ("B",))
        if validate:
            require(self.values.isfinite(), "values must be finite")

    def scale_shift(self, scale: TensorLike, shift: TensorLike) -> Self:
        """The distribution of `scale * R + shift`, scale > 0; both [] or [B]."""
        scales, shifts = self._affine(scale, shift)
        return self._replace(lambda values: scales * values + shifts)

    def point_masses(self) -> tuple[Float[Tensor, "B 1"], Float[Tensor, "B 1"]]:
        """The reward, with probability 1."""
        return self.values.unsqueeze(1), torch.ones_like(self.values).unsqueeze(1)

    def transformed(self, increasing: Callable[[Tensor], Tensor]) -> Point:
        """The distribution of an increasing function of R, exact."""
        return Point(increasing(self.values))

    def _segments(self) -> Segments:
        values = self.values.unsqueeze(-1)
        return Segments(values, values, torch.ones_like(values))
