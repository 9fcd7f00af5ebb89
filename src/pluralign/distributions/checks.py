"""Argument checks of the distributions: what users hand in becomes a float tensor of a known shape, or an
error.

Shapes and dtypes are checked always (they cost nothing); values only where the caller asks, because reading
them makes the host wait for an accelerator. Knows nothing about any particular distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pluralign.checks import as_finite, is_whole
from pluralign.errors import ArgumentError

__all__ = ["as_float", "as_number", "check_draws", "check_fraction", "check_shape", "require"]

TensorLike = Tensor | float | Sequence[Any]


def as_float(value: TensorLike, name: str, like: Tensor | None = None) -> Tensor:
    """Return `value` as a floating point tensor; half precision is widened to float32.

    Args:
        value: tensor, number, array or nested sequence of numbers.
        name: what the error message calls it.
        like: where given, its dtype and device are taken.

    Raises:
        ArgumentError: if it is not real numbers.
    """
    try:
        if like is not None and isinstance(value, int | float) and not isinstance(value, bool):
            return torch.full((), value, dtype=like.dtype, device=like.device)  # which waits for no copy
        # Python numbers go to their dtype directly: a detour by float32 would cost a float64 distribution
        # its digits.
        dtype = None if like is None else like.dtype
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=dtype)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ArgumentError(f"{name} must be a tensor of numbers, received {type(value).__name__}") from error
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ArgumentError(f"{name} must hold real numbers, received dtype {tensor.dtype}")
    if like is not None:
        return tensor.to(device=like.device, dtype=like.dtype)
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.get_default_dtype())


def as_number(value: float, name: str) -> float:
    """Return `value`, a real number or a tensor of one element, as a finite float."""
    number = as_finite(value)
    if math.isnan(number):
        raise ArgumentError(f"{name} must be a finite number, received {value!r}")
    return number


def check_draws(n: Any, generator: Any) -> None:
    """Raise unless `n` rewards can be drawn from `generator`."""
    if not is_whole(n, 0):
        raise ArgumentError(f"the number of draws must be a whole number of at least 0, received {n!r}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ArgumentError(f"generator must be a torch.Generator, received {type(generator).__name__}")


def check_shape(tensor: Tensor, name: str, *allowed: tuple[int | str, ...]) -> None:
    """Raise unless the shape is one of those allowed; a string is any size of at least 1, "B" also 0."""
    for shape in allowed:
        if tensor.ndim == len(shape) and all(
            size == want if isinstance(want, int) else size >= (want != "B")
            for size, want in zip(tensor.shape, shape, strict=True)
        ):
            return
    wanted = " or ".join("[" + ", ".join(str(size) for size in shape) + "]" for shape in allowed)
    raise ArgumentError(f"{name} must have shape {wanted}, received {list(tensor.shape)}")


def require(condition: Tensor, message: str) -> None:
    """Raise `message` unless every element of `condition` is true (waits for the device)."""
    if not bool(condition.all()):
        raise ArgumentError(message)


def check_fraction(value: float, name: str, *, zero: bool, one: bool) -> float:
    """Return `value` as a float if it lies in the unit interval, whose ends count if `zero`, `one` say so."""
    number = as_finite(value)
    if (0.0 < number < 1.0) or (zero and number == 0.0) or (one and number == 1.0):
        return number
    interval = ("[" if zero else "(") + "0, 1" + ("]" if one else ")")
    raise ArgumentError(f"{name} must lie in {interval}, received {value!r}")
