"""Sampling in this process: the right distribution, independence of batches, cut-off marks, bad input."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

import tiny_policy
from pluralign.conversations import ConversationReader
from pluralign.errors import ArgumentError, ArtifactError, ConfigError, DataError
from pluralign.policy.sampling.local import LocalSampler, draw_tokens
from pluralign.policy.sampling.settings import SamplingSettings, completion_seed, prompt_key
from tiny_policy import user

PROMPTS = [user("a"), user("what is the weather like in the far north today?"), user("tell me more")]


@pytest.fixture(scope="module")
def parts():
    return tiny_policy.model(), tiny_policy.tokenizer()


def test_tokens_follow_the_softmax():
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0])
    uniforms = torch.rand(40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for temperature in (1.0, 0.5):
        drawn = draw_tokens(logits.expand(40_000, 4), uniforms, temperature, 1.0)
        expected = torch.softmax(logits.double() / temperature, 0) * 40_000
        assert stats.chisquare(torch.bincount(drawn, minlength=4).numpy(), expected.numpy()).pvalue > 1e-3


def test_top_p_keeps_the_smallest_set():
    logits = torch.log(torch.tensor([0.1, 0.5, 0.15, 0.25]))
    uniforms = torch.rand(2_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for top_p, kept in ((0.5, {1}), (0.6, {1, 3}), (0.76, {1, 2, 3}), (1.0, {0, 1, 2, 3})):
        drawn = draw_tokens(logits.expand(2_000, 4), uniforms, 1.0, top_p)
        assert set(drawn.tolist()) == kept


def test_the_ends_of_the_unit_interval_give_possible_tokens():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]])
    for uniform, token in ((0.0, 1), (1 - 2**-53, 2)):
        assert draw_tokens(logits, torch.tensor([uniform], dtype=torch.float64), 1.0, 1.0).item() == token


def test_first_tokens_have_the_models_probabilities(parts):
    """2,000 completions of one token against the model's own softmax, over the likely tokens."""
    model, tokenizer = parts
    settings = SamplingSettings(completions=2_000, max_new_tokens=1)
    (drawn,) = LocalSampler(model, tokenizer, batch_size=500).sample(PROMPTS[:1], settings)
    with torch.no_grad():
        logits = model(torch.tensor([ConversationReader(tokenizer).prompt_ids(PROMPTS[0])])).logits[0, -1]
    end = torch.softmax(logits.double(), 0)[1].item()
    ended = sum(not one.cut_off for one in drawn)
    assert stats.binomtest(ended, 2_000, end).pvalue > 1e-3
    letters = [chr(c) for c in range(97, 123)]
    ids = tokenizer.convert_tokens_to_ids(letters)
    share = torch.softmax(logits.double(), 0)[ids].sum().item()
    found = sum(one.text in letters for one in drawn)
    assert stats.binomtest(found, 2_000, share).pvalue > 1e-3


def test_batches_order_and_padding_do_not_matter(parts):
    settings = SamplingSettings(completions=3, max_new_tokens=12, seed=5)
    whole = LocalSampler(*parts, batch_size=64).sample(PROMPTS, settings)
    alone = LocalSampler(*parts, batch_size=1).sample(PROMPTS, settings)
    backwards = LocalSampler(*parts, batch_size=4).sample(PROMPTS[::-1], settings)
    assert whole == alone == backwards[::-1]
    assert len({one.text for answers in whole for one in answers}) == 9
    more = LocalSampler(*parts).sample(PROMPTS[1:2], SamplingSettings(5, 12, seed=5))
    assert more[0][:3] == whole[1]
    other = LocalSampler(*parts).sample(PROMPTS, SamplingSettings(3, 12, seed=6))
    assert other != whole


