"""Training in several processes: what is needed in addition to accelerate.

In: accelerate's state. Out: which rows of a batch count, and FSDP settings that keep float32 where needed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ConfigError

__all__ = ["keep_float32", "new_rows"]


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


def keep_float32(plugin: Any) -> None:
    """Lets FSDP compute in half precision without rounding sums of gradients or outputs of the model to it.

    accelerate's policy rounds both; sequence log-probabilities in bfloat16 have a step of half a nat at -100.

    Args:
        plugin: accelerate's `FullyShardedDataParallelPlugin`.

    Raises:
        ConfigError: it selects FSDP 1.
    """
    if plugin.fsdp_version != 2:
        raise ConfigError(
            "FSDP: received version 1; allowed: 2 (`accelerate launch --fsdp_version 2`, or "
            "fsdp_config={'version': 2})"
        )
    if plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = replace(
            plugin.mixed_precision_policy, reduce_dtype=torch.float32, output_dtype=None
        )
