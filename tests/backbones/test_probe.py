"""What the probe finds out about a model, what it says, and what the vectors then are."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import TEMPLATE, byte_tokenizer, talk, word_tokenizer

from pluralign.backbones import Backbone, BackboneConfig, load
from pluralign.errors import ArgumentError, ArtifactError
from tiny_architectures import roughen, tiny_config
from tiny_encoders import encoder_config

ROWS = [talk("hello", "no"), talk("hello", "yes! here is a longer answer, with several words in it.")]


def model_of(config: Any) -> Any:
    from transformers import AutoModel

    torch.manual_seed(0)
    return roughen(AutoModel.from_config(config)).eval().requires_grad_(False)


def in_memory(model: Any, tokenizer: Any, context: str = "conversation", **options: Any) -> Backbone:
    dtype = str(model.dtype).removeprefix("torch.")
    pooling = "last" if context == "conversation" else "mean"
    config = BackboneConfig("tiny", None, pooling, context, dtype, 100)
    return Backbone(model, tokenizer, config, num_threads=1, **options)


def decoder(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> Backbone:
    tokenizer = byte_tokenizer(TEMPLATE)
    return in_memory(model_of(tiny_config(name, len(tokenizer))).to(dtype), tokenizer, **options)


def encoder(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> Backbone:
    tokenizer = word_tokenizer()
    model = model_of(encoder_config(name, len(tokenizer))).to(dtype)
    return in_memory(model, tokenizer, options.pop("context", "response"), **options)


# -- ways to run -----------------------------------------------------------------------------------


def test_what_is_right_is_run_as_asked_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pluralign"):
        modes = [decoder("llama").run_mode, decoder("llama", padding_side="left").run_mode]
        modes.append(encoder("bert").run_mode)
    assert [mode.fill for mode in modes] == ["right", "left", "right"]
    assert [mode.share_prompts for mode in modes] == [True, True, False]
    assert caplog.messages == []


def test_a_model_that_reads_the_filling_gets_texts_of_equal_length(caplog: pytest.LogCaptureFixture) -> None:
    backbone = encoder("fnet")
    assert caplog.messages == [
        "tiny does not ignore padding; only texts of equal length are run together, which is slower"
    ]
    texts = [talk("q", text) for text in ("no", "yes", "the cat sat", "rain", "please write a poem")]
    sizes: list[tuple[int, ...]] = []
    backbone.model.register_forward_pre_hook(
        lambda _module, _args, inputs: sizes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    together = backbone.embed(texts, progress=False).response
    lengths = {len(backbone.tokenizer(one[-1]["content"])["input_ids"]) for one in texts}
    assert len(sizes) == len(lengths) + 1  # and one for the prompt
    alone = torch.cat([backbone.embed([one], progress=False).response for one in texts])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert caplog.messages[1:] == []  # told once


def test_a_recurrence_is_padded_on_the_right_whatever_was_asked(caplog: pytest.LogCaptureFixture) -> None:
    right, left = decoder("rwkv"), decoder("rwkv", padding_side="left")
    assert left.run_mode == right.run_mode
    told = [one.getMessage() for one in caplog.records if one.name.startswith("pluralign")]
    assert told == ["tiny reads padding on the left; texts are padded on the right instead"]


def test_a_cache_that_rows_cannot_be_taken_from_is_not_shared(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pluralign"):
        backbone = decoder("lfm2")
    assert not backbone.run_mode.share_prompts
    assert "each text is run whole" in caplog.text
    prompt = "please write a poem about rain and the moon"
    rows = [talk(prompt, text) for text in ("yes", "no, never", "the cat")]
    expected = decoder("lfm2", share_prompts=False).embed(rows, progress=False)
    assert torch.equal(backbone.embed(rows, progress=False).response, expected.response)


def test_positions_are_left_to_models_that_count_them_in_another_way() -> None:
    # RoBERTa counts from behind the pad token's id; positions from 0 would give other vectors.
    assert not decoder("roberta").run_mode.positions
    assert decoder("gpt2").run_mode.positions


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_not_a_reason_to_run_in_another_way(dtype: torch.dtype) -> None:
    for name in ("gpt2", "mixtral", "mistral"):
        for side in ("right", "left"):
            exact, half = decoder(name, padding_side=side), decoder(name, dtype, padding_side=side)
            assert half.run_mode == exact.run_mode, name
    assert encoder("bert", dtype).run_mode.fill == "right"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_hides_no_fault(dtype: torch.dtype) -> None:
    assert encoder("mobilebert", dtype).run_mode.fill == "equal"
    assert decoder("rwkv", dtype, padding_side="left").run_mode.fill == "right"
    assert not decoder("roberta", dtype).run_mode.positions
    assert not decoder("lfm2", dtype).run_mode.share_prompts


def test_random_numbers_are_left_as_they_were() -> None:
    tokenizer = byte_tokenizer(TEMPLATE)
    model = model_of(tiny_config("gpt2", len(tokenizer)))
    before, np_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    in_memory(model, tokenizer)
    with pytest.raises(ArtifactError):
        in_memory(model.train(), tokenizer)  # draws dropout masks
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], np_before)  # noqa: NPY002


# -- refusals --------------------------------------------------------------------------------------


def test_a_model_with_other_outputs_each_time_is_refused() -> None:
    tokenizer = byte_tokenizer(TEMPLATE)
    model = model_of(tiny_config("gpt2", len(tokenizer))).train()  # with dropout
    with pytest.raises(ArtifactError, match="tiny returns different numbers each time"):
        in_memory(model, tokenizer)


def test_a_model_that_looks_ahead_cannot_read_prompt_and_response_in_one_pass() -> None:
    with pytest.raises(ArtifactError, match="tiny looks ahead.*context='response' or context='pair'"):
        encoder("bert", context="conversation")


def test_what_gives_no_states_is_refused_with_the_reason() -> None:
    tokenizer = word_tokenizer()
    with pytest.raises(ArtifactError, match=r"tiny \(PerceiverModel\) returns no states for token ids alone"):
        in_memory(model_of(encoder_config("perceiver", len(tokenizer))), tokenizer, "response")


def test_texts_that_are_too_short_for_a_model_are_named() -> None:
    tokenizer = bare_tokenizer(pad_token="[PAD]")
    backbone = in_memory(model_of(encoder_config("canine", len(tokenizer))), tokenizer, "response")
    rows = [[{"role": "assistant", "content": text}] for text in ("the cat sat on the mat", "the cat")]
    assert backbone.embed(rows[:1], progress=False).response.isfinite().all()
    with pytest.raises(ArgumentError, match="response of conversation 1 has 2 tokens.*fewer than 4"):
        backbone.embed(rows, progress=False)


def test_numbers_that_are_not_finite_are_reported_at_load() -> None:
    tokenizer = byte_tokenizer(TEMPLATE)
    model = model_of(tiny_config("llama", len(tokenizer)))
    model.norm.weight.fill_(torch.inf)
    with pytest.raises(ArgumentError, match="not finite in float32"):
        in_memory(model, tokenizer)


# -- token ids that a model does not have ----------------------------------------------------------


def extended(template: str | None = TEMPLATE) -> tuple[Any, Any]:
    """A tokenizer with a pad token that the model has no row for."""
    tokenizer = byte_tokenizer(template)
    size = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    return tokenizer, model_of(tiny_config("llama", size))


def test_a_pad_token_without_a_row_is_never_looked_up() -> None:
    tokenizer, model = extended()
    found = in_memory(model, tokenizer).embed(ROWS, progress=False).response
    expected = in_memory(model, byte_tokenizer(TEMPLATE)).embed(ROWS, progress=False).response
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_token_without_a_row_is_named_with_its_conversation() -> None:
    tokenizer, model = extended()
    rows = [*ROWS, talk("hello", "yes [PAD] no")]
    with pytest.raises(ArgumentError, match=r"conversation 2 has the token '\[PAD\]' with id 320.*resize"):
        in_memory(model, tokenizer).embed(rows, progress=False)


def bare_tokenizer(**special: str) -> Any:
    """A tokenizer that adds no special tokens to a text."""
    from transformers import PreTrainedTokenizerFast

    backend = word_tokenizer().backend_tokenizer
    backend.post_processor = None
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", **special)


@pytest.mark.parametrize(
    "special", [{"cls_token": "[CLS]"}, {"sep_token": "[SEP]"}, {"pad_token": "[PAD]"}], ids=str
)
@pytest.mark.parametrize("context", ["response", "pair"])
def test_an_empty_text_is_its_special_token_alone_and_in_company(
    special: dict[str, str], context: str
) -> None:
    tokenizer = bare_tokenizer(**special)
    model = model_of(encoder_config("bert", len(tokenizer)))
    backbone = in_memory(model, tokenizer, context)
    empty, other = [{"role": "assistant", "content": ""}], [{"role": "assistant", "content": "yes the cat"}]
    alone, together = backbone.embed([empty], progress=False), backbone.embed([other, empty], progress=False)
    (token,) = special.values()
    ids = torch.tensor([[tokenizer.convert_tokens_to_ids(token)]])
    with torch.inference_mode():
        expected = model(input_ids=ids).last_hidden_state[0, 0]
    torch.testing.assert_close(alone.response[0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(together.response[1], expected, rtol=0, atol=1e-5)
    assert alone.num_tokens.tolist() == [0]


def test_an_empty_text_without_any_special_token_is_an_error_that_says_so() -> None:
    tokenizer = bare_tokenizer()
    backbone = in_memory(model_of(encoder_config("bert", len(tokenizer))), tokenizer, "response")
    rows = [[{"role": "assistant", "content": text}] for text in ("yes", "")]
    for part, row in ((rows, 1), (rows[1:], 0)):
        with pytest.raises(
            ArgumentError, match=rf"response of conversation {row} has no tokens.*no special token"
        ):
            backbone.embed(part, progress=False)


# -- widths, segments, parts -----------------------------------------------------------------------


def test_vectors_are_as_wide_as_the_states_not_as_the_configuration_says() -> None:
    tokenizer = byte_tokenizer(TEMPLATE)
    config = tiny_config("opt", len(tokenizer))
    config.word_embed_proj_dim = 16  # as in OPT-350m
    backbone = in_memory(model_of(config), tokenizer)
    assert (backbone.prompt_size, backbone.response_size) == (16, 16)
    assert backbone.embed(ROWS, progress=False).response.shape == (2, 16)


@pytest.mark.parametrize("name", ["distilbert", "roberta"])
def test_segments_are_for_models_that_have_them(name: str) -> None:
    # The tokenizer numbers the second text of a pair 1; DistilBERT takes no numbers, RoBERTa has a row for 0.
    backbone = encoder(name, context="pair")
    found = backbone.embed(ROWS, progress=False).response
    pair = backbone.tokenizer("hello", "no")
    with torch.inference_mode():
        states = backbone.model(input_ids=torch.tensor([pair["input_ids"]])).last_hidden_state[0]
    torch.testing.assert_close(found[0], states[pair["token_type_ids"].index(1) :].mean(0), rtol=0, atol=1e-5)


SIGHT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
LLAMA4_SIGHT = SIGHT | {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}


@pytest.mark.parametrize(
    ("name", "text", "sight"), [("llama4", "llama4_text", LLAMA4_SIGHT), ("gemma3", "gemma3_text", SIGHT)]
)
def test_of_a_model_that_sees_only_the_text_part_is_kept(
    name: str, text: str, sight: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import CONFIG_MAPPING

    tokenizer = byte_tokenizer(TEMPLATE)
    part = tiny_config(text, len(tokenizer)).to_dict()
    # transformers 5.0 reads a pad token that Llama 4's config lacks.
    config = CONFIG_MAPPING[name](text_config=part, vision_config=sight, pad_token_id=None)
    model_of(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    backbone = load(str(tmp_path), num_threads=1)
    assert "Text" in type(backbone.model).__name__
    assert backbone.config.context == "conversation"
    ids = tokenizer.apply_chat_template(ROWS[1], tokenize=True)["input_ids"]
    with torch.inference_mode():
        state = backbone.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    torch.testing.assert_close(backbone.embed(ROWS, progress=False).response[1], state, rtol=0, atol=1e-4)
