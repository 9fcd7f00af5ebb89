"""Prompts that share a batch get the completions that they get alone, whatever a model does with padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version

import tiny_policy
from pluralign.backbones.row_blocks import has_row_blocks
from pluralign.errors import ArtifactError
from pluralign.policy import LocalSampler, SamplingSettings
from pluralign.policy.sampling.left_padding import batches, find_sharing
from tiny_architectures import HEADED, LLAMA, LONG_ROPE, ROUTED, SWITCH, roughen, tiny_config

COMPRESSED = HEADED | ROUTED | {  # blocks of 128 tokens
    "num_key_value_heads": 1, "q_lora_rank": 16, "sliding_window": 8, "o_groups": 2, "o_lora_rank": 8,
    "index_n_heads": 8, "index_head_dim": 8, "index_topk": 8, "partial_rotary_factor": 0.5, "hc_mult": 2,
    "num_nextn_predict_layers": 0, "vocab_size": 261, "max_position_embeddings": 512,
}  # fmt: skip

PROMPTS = [tiny_policy.user(text) for text in ("a", "is it so that this one is longer?", "why so")]


def model_of(name: str, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return roughen(AutoModelForCausalLM.from_config(tiny_config(name, 261, **options))).eval()


def drawn(model: Any, batch_size: int, new_tokens: int = 6, prompts: Any = PROMPTS) -> list[Any]:
    sampler = LocalSampler(model, tiny_policy.tokenizer(), batch_size=batch_size)
    answers = sampler.sample(prompts, SamplingSettings(2, new_tokens, seed=3))
    return [one.token_ids for several in answers for one in several]


@pytest.mark.parametrize(
    ("name", "sharing"),
    [
        ("llama", "any"),
        ("mamba", "any"),
        ("recurrent_gemma", "equal"),
        ("minimax", "equal"),
        ("rwkv", "none"),
    ],
)
def test_the_model_says_which_prompts_share_a_batch(
    name: str, sharing: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = model_of(name)
    if name in ("mamba", "recurrent_gemma") and Version(transformers.__version__) < Version("5.1"):
        with pytest.raises(ArtifactError, match="generates from other logits than its forward"):
            find_sharing(model, 1)
        pytest.skip("transformers 5.0 generates otherwise with it, and it is refused")
    assert find_sharing(model, 1) == sharing
    assert drawn(model, 8) == drawn(model, 1)
    assert ("does not keep the prompts of a batch apart" in caplog.text) == (sharing != "any")


def test_frequencies_that_change_with_the_longest_prompt() -> None:
    model = model_of("phi3", **LONG_ROPE)
    beyond = tiny_policy.user("b" * SWITCH)
    close = [tiny_policy.user("c" * (SWITCH - length)) for length in (5, 4, 8)]
    prompts = [*PROMPTS, beyond, *close]
    assert drawn(model, 8, prompts=prompts) == drawn(model, 1, prompts=prompts)


def test_batches() -> None:
    lengths = [5, 9, 5, 7, 9, 5]
    assert batches(lengths, 4, "any") == [[0, 2, 5, 3], [1, 4]]
    assert batches(lengths, 2, "equal") == [[0, 2], [5], [3], [1, 4]]
    assert batches(lengths, 4, "none") == [[0], [2], [5], [3], [1], [4]]
    # None of length 5 reaches 8 with two tokens more, 7 does on its way, 9 is beyond.
    assert batches(lengths, 4, "any", 8, 2) == [[0, 2, 5], [3], [1, 4]]
    assert batches([7, 8, 7, 3, 20, 9], 4, "any", 8, 2) == [[3], [0, 2], [1], [5, 4]]
    assert batches([], 4, "any") == []


def test_a_model_that_generates_from_other_logits_is_refused() -> None:
    model = model_of("roberta")  # generation counts its positions from 0, the model from behind its pad token
    with pytest.raises(
        ArtifactError, match="RobertaForCausalLM generates from other logits than its forward"
    ):
        drawn(model, 1)


def test_a_model_that_cannot_generate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    monkeypatch.setattr(model, "prepare_inputs_for_generation", lambda *args, **options: {"input_ids": 1})
    with pytest.raises(ArtifactError, match="LlamaForCausalLM cannot generate text"):
        drawn(model, 1)


def test_blocks_that_are_counted_from_the_start_of_a_row() -> None:
    from transformers import LlamaConfig

    for name, value in {
        "compress_rates": {"some": 4, "others": 128},
        "compress_ratios": [0, 4],
        "index_block_size": 128,
        "indexer_compress_ratio": 8,
        "block_size": 64,
    }.items():
        config = LlamaConfig(**LLAMA)
        setattr(config, name, value)
        assert has_row_blocks(config), name
    for name, value in {"compress_ratio": None, "block_size": 1, "index_topk": 64, "blocks": 12}.items():
        config = LlamaConfig(**LLAMA)
        setattr(config, name, value)
        assert not has_row_blocks(config), name


def test_blocks_that_are_longer_than_what_a_probe_reads() -> None:
    """A text of 150 tokens behind another has a block of 128 that holds the other's tokens."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from pluralign.policy.logprobs.packing import pack
    from pluralign.policy.logprobs.scored_forward import install, response_log_probs, row_tokens

    if "deepseek_v4" not in CONFIG_MAPPING:
        pytest.skip("this version of transformers has no DeepSeek V4")
    torch.manual_seed(0)
    config = CONFIG_MAPPING["deepseek_v4"](**COMPRESSED)
    model = roughen(AutoModelForCausalLM.from_config(config)).eval()
    random = torch.Generator().manual_seed(0)
    texts = [torch.randint(2, 261, (length,), generator=random).tolist() for length in (160, 150)]
    pairs = [(text[:3], text[3:]) for text in texts]
    with torch.no_grad():
        apart = install(model)
        assert not apart
        wanted = []
        for (prompt, _), text in zip(pairs, texts, strict=True):
            logits = model(input_ids=torch.tensor([text]), use_cache=False).logits[0, :-1].double()
            own = logits.log_softmax(-1).gather(1, torch.tensor(text)[1:, None])
            wanted.append(own[len(prompt) - 1 :].sum())
        size = row_tokens(model, apart, None, torch.device("cpu"))
        found = response_log_probs(model, pack(pairs, size)).double()
        together = response_log_probs(model, pack(pairs, None)).double()
    torch.testing.assert_close(found, torch.stack(wanted), atol=1e-3, rtol=0.0)
    assert (together - torch.stack(wanted)).abs().max() > 0.1  # what a packed row would say
