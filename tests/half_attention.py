"""Attention that refuses float32, as flash attention does, on a CPU."""

from __future__ import annotations

import torch


def half_only(module, query, key, value, attention_mask, **options):
    """As flash attention behind transformers: made half under autocast, and float32 is refused."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if torch.is_autocast_enabled("cpu"):
        query, key, value = (one.to(torch.get_autocast_dtype("cpu")) for one in (query, key, value))
    if query.dtype == torch.float32:
        raise RuntimeError("FlashAttention only supports fp16 and bf16 data type")
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
