"""The digest of a model's weights: equal if all weights are equal, on every device.

In: a module. Out: text.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

__all__ = ["model_digest"]

_WORDS = 2**22  # 64-bit words of a weight at a time


@torch.no_grad()
def model_digest(model: Any) -> str:
    """SHA-256 over names, shapes, dtypes and exact checksums of all weights.

    The checksums are integer sums of the weights' bits, plain and weighted by position, modulo 2^64: equal on
    every device, and much faster than hashing all weights, which may be 16 GB on a GPU.

    Args:
        model: a module.

    Returns:
        64 hexadecimal digits; "" in a process without weights (in sharded loading, another process has them).
    """
    if any(tensor.is_meta for tensor in model.state_dict().values()):
        return ""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        whole = len(raw) - len(raw) % 8
        words = raw[:whole].clone() if raw.storage_offset() % 8 else raw[:whole]
        plain, weighted = _checksums(words.view(torch.int64))
        rest = bytes(raw[whole:].tolist()).hex()
        line = f"{name} {tuple(tensor.shape)} {tensor.dtype} {plain} {weighted} {rest}\n"
        total.update(line.encode())
    return total.hexdigest()


def _checksums(words: Tensor) -> tuple[int, int]:
    """Sum of the 64-bit words, and sum weighted by position, modulo 2^64; integers wrap on every device."""
    plain, weighted = 0, 0
    for start in range(0, len(words), _WORDS):
        part = words[start : start + _WORDS]
        places = torch.arange(start + 1, start + 1 + len(part), device=part.device)
        plain += int(part.sum())
        weighted += int((part * places).sum())
    return plain % 2**64, weighted % 2**64
