"""A backbone without a model: the numbers at the beginning of a response are its embedding.

`"0.5 -1 some words"` has the embedding [0.5, -1, n_3, ..., n_6]; the last four entries are noise that only
the text decides. So a test knows what there is to be learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pluralign.backbones import Embeddings, EmbeddingStats
from pluralign.conversations import check

WIDTH = 6
NAME = "fake"


class FakeBackbone:
    """Counts what it embeds in `embedded`."""

    def __init__(self, fingerprint: str | None = "f" * 64, pooling: str = "mean") -> None:
        self.fingerprint = fingerprint
        self.pooling = pooling
        self.embedded: list[str] = []

    def describe(self) -> dict[str, Any]:
        return {
            "name_or_path": NAME,
            "revision": None,
            "pooling": self.pooling,
            "context": "response",
            "dtype": "float32",
            "max_length": 64,
            "quantization": None,
            "fingerprint": self.fingerprint,
        }

    def embed(self, conversations: Sequence[Any], *, cache: Any = None, progress: Any = None) -> Embeddings:
        del cache, progress
        for index, conversation in enumerate(conversations):
            check(conversation, index)
        texts = [conversation[-1]["content"] for conversation in conversations]
        self.embedded += texts
        count = len(texts)
        rows = [vector(text) for text in texts]
        response = torch.tensor(np.array(rows).reshape(count, WIDTH), dtype=torch.float32)
        return Embeddings(
            response,
            torch.zeros(count, WIDTH),
            torch.ones(count, dtype=torch.int64),
            torch.zeros(count, dtype=torch.bool),
            EmbeddingStats(conversations=count),
        )


def vector(text: str) -> list[float]:
    """The embedding of a response."""
    words = text.split()
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    noise = np.random.default_rng(seed).normal(size=WIDTH - 2)
    return [float(words[0]), float(words[1]), *noise]


def ratings_rows(
    num_prompts: int = 30, per_prompt: int = 4, raters: int = 5, seed: int = 0, attributes: int = 1
) -> list[dict[str, Any]]:
    """Ratings 1 to 5 around 3 + x, wider where y is high, for responses "x y ..."."""
    generator = np.random.default_rng(seed)
    rows = []
    for prompt in range(num_prompts):
        for place in range(per_prompt):
            x, y = generator.normal(), generator.uniform(0.2, 1.5)
            for attribute in range(attributes):
                sign = (-1) ** attribute
                rated = np.clip(np.round(3 + sign * x + y * generator.normal(size=raters)), 1, 5)
                rows.append(
                    {
                        "id": f"{prompt}-{place}",
                        "prompt": f"prompt {prompt}",
                        "response": f"{x:.4f} {y:.4f} answer {prompt} {place}",
                        "attribute": f"a{attribute}",
                        "ratings": rated.tolist(),
                        "scale": [1, 5],
                        "group": f"g{prompt}",
                    }
                )
    return rows


def pairs_rows(num_pairs: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs whose first embedding entry decides, with the logit 2 (x_chosen - x_rejected)."""
    generator = np.random.default_rng(seed)
    rows = []
    for pair in range(num_pairs):
        x, y = generator.normal(size=2), generator.uniform(size=2)
        first = generator.uniform() < 1 / (1 + np.exp(-2 * (x[0] - x[1])))
        texts = [f"{x[i]:.4f} {y[i]:.4f} answer {pair} {i}" for i in (0, 1)]
        chosen, rejected = texts if first else texts[::-1]
        rows.append({"prompt": f"prompt {pair}", "chosen": chosen, "rejected": rejected, "group": f"g{pair}"})
    return rows


def votes_rows(num_rows: int = 40, raters: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """Comparisons whose first embedding entry decides; some raters call a tie."""
    generator = np.random.default_rng(seed)
    rows = []
    for row in range(num_rows):
        x = generator.normal(size=2)
        win = 1 / (1 + np.exp(-2 * (x[0] - x[1])))
        votes = [
            0 if generator.uniform() < 0.1 else 1 if generator.uniform() < win else -1 for _ in range(raters)
        ]
        rows.append(
            {
                "prompt": f"prompt {row}",
                "response_a": f"{x[0]:.4f} 0 answer {row} a",
                "response_b": f"{x[1]:.4f} 0 answer {row} b",
                "votes": votes,
                "group": f"g{row}",
            }
        )
    return rows


def talk(response: str, prompt: str = "hello") -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
