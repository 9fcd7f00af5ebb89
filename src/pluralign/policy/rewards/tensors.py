"""A caller's rewards and masks as checked tensors, and their common precision.

In: tensors, arrays, lists. Out: float64 and bool tensors, or an error that names the argument.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Real
from numpy.typing import NDArray
from torch import Tensor

from pluralign.errors import ArgumentError

__all__ = [
    "Flags",
    "Mask",
    "ReferenceRewards",
    "Rewards",
    "as_flags",
    "as_mask",
    "as_rewards",
    "comparable",
    "floating_dtypes",
    "widest_dtype",
]

# What a caller may give.
Rewards = Real[Tensor, " B"] | Real[NDArray[Any], " B"] | Sequence[float]
ReferenceRewards = Real[Tensor, "B N"] | Real[NDArray[Any], "B N"] | Sequence[Sequence[float]]
Mask = Bool[Tensor, "B N"] | Bool[NDArray[Any], "B N"] | Sequence[Sequence[bool]]
Flags = bool | Bool[Tensor, " B"] | Bool[NDArray[Any], " B"] | Sequence[bool]


def as_rewards(
    name: str, value: Any, ndim: int, *, like: Tensor | None = None, keep_mask: Mask | None = None
) -> Tensor:
    """The value as a float64 tensor with this number of dimensions, finite where it is not masked."""
    try:
        tensor = torch.as_tensor(
            value, dtype=torch.float64, device=None if like is None else like.device
        ).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"{name}: received {type(value).__name__}, not a tensor: {error}") from error
    if tensor.ndim != ndim or (ndim == 2 and tensor.shape[-1] == 0):
        wanted = "[B]" if ndim == 1 else "[B, N] with N > 0"
        raise ArgumentError(f"{name} must have shape {wanted}, received {list(tensor.shape)}")
    finite = tensor.isfinite()
    if keep_mask is not None:
        finite = finite | ~as_mask(keep_mask, tensor)
    if not bool(finite.all()):
        place = (~finite).nonzero()[0].tolist()
        found = float(tensor[tuple(place)])
        raise ArgumentError(
            f"{name}{place}: received {found}; allowed: finite numbers. Leave out responses without a reward"
        )
    return tensor


def floating_dtypes(*given: Any) -> list[torch.dtype]:
    """Floating dtypes of the given tensors and arrays."""
    found = [torch.as_tensor(value).dtype for value in given if hasattr(value, "dtype")]
    return [dtype for dtype in found if dtype.is_floating_point]


def widest_dtype(*given: Any) -> torch.dtype:
    """The widest of the given floating dtypes, at least float32; float64 if there are none."""
    floating = floating_dtypes(*given)
    return functools.reduce(torch.promote_types, floating, torch.float32) if floating else torch.float64


def comparable(reward: Tensor, references: Tensor, dtypes: Sequence[torch.dtype]) -> tuple[Tensor, Tensor]:
    """Both rounded to the coarsest of the dtypes, as float64."""
    coarsest = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float64)
    return reward.to(coarsest).double(), references.to(coarsest).double()


def as_mask(keep_mask: Mask | None, references: Tensor) -> Tensor:
    """The mask, bool in the shape of the references; all true if there is none."""
    if keep_mask is None:
        return torch.ones_like(references, dtype=torch.bool)
    mask = as_flags("keep_mask", keep_mask, references.device)
    if mask.dtype != torch.bool or mask.shape != references.shape:
        raise ArgumentError(
            f"keep_mask must be bool of shape {list(references.shape)}, "
            f"received {mask.dtype} {list(mask.shape)}"
        )
    return mask


def as_flags(name: str, value: Any, device: torch.device) -> Tensor:
    """The value as a tensor."""
    try:
        return torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"{name} must be bool, received {value!r}") from error