def test_seeds_belong_to_prompt_and_number():
    seeds = {completion_seed(s, p, i) for s in (0, 1) for p in PROMPTS for i in (0, 1)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert prompt_key(PROMPTS[0]) != prompt_key([{"role": "system", "content": "a"}])


def test_cut_off_marks_and_token_counts(parts):
    model, tokenizer = parts
    settings = SamplingSettings(completions=40, max_new_tokens=8)
    (drawn,) = LocalSampler(model, tokenizer).sample(PROMPTS[:1], settings)
    assert any(one.cut_off for one in drawn)
    assert all((one.num_tokens == 8) for one in drawn if one.cut_off)
    assert all(1 <= one.num_tokens <= 8 for one in drawn)
    # any of several tokens may end a response, and none of them is in the text
    letters = [chr(c) for c in range(97, 123)]
    (drawn,) = LocalSampler(model, tokenizer, end_tokens=letters).sample(PROMPTS[:1], settings)
    ended = [one for one in drawn if not one.cut_off]
    assert ended
    assert not any(letter in one.text for one in drawn for letter in letters)
    assert min(one.num_tokens for one in ended) >= 1


def test_an_empty_completion_is_one_token(parts):
    model, tokenizer = tiny_policy.model(), parts[1]
    model.lm_head.weight.data[:] = 0
    model.lm_head.weight.data[1] = 0
    bias = torch.nn.Linear(32, 261)
    bias.weight.data[:] = 0
    bias.bias.data[:] = -50
    bias.bias.data[1] = 50
    model.lm_head = bias
    ((one,),) = LocalSampler(model, tokenizer).sample(PROMPTS[:1], SamplingSettings(1, 4))
    assert (one.text, one.num_tokens, one.cut_off) == ("", 1, False)


def test_defaults_of_the_publisher_are_not_applied(parts):
    _, tokenizer = parts
    plain, tuned = tiny_policy.model(), tiny_policy.model()
    tuned.generation_config.repetition_penalty = 5.0
    tuned.generation_config.suppress_tokens = list(range(5, 100))
    tuned.generation_config.min_new_tokens = 6
    tuned.train()
    settings = SamplingSettings(4, 8)
    kept = tuned.generation_config
    assert LocalSampler(tuned, tokenizer).sample(PROMPTS, settings) == LocalSampler(plain, tokenizer).sample(
        PROMPTS, settings
    )
    assert tuned.generation_config is kept
    assert tuned.training


def test_end_tokens_of_the_model_count(parts):
    model, tokenizer = tiny_policy.model(), parts[1]
    model.generation_config.eos_token_id = [1, 2]
    described = LocalSampler(model, tokenizer, identity={"model": "m"}).describe()
    assert described == {"model": "m", "end_tokens": ["<|end|>", "<|user|>"]}


def test_from_a_folder(tmp_path, parts):
    sampler = LocalSampler.from_pretrained(str(tiny_policy.saved(tmp_path / "model")), device="cpu")
    described = sampler.describe()
    assert described["kind"] == "transformers"
    assert len(described["fingerprint"]) == 64
    settings = SamplingSettings(2, 6)
    assert sampler.sample(PROMPTS, settings) == LocalSampler(*parts).sample(PROMPTS, settings)
    with pytest.raises(ArtifactError):
        LocalSampler.from_pretrained(str(tmp_path))


def test_illegal_arguments(parts):
    model, tokenizer = parts
    with pytest.raises(
        DataError, match="1 of 1 prompts are too long: prompt 0 has 302 tokens, which with max_new_tokens=8"
    ):
        LocalSampler(model, tokenizer).sample([user("x" * 299)], SamplingSettings(1, 8))
    with pytest.raises(ArgumentError, match="pass identity"):
        LocalSampler(model, tokenizer).describe()
    with pytest.raises(ConfigError, match="batch_size"):
        LocalSampler(model, tokenizer, batch_size=0)
    with pytest.raises(ArgumentError, match="not a token of this tokenizer"):
        LocalSampler(model, tokenizer, end_tokens=["<nothing>"])
    for wrong in (
        {"completions": 0},
        {"max_new_tokens": 0},
        {"temperature": 0.0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"seed": -1},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SamplingSettings(**wrong)


def test_a_model_that_gives_nan_is_refused(parts):
    broken = tiny_policy.model()
    broken.lm_head.weight.data[7] = torch.nan
    with pytest.raises(ArtifactError, match="logits are NaN"):
        LocalSampler(broken, parts[1]).sample(PROMPTS[:1], SamplingSettings(1, 2))
