"""Attention that refuses float32, as flash attention does, on a CPU."""

from __future__ import annotations

import pytest
import torch


def _attends() -> bool:
    """Whether torch runs attention in bfloat16 on 64 tokens.

    Its kernel for processors with AMX refuses to where ATEN_CPU_CAPABILITY names older ones (torch 2.13).
    """
    one = torch.zeros(1, 1, 64, 8, dtype=torch.bfloat16)
    try:
        torch.nn.functional.scaled_dot_product_attention(one, one, one)
    except RuntimeError:
        return False
    return True


needs_half_attention = pytest.mark.skipif(
    not _attends(), reason="this torch has no attention in bfloat16 here"
)


def half_only(module, query, key, value, attention_mask, **options):
    """As flash attention behind transformers: made half under autocast, and float32 is refused."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if torch.is_autocast_enabled("cpu"):
        query, key, value = (one.to(torch.get_autocast_dtype("cpu")) for one in (query, key, value))
    if query.dtype == torch.float32:
        raise RuntimeError("FlashAttention only supports fp16 and bf16 data type")
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
