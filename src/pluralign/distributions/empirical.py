"""`Empirical`: equal probability on each observed reward: raters, reference completions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import ClassVar, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions.checks import TensorLike, as_float, check_shape, require
from pluralign.distributions.piecewise import PiecewiseLinear, Segments
from pluralign.errors import ArgumentError

__all__ = ["Empirical"]


@final
class Empirical(PiecewiseLinear):
    """The distribution that puts equal mass on every kept sample of its row.

    Args:
        samples: [B, N]; masked samples are ignored and may be NaN.
        keep_mask: bool [B, N], true for samples that count; None keeps all.
        validate: check that kept samples are finite and that every row keeps one.

    Attributes:
        samples: [B, N], ascending; positions after the kept samples repeat the largest one.
        keep_mask: [B, N], true on the kept samples, which come first.

    Raises:
        ArgumentError: if shapes do not fit or, when validating, a kept sample is not finite or a row is
            empty.

    >>> Empirical([[3.0, 1.0, 2.0, 7.0]]).quantile(0.5)
    tensor([2.])
    """

    _batched: ClassVar[tuple[str, ...]] = ("samples", "keep_mask")

    def __init__(
        self, samples: TensorLike, keep_mask: Tensor | None = None, *, validate: bool = True
    ) -> None:
        given = as_float(samples, "samples")
        if given.ndim != 2 or given.shape[-1] == 0:
            check_shape(given, "samples", ("B", "N"))
        keep = torch.ones_like(given, dtype=torch.bool) if keep_mask is None else torch.as_tensor(keep_mask)
        if keep.dtype != torch.bool or keep.shape != given.shape:
            raise ArgumentError(
                f"keep_mask must be bool of shape {list(given.shape)}, "
                f"received {keep.dtype} {list(keep.shape)}"
            )
        keep = keep.to(given.device)
        self._validate = validate
        if validate:
            require(keep.any(-1), "keep_mask must keep at least one sample in every row")
            require(given.isfinite() | ~keep, "samples must be finite; mask missing ones with keep_mask")
        largest = given.masked_fill(~keep, -torch.inf).amax(-1, keepdim=True)
        self.samples: Tensor = torch.where(keep, given, largest).sort(-1).values
        count = keep.sum(-1, keepdim=True)
        self.keep_mask: Tensor = torch.arange(given.shape[-1], device=given.device) < count

    def scale_shift(self, scale: TensorLike, shift: TensorLike) -> Self:
        """The distribution of `scale * R + shift`, scale > 0; both [] or [B]."""
        scales, shifts = (part.unsqueeze(-1) for part in self._affine(scale, shift))
        new = copy.copy(self)
        new.samples = scales * self.samples + shifts
        return new

    def point_masses(self) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]]:
        """Samples and their probabilities, 0 for those not kept."""
        keep = self.keep_mask.to(self.dtype)
        return self.samples, keep / keep.sum(1, keepdim=True)

    def transformed(self, increasing: Callable[[Tensor], Tensor]) -> Empirical:
        """The distribution of an increasing function of R, exact."""
        return Empirical(increasing(self.samples), self.keep_mask)

    def _segments(self) -> Segments:
        # Ranks are divided, not summed, so that rank k of n is exactly the float k / n that a user writes.
        rank = self.keep_mask.cumsum(-1).to(self.dtype)
        return Segments(self.samples, self.samples, rank / rank[:, -1:])
