"""Rows of a batch by index: integers, slices, lists, tensors and masks."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from pluralign.distributions.checks import check_shape
from pluralign.errors import ArgumentError, RowError

__all__ = ["rows_of"]


def rows_of(index: Any, count: int, device: torch.device, *, validate: bool) -> slice | Tensor:
    """What an index names, so that every tensor of a batch keeps its first dimension.

    Args:
        index: an integer, a slice, a list or 1-D tensor of integers, or a bool mask.
        count: B, rows of the batch.
        device: of the batch.
        validate: whether indices in tensors are read and checked.

    Returns:
        A slice, of one row for an integer; or indices or a mask, 1-D on the device.

    Raises:
        RowError: there is no such row.
        ArgumentError: the index is none of these, or a mask is of another length than the batch.
    """
    if isinstance(index, slice):
        return index
    allowed = "an integer, a slice, a list or 1-D tensor of integers, or a bool mask"
    if index is None or isinstance(index, str | tuple | float | bool):
        raise ArgumentError(f"a batch is indexed by {allowed}; received {type(index).__name__}")
    if isinstance(index, Integral):
        row = int(index)
        if not -count <= row < count:
            raise RowError(f"row {row} of a batch of {count}")
        return slice(row, row + 1 if row != -1 else None)
    try:
        rows = torch.as_tensor(index, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"a batch is indexed by {allowed}; received {type(index).__name__}") from error
    rows = rows.long() if rows.numel() == 0 and rows.is_floating_point() else rows  # [] is float
    rows = rows.reshape(1) if rows.ndim == 0 and rows.dtype != torch.bool else rows  # such as an argmax
    if rows.ndim != 1 or rows.is_floating_point() or rows.is_complex():
        raise ArgumentError(
            f"a batch is indexed by {allowed}; received {rows.dtype} of shape {list(rows.shape)}"
        )
    if rows.dtype == torch.bool:
        check_shape(rows, "the mask", (count,))
        return rows
    rows = rows.long()
    if validate and not bool(((rows >= -count) & (rows < count)).all()):
        raise RowError(f"rows {rows.tolist()[:8]} of a batch of {count}")
    return rows
