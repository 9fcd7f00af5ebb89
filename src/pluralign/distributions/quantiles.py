"""`Quantiles`: a distribution given by some of its quantiles; the prediction of quantile regression (QRM).

It means the same everywhere in the package: an atom of mass t_1 at q_1, an atom of mass 1 - t_K at q_K, and a
quantile function that is linear between the levels. Nothing is extrapolated beyond the outer levels, so tails
are flat: tail measures below t_1 see only q_1, and a warning says so.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import ClassVar, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions.checks import TensorLike, as_float, check_shape, require
from pluralign.distributions.piecewise import PiecewiseLinear, Segments
from pluralign.errors import TailWarning

__all__ = ["Quantiles"]


@final
class Quantiles(PiecewiseLinear):
    """The distribution with quantile `values` at `levels`.

    Its mean is `sum m_k q_k` with m_k = b_k - b_(k-1), b_0 = 0, b_k = (t_k + t_(k+1)) / 2, b_K = 1.
    Crossing values are rearranged (sorted, Chernozhukov et al. 2010) and `crossing_rate` records how many
    crossed.

    Args:
        values: [B, K].
        levels: [K], strictly increasing in (0, 1); a tensor or a sequence of floats.
        validate: check the values of both.

    Attributes:
        values: [B, K], ascending.
        levels: [K].
        crossing_rate: [B], share of the K - 1 neighbouring pairs with values[k + 1] < values[k] before
            sorting; 0 if K = 1.

    Warns:
        TailWarning: by `cvar`, for a fraction that is not above the lowest level; the result is the lowest
            quantile. Omitted if levels were passed as a tensor with `validate=False`, since reading them
            waits for the device.

    Raises:
        ArgumentError: if shapes do not fit or, when validating, values are not finite or levels are not
            strictly increasing in (0, 1).

    Reference: Dorka 2024 (arXiv 2409.10164) for the model; the distribution at and beyond the outer levels is
        ours.

    >>> Quantiles([[0.0, 1.0]], [0.25, 0.75]).mean()
    tensor([0.5000])
    """

    _batched: ClassVar[tuple[str, ...]] = ("values", "crossing_rate")
    _shared: ClassVar[tuple[str, ...]] = ("levels",)
    _derived: ClassVar[tuple[str, ...]] = ("crossing_rate",)

    def __init__(
        self, values: TensorLike, levels: Tensor | Sequence[float], *, validate: bool = True
    ) -> None:
        given = as_float(values, "values")
        self.levels: Tensor = as_float(levels, "levels", like=given)
        self._validate = validate
        check_shape(self.levels, "levels", ("K",))
        if given.ndim != 2 or given.shape[-1] != self.levels.shape[0]:
            check_shape(given, "values", ("B", self.levels.shape[0]))
        if validate:
            require(given.isfinite(), "values must be finite")
            require((self.levels > 0) & (self.levels < 1), "levels must lie in (0, 1)")
            require(self.levels.diff() > 0, "levels must be strictly increasing")
        # Known on the host only if reading it does not make the host wait for the device.
        self._lowest_level = float(levels[0]) if validate or not isinstance(levels, Tensor) else None
        pairs = max(given.shape[-1] - 1, 1)
        self.crossing_rate: Tensor = (given.detach().diff(dim=-1) < 0).sum(-1).to(given.dtype) / pairs
        self.values: Tensor = given.sort(-1).values

    def plain_average(self) -> Float[Tensor, " B"]:
        """Plain average of the quantile values, [B]: the score published with QRM.

        It equals the mean only on midpoint levels (2k - 1) / 2K; on k / (K + 1) the two end levels should
        have 1.5 times the weight.
        """
        return self.values.mean(-1)

    @property
    def tail_masses(self) -> tuple[float, float]:
        """t_1 and 1 - t_K."""
        return float(self.levels[0]), 1 - float(self.levels[-1])

    def scale_shift(self, scale: TensorLike, shift: TensorLike) -> Self:
        """The distribution of `scale * R + shift`, scale > 0; both [] or [B]."""
        scales, shifts = (part.unsqueeze(-1) for part in self._affine(scale, shift))
        new = copy.copy(self)
        new.values = scales * self.values + shifts
        return new

    def transformed(self, increasing: Callable[[Tensor], Tensor]) -> Quantiles:
        """The distribution with the mapped quantiles: exact at the levels, linear between them."""
        return Quantiles(increasing(self.values), self.levels)

    def _cvar(self, fraction: float) -> Tensor:
        lowest = self._lowest_level
        # The slack is for levels that were rounded to float32.
        if lowest is not None and fraction <= lowest * (1 + 1e-6) and not torch.compiler.is_compiling():
            warnings.warn(
                f"cvar:{fraction:g} refers to the tail at or below the lowest level {lowest:g}, where "
                "nothing is known: it is the lowest quantile. Fit lower levels or use a larger fraction.",
                TailWarning,
                stacklevel=3,
            )
        return super()._cvar(fraction)

    def _segments(self) -> Segments:
        ends = torch.nn.functional.pad(self.values.unsqueeze(1), (1, 1), mode="replicate").squeeze(1)
        cum = torch.nn.functional.pad(self.levels, (0, 1), value=1.0)
        return Segments(ends[:, :-1], ends[:, 1:], cum.expand(len(self), -1))
