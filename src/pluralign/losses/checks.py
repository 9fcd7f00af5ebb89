"""Argument checks of the losses: tensors, and values that a loss has a number for.

Values are read only where that does not make the host wait: on the CPU, and not while a graph is compiled.
On an accelerator an illegal value gives NaN, as in torch's own losses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ArgumentError

__all__ = ["require", "require_probs", "require_tensors"]

# Probabilities may sum to 1 up to the rounding of bfloat16.
_SUM_TOLERANCE = 1e-2


def require_tensors(name: str, **arguments: Any) -> None:
    """Raise unless every argument of the loss `name` is a tensor."""
    for argument, value in arguments.items():
        if not isinstance(value, Tensor):
            raise ArgumentError(f"{name}: {argument} must be a tensor, received {type(value).__name__}")


def require(condition: Tensor, message: str) -> None:
    """Raise `message` unless every element of `condition` is true, where that can be seen without waiting."""
    if condition.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(condition.all()):
        raise ArgumentError(message)


def require_probs(name: str, *arguments: Tensor) -> None:
    """Raise unless all are probabilities of one shape [B, C]; their values only as `require` reads them."""
    shapes = [list(probs.shape) for probs in arguments]
    if len(shapes[0]) != 2 or shapes[0][1] == 0 or any(shape != shapes[0] for shape in shapes):
        raise ArgumentError(f"{name} needs probs and target of one shape [B, C], received {shapes}")
    for probs in arguments:
        require(probs.detach().amin(-1) >= 0, f"{name}: probabilities must not be negative or NaN")
        total = probs.detach().sum(-1)
        require((total - 1).abs() <= _SUM_TOLERANCE, f"{name}: each row of probabilities must sum to 1")
