"""Samples of a policy: log-ratios against transformers' own loss, and what a seed decides."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from pluralign.conversations import ConversationReader
from pluralign.errors import ArgumentError
from pluralign.lab import PROMPTS, Crowd, LanguageModelConfig, cached_language_model, summarise_samples
from pluralign.lab.policies import log_ratios, sample_policy
from pluralign.policy.sampling.local import LocalSampler
from pluralign.policy.sampling.settings import SamplingSettings

TINY = LanguageModelConfig(
    texts=600, epochs=3, layers=1, width=32, heads=2, batch_size=20, learning_rate=1e-2
)
ASKED = [prompt.messages for prompt in PROMPTS[::96]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder: Path = cached_language_model(tmp_path_factory.mktemp("work"), TINY, progress=False)
    reference = AutoModelForCausalLM.from_pretrained(folder).eval()
    policy = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for weight in policy.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return policy, reference, AutoTokenizer.from_pretrained(folder)


def test_log_ratios_are_those_of_single_texts(models: tuple[Any, Any, Any]) -> None:
    policy, reference, _ = models
    sequences = [([1, 4, 20], [30, 31, 2]), ([1, 4, 21, 22, 23], [40]), ([1], [50, 51, 52, 53, 2])]
    got = log_ratios(policy, reference, sequences)
    assert got.shape == (3, 5)
    for row, (prompt, response) in zip(got, sequences, strict=True):
        ids = torch.tensor([prompt + response])
        labels = torch.tensor([[-100] * len(prompt) + response])
        with torch.no_grad():
            losses = [float(model(input_ids=ids, labels=labels).loss) for model in (policy, reference)]
        assert float(row.sum()) == pytest.approx((losses[1] - losses[0]) * len(response), abs=1e-4)
        assert row[len(response) :].abs().sum() == 0


def test_the_distance_is_that_of_the_tokens_drawn(models: tuple[Any, Any, Any]) -> None:
    _, reference, tokenizer = models
    policy = copy.deepcopy(reference)
    torch.nn.init.normal_(policy.lm_head.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    settings = SamplingSettings(4, 40)
    drawn = [one for several in LocalSampler(policy, tokenizer).sample(ASKED, settings) for one in several]
    # Special tokens in the middle of a response are no part of its text.
    read_again = [tokenizer(one.text, add_special_tokens=False)["input_ids"] for one in drawn]
    assert any(
        len(ids) + (not one.cut_off) != one.num_tokens for ids, one in zip(read_again, drawn, strict=True)
    )
    sequences = [
        (ConversationReader(tokenizer).prompt_ids(ASKED[row // 4]), list(one.token_ids or ()))
        for row, one in enumerate(drawn)
    ]
    got = sample_policy(policy, reference, tokenizer, ASKED, 4, max_new_tokens=40).log_ratios
    torch.testing.assert_close(got, log_ratios(policy, reference, sequences))


@pytest.mark.parametrize(
    ("prompts", "score", "message"),
    [
        ([], None, "at least one"),
        (["how do i paint a lamp ?"], None, "message lists"),
        (ASKED[:1], lambda texts: torch.ones(len(texts), 1), r"proxy must be \[B\]"),
        (ASKED[:1], lambda texts: [float("nan")] * len(texts), "proxy of samples must be finite"),
    ],
)
def test_what_cannot_be_asked(models: tuple[Any, Any, Any], prompts: Any, score: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        sample_policy(*models, prompts, 2, max_new_tokens=4, score=score)
    listed = sample_policy(*models, ASKED[:1], 2, max_new_tokens=4, score=lambda texts: [1, 2])
    assert listed.proxy is not None
    assert listed.proxy.tolist() == [1, 2]


def test_samples(models: tuple[Any, Any, Any]) -> None:
    policy, reference, tokenizer = models
    crowd = Crowd()
    asked = sample_policy(policy, reference, tokenizer, ASKED, 3, score=crowd.gold)
    assert len(asked.responses) == 3 * len(ASKED)
    assert asked.prompts[3] == asked.prompts[5] == ASKED[1]
    assert asked.proxy is not None
    torch.testing.assert_close(asked.proxy, crowd.gold(asked.conversations))
    again = sample_policy(policy, reference, tokenizer, ASKED, 3)
    assert again.responses == asked.responses
    assert sample_policy(policy, reference, tokenizer, ASKED, 3, seed=1).responses != asked.responses
    unchanged = sample_policy(reference, reference, tokenizer, ASKED, 3)
    assert unchanged.log_ratios is not None
    assert unchanged.log_ratios.abs().max() == 0
    assert summarise_samples(crowd, asked)["measures"]["kl_k3"]["estimate"] > 0.1


def test_cut_off_responses_have_no_end(models: tuple[Any, Any, Any]) -> None:
    policy, reference, tokenizer = models
    short = sample_policy(policy, reference, tokenizer, ASKED, 2, max_new_tokens=3)
    assert short.cut_off is not None
    assert short.log_ratios is not None
    assert short.cut_off.any()
    for response, cut in zip(short.responses, short.cut_off.tolist(), strict=True):
        assert len(response.split()) == 3 or not cut
