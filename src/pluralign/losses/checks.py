"""Argument checks of the losses: types, and values for which a loss is defined.

Values are read only if that does not make the host wait: on the CPU, and not while a graph is compiled.
On an accelerator an invalid value gives NaN, as in torch's own losses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pluralign.checks import as_finite
from pluralign.errors import ArgumentError

__all__ = ["require", "require_number", "require_probs", "require_real", "require_tensors"]

# Probabilities must sum to 1 up to bfloat16 rounding.
_SUM_TOLERANCE = 1e-2


def require_tensors(name: str, **arguments: Any) -> None:
    """Raises unless every argument of the loss `name` is a tensor."""
    for argument, value in arguments.items():
        if not isinstance(value, Tensor):
            raise ArgumentError(f"{name}: {argument} must be a tensor, received {type(value).__name__}")


def require_real(name: str, **arguments: Tensor) -> None:
    """Raises if an argument of the loss `name` holds complex numbers, which have no order."""
    for argument, value in arguments.items():
        if value.is_complex():
            raise ArgumentError(f"{name}: {argument} must hold real numbers, received {value.dtype}")


def require_number(name: str, value: Any) -> None:
    """Raises unless an option is a finite number of at least 0."""
    if not as_finite(value) >= 0:
        raise ArgumentError(f"{name} must be a finite number of at least 0, received {value!r}")


def require(condition: Tensor, message: str) -> None:
    """Raises `message` unless every element of `condition` is true, if it can be read without waiting."""
    if _readable(condition) and not bool(condition.all()):
        raise ArgumentError(message)


def _readable(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def require_probs(name: str, *arguments: Tensor, values: bool = True) -> None:
    """Raises unless all are probabilities of the same shape [B, C].

    Args:
        name: name of the loss.
        arguments: predicted probabilities, then the target.
        values: also check the values, as far as `require` does.
    """
    shapes = [tuple(probs.shape) for probs in arguments]
    if len(shapes[0]) != 2 or shapes[0][1] == 0 or any(shape != shapes[0] for shape in shapes):
        found = ", ".join(str(list(shape)) for shape in shapes)
        raise ArgumentError(f"{name} needs probs and target of one shape [B, C], received {found}")
    if not values or shapes[0][0] == 0 or not _readable(arguments[0]):
        return
    for probs in arguments:
        read = probs.detach().to(torch.promote_types(probs.dtype, torch.float32))
        # Whole-tensor reductions and a product: along rows this short, torch's own sums are slow.
        if not float(read.min()) >= 0:
            raise ArgumentError(f"{name}: probabilities must not be negative or NaN")
        total = read @ read.new_ones(shapes[0][1])
        if not float((total - 1).abs().max()) <= _SUM_TOLERANCE:
            raise ArgumentError(f"{name}: each row of probabilities must sum to 1")
