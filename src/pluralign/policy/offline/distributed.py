"""What training in several processes asks for beyond what accelerate does.

In: accelerate's state. Out: which rows of a batch count, and FSDP settings that keep float32 where it
matters. It knows nothing about objectives or models.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ConfigError

__all__ = ["keep_float32", "new_rows"]


def new_rows(state: Any, count: int, rank: int, device: Any = None) -> Tensor:
    """Which rows of the batch that was just drawn are not repeated, [count].

    accelerate fills the last batches of an epoch with rows of its beginning, so that all processes make the
    same calls; counted again, these would weigh twice in a mean or a gradient.

    Args:
        state: accelerate's `GradientState`.
        count: rows of the batch, the same in every process.
        rank: number of this process.
        device: of the result.
    """
    left = state.remainder if state.end_of_dataloader else 0
    places = torch.arange(rank * count, (rank + 1) * count, device=device)
    return places < left if left > 0 else torch.ones_like(places, dtype=torch.bool)


def keep_float32(plugin: Any) -> None:
    """Lets FSDP compute in half precision without rounding sums of gradients or what the model returns to it.

    accelerate's policy does both; sequence log-probabilities in bfloat16 have a step of half a nat at -100.

    Args:
        plugin: accelerate's `FullyShardedDataParallelPlugin`.

    Raises:
        ConfigError: it asks for FSDP 1.
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
