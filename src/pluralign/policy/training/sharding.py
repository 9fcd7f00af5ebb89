"""Weights that are sharded over processes by FSDP 2: settings, whole copies, and back.

In: accelerate's plugin, tensors. Out: settings that keep float32 where needed; whole tensors of shards, on
the CPU, and shards of whole tensors. Every process calls these functions, in the same order. Tensors that are
not sharded are only moved to the CPU, or copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ConfigError

__all__ = ["keep_float32", "put", "shard_like", "whole"]


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


def whole(value: Any) -> Any:
    """Whole tensors on the CPU: of a tensor, or of all tensors in dictionaries and lists."""
    if isinstance(value, Tensor):
        gathered = value.full_tensor() if hasattr(value, "full_tensor") else value
        return gathered.detach().cpu()
    if isinstance(value, Mapping):
        return {key: whole(one) for key, one in value.items()}
    return [whole(one) for one in value] if isinstance(value, list) else value


def shard_like(value: Tensor, weight: Tensor) -> Tensor:
    """A whole tensor of a weight's shape as that weight is sharded; unchanged where it is not."""
    if not hasattr(weight, "full_tensor"):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(weight, DTensor)
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)


def put(weight: Tensor, value: Tensor) -> None:
    """Gives a weight the values of a whole tensor."""
    weight.copy_(shard_like(value, weight))
