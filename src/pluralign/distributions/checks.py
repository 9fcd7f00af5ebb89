"""Argument checks of the distributions: converts arguments to float tensors of a known shape, or raises an
error.

Shapes and dtypes are always checked (this costs nothing); values only if the caller asks for it, because
reading them makes the host wait for an accelerator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pluralign.checks import as_finite, is_whole
from pluralign.errors import ArgumentError
from pluralign.precision import wide_dtype

__all__ = ["as_float", "as_number", "check_draws", "check_fraction", "check_shape", "place_of", "require"]

TensorLike = Tensor | float | Sequence[Any]


def as_float(value: TensorLike, name: str, like: Tensor | None = None) -> Tensor:
    """Returns `value` as a floating-point tensor; half precision is converted to float32.

    Args:
        value: tensor, number, array or nested sequence of numbers.
        name: its name in error messages.
        like: if given, the result has its dtype and device.

    Raises:
        ArgumentError: if it does not consist of real numbers.
    """
    try:
        if like is not None and isinstance(value, int | float) and not isinstance(value, bool):
            # Without waiting for a copy; what is too large for the dtype becomes infinite.
            wide = wide_dtype(like.device)
            return torch.full((), value, dtype=wide, device=like.device).to(like.dtype)
        # A Python number is converted directly: going through float32 would cost a float64 distribution
        # digits.
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
    """Returns `value`, a real number or a tensor with one element, as a finite float."""
    number = as_finite(value)
    if math.isnan(number):
        raise ArgumentError(f"{name} must be a finite number, received {value!r}")
    return number


def check_draws(n: Any, generator: Any) -> None:
    """Raises unless `n` rewards can be drawn from `generator`."""
    if not is_whole(n, 0):
        raise ArgumentError(f"the number of draws must be a whole number of at least 0, received {n!r}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ArgumentError(f"generator must be a torch.Generator, received {type(generator).__name__}")


def check_shape(tensor: Tensor, name: str, *allowed: tuple[int | str, ...]) -> None:
    """Raises unless the shape is one of `allowed`; a string means any size of at least 1, "B" also 0."""
    for shape in allowed:
        if tensor.ndim == len(shape) and all(
            size == want if isinstance(want, int) else size >= (want != "B")
            for size, want in zip(tensor.shape, shape, strict=True)
        ):
            return
    wanted = " or ".join("[" + ", ".join(str(size) for size in shape) + "]" for shape in allowed)
    raise ArgumentError(f"{name} must have shape {wanted}, received {list(tensor.shape)}")


def require(condition: Tensor, message: str) -> None:
    """Raises `message` unless every element of `condition` is true (waits for the device)."""
    if not bool(condition.all()):
        raise ArgumentError(message)


def check_fraction(value: float, name: str, *, zero: bool, one: bool) -> float:
    """Returns `value` as a float if it lies in the unit interval, including 0 if `zero` and 1 if `one`."""
    number = as_finite(value)
    if (0.0 < number < 1.0) or (zero and number == 0.0) or (one and number == 1.0):
        return number
    interval = ("[" if zero else "(") + "0, 1" + ("]" if one else ")")
    raise ArgumentError(f"{name} must lie in {interval}, received {value!r}")


def place_of(
    device: torch.device | str | torch.dtype | None, dtype: torch.dtype | None
) -> tuple[torch.device | None, torch.dtype | None]:
    """Device and dtype as `to` takes them, where a dtype may come first; None leaves one as it is.

    Raises:
        ArgumentError: an unknown device, or a dtype in which distributions do not compute.
    """
    if isinstance(device, torch.dtype):
        device, dtype = None, device
    if isinstance(device, str):
        try:
            device = torch.device(device)
        except RuntimeError as error:
            raise ArgumentError(f"unknown device {device!r}") from error
    if dtype is not None and dtype not in (torch.float32, torch.float64):
        raise ArgumentError(f"distributions compute in float32 or float64, received {dtype}")
    return device, dtype
