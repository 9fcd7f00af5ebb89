"""A tiny encoder, a tiny decoder and small tables: how much somebody likes the letter a."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import pluralign as pl
import tiny_policy

FAST: dict[str, dict[str, Any]] = {
    "quantile": {"levels": (0.25, 0.5, 0.75), "l1": 0.05, "gate": False},  # residuals of 0 have no gradient
    "regression": {"l2": 0.1, "gate": False},
    "bradley_terry": {"l2": 0.1},
    "categorical": {"l2": 0.01, "steps": 20, "gate": False},
    "gaussian_ensemble": {"heads": 2, "l2": 0.1, "std_l2": 3.0, "steps": 20, "gate": False},
}
"""Settings of each family under which a fit takes no time."""


def encoder(folder: Path) -> str:
    """A saved BERT with two layers."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=261, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=96, pad_token_id=1, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tiny_policy.tokenizer().save_pretrained(folder)
    return str(folder)


def decoder(folder: Path) -> str:
    """A saved llama with two layers."""
    return str(tiny_policy.saved(folder))


def embed(texts: Any) -> Any:
    """Embeddings of conversations without a model: how many a, how long, and four random numbers."""
    from pluralign.backbones import Embeddings, EmbeddingStats
    from pluralign.digests import text_seed

    rows = []
    for one in texts:
        said = one[-1]["content"]
        noise = torch.randn(4, generator=torch.Generator().manual_seed(text_seed(said)))
        rows.append(torch.cat([torch.tensor([float(said.count("a")), float(len(said))]), noise]))
    count = len(rows)
    return Embeddings(
        torch.stack(rows), torch.zeros(count, 6), torch.ones(count, dtype=torch.int64),
        torch.zeros(count, dtype=torch.bool), EmbeddingStats(conversations=count),
    )  # fmt: skip


def text(i: int) -> str:
    return f"{'a' * (i % 5)}{'xyz'[i % 3] * (4 - i % 5)} {i}"


def ratings(folder: Path, count: int = 40) -> Any:
    """Two attributes; the second is not rated everywhere; two or three raters."""
    lines = []
    for i in range(count):
        given = [1 + i % 5, min(5, 2 + i % 5), 1 + (i * 7) % 5][: 2 + i % 2]
        row = {
            "id": str(i), "prompt": [{"role": "user", "content": f"q{i % 8}"}], "response": text(i),
            "scale": [1, 5], "group": f"g{i % 8}",
        }  # fmt: skip
        lines.append(row | {"attribute": "liking", "ratings": given})
        if i % 3:
            lines.append(row | {"attribute": "length", "ratings": [5 - i % 5]})
    return pl.load_ratings(_written(folder / "ratings.jsonl", lines))


def pairs(folder: Path, count: int = 32, margin: bool = False) -> Any:
    lines = [
        {
            "id": str(i), "prompt": [{"role": "user", "content": f"q{i % 8}"}], "chosen": text(5 * i + 4),
            "rejected": text(5 * i + i % 4), "group": f"g{i % 8}",
        } | ({"margin": 1.0 + i % 2} if margin else {})
        for i in range(count)
    ]  # fmt: skip
    return pl.load_pairs(_written(folder / "pairs.jsonl", lines))


def votes(folder: Path, count: int = 32) -> Any:
    lines = [
        {
            "id": str(i), "prompt": [{"role": "user", "content": f"q{i % 8}"}], "response_a": text(5 * i + 4),
            "response_b": text(5 * i + i % 4), "votes": [1, 1 if i % 3 else 0, -1 if i % 2 else 1],
            "group": f"g{i % 8}",
        }
        for i in range(count)
    ]  # fmt: skip
    return pl.load_comparisons(_written(folder / "votes.jsonl", lines))


def conversations(count: int = 12) -> list[list[dict[str, str]]]:
    return [
        [{"role": "user", "content": f"q{i % 8}"}, {"role": "assistant", "content": text(i + 3)}]
        for i in range(count)
    ]


def _written(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)
