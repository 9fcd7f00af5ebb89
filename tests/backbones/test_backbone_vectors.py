"""Vectors against a plain loop over single texts, and what must not change them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pluralign.backbones import Backbone, EmbeddingCache, load
from pluralign.backbones.surface import COLUMNS, surface
from pluralign.errors import ArgumentError

Conversations = list[list[dict[str, str]]]


def states_of(backbone: Backbone, ids: list[int], **extra: Any) -> torch.Tensor:
    """States of one unpadded text, straight from the model."""
    with torch.inference_mode():
        inputs = {"input_ids": torch.tensor([ids]), **extra}
        return backbone.model(**inputs).last_hidden_state[0]


def pooled(states: torch.Tensor, pooling: str) -> torch.Tensor:
    choices = {
        "last": states[-1],
        "mean": states.mean(0),
        "last_mean": torch.cat([states[-1], states.mean(0)]),
    }
    return choices[pooling]


def load_one(path: Path, **options: Any) -> Backbone:
    return load(str(path), num_threads=1, **options)


@pytest.mark.parametrize("pooling", ["last", "mean", "last_mean"])
def test_decoder_with_template_matches_one_text_at_a_time(
    llama: Path, conversations: Conversations, pooling: str
) -> None:
    backbone = load_one(llama, pooling=pooling)
    result = backbone.embed(conversations)
    for row, talk in enumerate(conversations):
        prompt = talk[:-1] or [{"role": "user", "content": ""}]
        ids = backbone.tokenizer.apply_chat_template([*prompt, talk[-1]], tokenize=True)["input_ids"]
        opening = backbone.tokenizer.apply_chat_template(prompt, tokenize=True, add_generation_prompt=True)
        start = len(opening["input_ids"])
        assert ids[:start] == opening["input_ids"]
        states = states_of(backbone, ids)
        torch.testing.assert_close(result.response[row], pooled(states[start:], pooling), rtol=0, atol=1e-5)
        expected = states[start - 1] if len(talk) > 1 else torch.zeros(32)
        torch.testing.assert_close(result.prompt[row], expected, rtol=0, atol=1e-5)
        assert result.num_tokens[row] == len(ids) - start
    assert not result.truncated.any()


def test_decoder_without_template_reads_what_a_policy_would_draw(
    gpt2: Path, conversations: Conversations
) -> None:
    backbone = load_one(gpt2)
    assert (backbone.config.pooling, backbone.config.context) == ("last", "conversation")
    result = backbone.embed(conversations)
    ids = [*backbone.tokenizer("hello\nno")["input_ids"], backbone.tokenizer.eos_token_id]
    start = len(backbone.tokenizer("hello")["input_ids"])
    states = states_of(backbone, ids)
    torch.testing.assert_close(result.response[3], states[-1], rtol=0, atol=1e-5)
    torch.testing.assert_close(result.prompt[3], states[start - 1], rtol=0, atol=1e-5)
    assert result.prompt[6].eq(0).all()


@pytest.mark.parametrize("pooling", ["last", "mean", "last_mean"])
def test_encoder_reads_response_alone_and_prompt_alone(
    bert: Path, conversations: Conversations, pooling: str
) -> None:
    backbone = load_one(bert, pooling=pooling)
    result = backbone.embed(conversations)
    for row, talk in enumerate(conversations):
        states = states_of(backbone, backbone.tokenizer(talk[-1]["content"])["input_ids"])
        torch.testing.assert_close(result.response[row], pooled(states, pooling), rtol=0, atol=1e-5)
    states = states_of(backbone, backbone.tokenizer("please write a poem")["input_ids"])
    torch.testing.assert_close(result.prompt[0], states.mean(0), rtol=0, atol=1e-5)
    several = "user: hello\nassistant: hello world\nuser: and the moon?"
    states = states_of(backbone, backbone.tokenizer(several)["input_ids"])
    torch.testing.assert_close(result.prompt[4], states.mean(0), rtol=0, atol=1e-5)
    assert result.prompt[6].eq(0).all()


@pytest.mark.parametrize("pooling", ["last", "mean", "last_mean"])
def test_encoder_reads_prompt_and_response_as_a_pair(
    bert: Path, conversations: Conversations, pooling: str
) -> None:
    backbone = load_one(bert, pooling=pooling, context="pair")
    result = backbone.embed([*conversations, [*conversations[0][:-1], {"role": "assistant", "content": ""}]])
    pair = backbone.tokenizer("please write a poem", "the cat sat on the mat")
    types = pair["token_type_ids"]
    assert set(types) == {0, 1}
    states = states_of(backbone, pair["input_ids"], token_type_ids=torch.tensor([types]))
    start = types.index(1)
    torch.testing.assert_close(result.response[0], pooled(states[start:], pooling), rtol=0, atol=1e-5)
    assert result.num_tokens[0] == types.count(1)
    # Without a prompt there is no pair; an empty response is its closing special token.
    alone = states_of(backbone, backbone.tokenizer("the cat looked at")["input_ids"])
    torch.testing.assert_close(result.response[6], pooled(alone, pooling), rtol=0, atol=1e-5)
    assert result.num_tokens[8] == 1
    assert result.response[8].isfinite().all()


@pytest.mark.parametrize("model", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("pooling", ["last", "last_mean"])
def test_padding_batches_and_order_change_nothing(
    model: str, pooling: str, conversations: Conversations, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    together = load_one(path, pooling=pooling, share_prompts=False).embed(conversations)
    alone = load_one(path, pooling=pooling, max_tokens_per_batch=1)
    left = load_one(path, pooling=pooling, padding_side="left", share_prompts=False)
    singles = [alone.embed([one]) for one in conversations]
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    back = [order.index(row) for row in range(8)]
    shuffled = load_one(path, pooling=pooling).embed([conversations[row] for row in order])
    for name in ("response", "prompt", "num_tokens", "truncated"):
        expected = getattr(together, name)
        for other in (
            torch.cat([getattr(one, name) for one in singles]),
            getattr(left.embed(conversations), name),
            getattr(shuffled, name)[back],
        ):
            torch.testing.assert_close(other, expected, rtol=0, atol=1e-5)


def test_a_tokenizer_that_pads_left_or_truncates_changes_nothing(
    llama: Path, conversations: Conversations
) -> None:
    backbone = load_one(llama)
    expected = backbone.embed(conversations).response
    backbone.tokenizer.padding_side = "left"
    backbone.tokenizer.backend_tokenizer.enable_truncation(4)
    torch.testing.assert_close(backbone.embed(conversations).response, expected)


def test_each_distinct_text_is_run_once(bert: Path, conversations: Conversations) -> None:
    result = load_one(bert).embed(conversations * 3)
    responses = {talk[-1]["content"] for talk in conversations}
    prompts = {str(talk[:-1]) for talk in conversations if len(talk) > 1}
    assert result.stats.texts == result.stats.computed == len(responses) + len(prompts)
    torch.testing.assert_close(result.response[:8], result.response[16:])


def test_bfloat16_is_close_and_returned_as_float32(llama: Path, conversations: Conversations) -> None:
    exact = load_one(llama).embed(conversations).response
    half = load_one(llama, dtype="bfloat16").embed(conversations).response
    assert half.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, half).min() > 0.98
    assert (exact - half).abs().max() > 0


def test_no_conversations(bert: Path) -> None:
    result = load_one(bert, pooling="last_mean").embed([])
    assert result.response.shape == (0, 64)
    assert result.prompt.shape == (0, 32)


def test_numbers_that_are_not_finite_are_an_error(llama: Path, conversations: Conversations) -> None:
    backbone = load_one(llama)
    with torch.no_grad():
        backbone.model.norm.weight.fill_(math.inf)
    with pytest.raises(ArgumentError, match="not finite"):
        backbone.embed(conversations)


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ("hello", "list of messages"),
        ([], "list of messages"),
        ([{"role": "user", "content": "hello"}], "role 'user'"),
        ([{"role": "assistant"}], "content"),
        ([{"role": "assistant", "content": ["parts"]}], "content"),
        ([{"role": "assistant", "content": "half \ud83d"}], "not Unicode"),
    ],
)
def test_what_is_not_a_conversation_is_named(bert: Path, conversation: Any, message: str) -> None:
    good = [{"role": "assistant", "content": "fine"}]
    with pytest.raises(ArgumentError, match=f"(?s)conversation 1.*{message}"):
        load_one(bert).embed([good, conversation])


def test_progress_counts_to_the_end_and_threads_are_put_back(
    bert: Path, conversations: Conversations
) -> None:
    calls: list[tuple[int, int]] = []
    before = torch.get_num_threads()
    backbone = load(str(bert), num_threads=before + 1, max_tokens_per_batch=8)
    stats = backbone.embed(conversations, progress=lambda done, total: calls.append((done, total))).stats
    assert calls[-1] == (stats.computed, stats.computed)
    assert len(calls) > 1
    assert stats.num_threads == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("asked", "more"), [(None, 0), ("auto", 1)])
def test_only_who_asks_for_it_gets_idle_cores(
    bert: Path, conversations: Conversations, asked: str | None, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(before + 1))
    stats = load(str(bert), num_threads=asked).embed(conversations).stats  # type: ignore[arg-type]
    assert stats.num_threads == before + more
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("model", ["bert", "llama"])
def test_length_is_one_more_column(
    model: str, conversations: Conversations, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path, cache = request.getfixturevalue(model), EmbeddingCache(tmp_path / "cache")
    plain = load_one(path).embed(conversations, cache=cache)
    backbone = load_one(path, length=True)
    result = backbone.embed(conversations, cache=cache)
    assert result.stats.computed == 0  # the vectors are the same, so they are kept once
    assert result.response.shape[1] == backbone.response_size == plain.response.shape[1] + 1
    assert torch.equal(result.response[:, :-1], plain.response)
    expected = torch.tensor([math.log(1 + n) for n in plain.num_tokens.tolist()])
    torch.testing.assert_close(result.response[:, -1], expected)
    assert load(**backbone.describe()).config == backbone.config


@pytest.mark.parametrize("model", ["bert", "llama"])
def test_surface_columns_follow_the_vector_and_precede_length(
    model: str, conversations: Conversations, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path, cache = request.getfixturevalue(model), EmbeddingCache(tmp_path / "cache")
    plain = load_one(path, length=True).embed(conversations, cache=cache)
    backbone = load_one(path, length=True, surface=True)
    result = backbone.embed(conversations, cache=cache)
    width = plain.response.shape[1] - 1
    assert result.stats.computed == 0
    assert result.response.shape[1] == backbone.response_size == width + len(COLUMNS) + 1
    assert torch.equal(result.response[:, :width], plain.response[:, :width])
    assert torch.equal(result.response[:, -1], plain.response[:, -1])
    expected = surface([one[-1]["content"] for one in conversations])
    torch.testing.assert_close(result.response[:, width:-1], expected)
    assert load(**backbone.describe()).config == backbone.config
