"""The widest numbers of a device: float64, but where a device has none (Apple's GPUs), float32.

In: a tensor or a device. Out: a tensor or a dtype. It lies below all parts; sums and differences of large
numbers are made this wide, and results are rounded back.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["wide_dtype", "widened"]

_WITHOUT_FLOAT64 = {"mps"}  # kinds of devices


def wide_dtype(device: torch.device | str) -> torch.dtype:
    """float64 where the device has it, else float32."""
    return torch.float32 if torch.device(device).type in _WITHOUT_FLOAT64 else torch.float64


def widened(tensor: Tensor) -> Tensor:
    """The tensor in the widest numbers of its device."""
    return tensor.to(wide_dtype(tensor.device))
