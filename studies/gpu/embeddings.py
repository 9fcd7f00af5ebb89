"""`Backbone.embed` on a GPU: MiniLM by dtype and batch size, and a decoder of a billion parameters in
bfloat16.

In: nothing. Out: ratios to the plain loop, rates, and the share of the GPU's measured matrix-product rate.
"""

from __future__ import annotations

import logging
import statistics
from functools import partial
from typing import Any

import torch

from pluralign.backbones import load
from studies.shared_data import shared_data
from studies.speed.embeddings import (
    conversations_and_texts,
    matmul_rate,
    measure_decoder,
    plain_loop,
    sample_pairs,
    work_of,
)
from studies.speed.timing import Timing, rounds

SECONDS = 360.0
BATCHES = (8192, 32768, 131072)  # tokens
LARGE = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8,
}  # fmt: skip


def run(seed: int) -> dict[str, Any]:
    """All of it; the seed is that of the pairs that are drawn, 0.

    Raises:
        SystemExit: torch can use no GPU here.
    """
    if not torch.cuda.is_available():
        raise SystemExit("this needs a GPU that torch can use")
    logging.getLogger("pluralign").setLevel(logging.ERROR)  # cut texts are cut on both sides
    data = shared_data()
    conversations, texts = conversations_and_texts(sample_pairs(data)[:2000])
    result: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "texts": len(texts)}
    for name in ("float32", "bfloat16"):
        for budget in BATCHES:
            backbone = load("minilm", dtype=name, device="cuda", max_tokens_per_batch=budget)
            backbone.embed(conversations[:200])  # kernels are chosen on first use
            timing = Timing()
            for number in rounds(SECONDS / 10):
                timing.in_turn(
                    number,
                    {
                        "plain": partial(plain_loop, backbone, texts),
                        "ours": partial(backbone.embed, conversations),
                    },
                )
            rate = matmul_rate(getattr(torch, name), "cuda")
            result[f"{name}, {budget} tokens"] = {
                "seconds": timing.seconds(),
                "speedup": timing.ratio("plain", "ours"),
                "texts_per_second": len(texts) / statistics.median(timing.wall["ours"]),
                "share_of_matmul_rate": work_of(backbone, texts) / min(timing.wall["ours"]) / rate,
            }
    result["decoder"] = measure_decoder(data, 40, SECONDS / 5, LARGE, dtype="bfloat16", device="cuda")
    return result
