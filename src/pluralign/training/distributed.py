"""Training in several processes: what is needed in addition to accelerate.

In: accelerate's state. Out: which rows of a batch count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["new_rows"]


def new_rows(state: Any, count: int, rank: int, device: Any = None) -> Tensor:
    """Which rows of the current batch are not repetitions, [count].

    accelerate fills the last batches of an epoch with rows from its beginning, so that all processes make the
    same calls; these rows must not count twice in a mean or a gradient.

    Args:
        state: accelerate's `GradientState`.
        count: number of rows of the batch, the same in every process.
        rank: number of this process.
        device: of the result.
    """
    left = state.remainder if state.end_of_dataloader else 0
    places = torch.arange(rank * count, (rank + 1) * count, device=device)
    return places < left if left > 0 else torch.ones_like(places, dtype=torch.bool)
