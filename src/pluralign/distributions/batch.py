"""`Batch`: rows of named tensors that are indexed, moved and printed together. Subclasses say what the rows
mean; the only one is `RewardDistribution`.

Notation: B the number of rows, the first dimension of every tensor named in `_batched`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from pluralign.distributions.checks import place_of
from pluralign.distributions.indexing import rows_of

__all__ = ["Batch"]


class Batch:
    """B rows of named tensors.

    Instances are immutable: methods return new ones.
    """

    # Names of the attributes with a leading batch dimension, and of those shared by all rows.
    _batched: ClassVar[tuple[str, ...]]
    _shared: ClassVar[tuple[str, ...]] = ()
    # If False, no method reads a tensor's values on the host, so none waits for the accelerator.
    _validate: bool

    @property
    def batch_shape(self) -> torch.Size:
        """`torch.Size([B])`."""
        return self._first.shape[:1]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the tensors and of every result."""
        return self._first.dtype

    @property
    def device(self) -> torch.device:
        """The device of the tensors and of every result."""
        return self._first.device

    def __len__(self) -> int:
        return self._first.shape[0]

    def __getitem__(self, index: int | slice | Tensor | Sequence[int] | Sequence[bool]) -> Self:
        """Rows by slice, 1-D indices or mask; an integer gives a batch of one row.

        Raises:
            RowError: there is no such row.
            ArgumentError: the index has another type, or a mask does not have the length of the batch.
        """
        rows = rows_of(index, len(self), self.device, validate=self._validate)
        return self._replace(lambda tensor: tensor[rows])

    def to(
        self, device: torch.device | str | torch.dtype | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """The same on another device or in another floating point dtype (float32 or float64)."""
        place, kind = place_of(device, dtype)

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device=place, dtype=kind if tensor.is_floating_point() else None)

        return self._replace(move, shared=True)

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{name}={list(getattr(self, name).shape)}" for name in self._batched + self._shared
        )
        return f"{type(self).__name__}({sizes}, dtype={self.dtype}, device={self.device})"

    @property
    def _first(self) -> Tensor:
        tensor: Tensor = getattr(self, self._batched[0])
        return tensor

    def _replace(self, change: Callable[[Tensor], Tensor], *, shared: bool = False) -> Self:
        """A copy with `change` applied to every batched tensor and, with `shared`, to the shared ones."""
        new = copy.copy(self)
        for name in self._batched + (self._shared if shared else ()):
            setattr(new, name, change(getattr(self, name)))
        return new
