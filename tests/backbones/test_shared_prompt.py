"""Prompts run once for all their responses: the same vectors, fewer tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import TEMPLATE, byte_tokenizer, save, talk
from transformers import MistralConfig

from pluralign.backbones import Backbone, load
from pluralign.backbones.shared_prompt import split_shared
from pluralign.backbones.tokens import Tokens

PROMPTS = [
    "please write a short poem about rain and the moon, and the cat that looked at the moon",
    "hello world",
    "the cat sat on the mat and looked at the moon " * 2,
]
ANSWERS = [
    "no",
    "yes! here is a longer answer",
    "the cat",
    "",
    "I will not do that, please; the moon likes rain.",
]
ROWS = [talk(prompt, answer) for answer in ANSWERS for prompt in PROMPTS] + [
    talk("rain", "alone"),
    talk("no"),
]


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose attention sees a sliding window shorter than the prompts."""
    tokenizer = byte_tokenizer(TEMPLATE)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3,
        sliding_window=12,
    )  # fmt: skip
    return save(tmp_path_factory.mktemp("mistral"), config, tokenizer)


def count_tokens(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    original = backbone.model.forward

    def forward(*args: object, **options: torch.Tensor) -> object:
        seen.append(options["input_ids"].numel())
        return original(*args, **options)

    monkeypatch.setattr(backbone.model, "forward", forward)
    return seen


@pytest.mark.parametrize("model", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize("pooling", ["last", "last_mean"])
@pytest.mark.parametrize("budget", [40, 4096])
def test_same_vectors_as_the_plain_way(
    model: str, pooling: str, budget: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(request.getfixturevalue(model))
    plain = load(path, pooling=pooling, num_threads=1, share_prompts=False)
    shared = load(path, pooling=pooling, num_threads=1, max_tokens_per_batch=budget)
    seen_plain, seen = count_tokens(plain, monkeypatch), count_tokens(shared, monkeypatch)
    expected, found = plain.embed(ROWS), shared.embed(ROWS)
    assert sum(seen) < sum(seen_plain)  # padding included
    for name in ("response", "prompt", "num_tokens", "truncated"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-5)


def test_eight_long_prompts_cost_little_more_than_one(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load(str(llama), num_threads=1)
    rows = [talk(PROMPTS[2], f"answer {number}") for number in range(8)]
    seen = count_tokens(backbone, monkeypatch)
    stats = backbone.embed(rows).stats
    assert stats.tokens / sum(seen) > 3


def text(prompt: int, start: int, length: int) -> Tokens:
    return Tokens(np.array([prompt] * start + [9] * length), None, start, False)


def test_only_groups_with_profit_are_split_off() -> None:
    texts = [
        text(1, 10, 2), text(2, 10, 2), text(1, 10, 3),  # 1 is shared, 2 is alone
        text(3, 1, 50), text(3, 1, 50),  # a prompt of one token saves nothing
        text(1, 10, 0),  # no response to run after the prompt
    ]  # fmt: skip
    assert split_shared(texts) == ([[0, 2]], [1, 3, 4, 5])
