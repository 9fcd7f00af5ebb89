"""The trainer tries a model where and as it will run, and packs as that allows."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM
from transformers.masking_utils import sdpa_mask

import tiny_architectures
import tiny_policy
import tiny_tables
from half_attention import half_only, needs_half_attention
from pluralign.errors import ArgumentError
from pluralign.policy import FunctionReward, OfflineConfig, OfflineTrainer

LENGTH = FunctionReward(lambda prompts, texts: [float(len(text)) for text in texts], "length")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def made(folder, model, evaluation=None, reward=None, ref_model=None, **options):
    defaults = {"method": "dpo", "beta": 0.5, "report_to": "none", "use_cpu": True, "disable_tqdm": True}
    defaults |= {"logging_steps": 1, "eval_max_new_tokens": 4, "per_device_train_batch_size": 6}
    return OfflineTrainer(
        model,
        OfflineConfig(str(folder), **(defaults | options)),
        tiny_tables.pairs(6),
        evaluation,
        tiny_policy.tokenizer(),
        reward=reward,
        ref_model=ref_model,
    )


def tiny(name: str, **changes):
    config = tiny_architectures.tiny_config(name, 261)
    for key, value in changes.items():
        assert hasattr(config, key)
        setattr(config, key, value)
    torch.manual_seed(0)
    return tiny_architectures.roughen(AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("opt", {"dropout": 0.1, "attention_dropout": 0.1}),  # DPRM's own backbone
        ("bloom", {"hidden_dropout": 0.1, "attention_dropout": 0.1}),
        ("starcoder2", {"residual_dropout": 0.1}),
        ("gpt_bigcode", {"attn_pdrop": 0.1}),
        ("llama4_text", {}),
    ],
)
def test_the_first_loss_of_dpo_is_log_2(tmp_path, name, changes):
    trainer = made(tmp_path, tiny(name, **changes), max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_what_stays_random_is_refused_unless_dropout_is_asked_for(tmp_path):
    with pytest.raises(ArgumentError, match=r"PhimoeForCausalLM in training mode differs"):
        made(tmp_path, tiny("phimoe"))
    made(tmp_path, tiny("phimoe"), disable_dropout=False)


@needs_half_attention
def test_flash_attention_packs_only_what_it_keeps_apart(tmp_path):
    """The name is what the trainer goes by; the numbers are those of plain attention."""
    AttentionInterface.register("flash_half_only", half_only)
    AttentionMaskInterface.register("flash_half_only", sdpa_mask)
    for name, bin_tokens in (("llama", None), ("lfm2", 1)):
        model = tiny(name)
        model.config._attn_implementation_internal = "flash_half_only"  # set by name, it would be looked for
        trainer = made(tmp_path / name, model, bf16=True, max_steps=1)
        assert trainer.data_collator.bin_tokens == bin_tokens
        trainer.train()
        assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(2), abs=0.02)


@needs_half_attention
def test_attention_for_half_precision_alone_trains_evaluates_and_has_a_reference(tmp_path):
    AttentionInterface.register("half_only", half_only)
    AttentionMaskInterface.register("half_only", sdpa_mask)
    policy, reference = tiny_policy.model(), tiny_policy.model()
    for model in (policy, reference):
        model.set_attn_implementation("half_only")
    evaluation = tiny_tables.pairs(2, 1)
    trainer = made(tmp_path, policy, evaluation, LENGTH, reference, bf16=True, max_steps=1)
    assert trainer.data_collator.bin_tokens == 512
    trainer.train()
    # The same weights, under the same autocast, so that they differ by rounding.
    assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(2), abs=0.02)
    metrics = trainer.evaluate()
    assert math.isfinite(metrics["eval_samples/kl"])


@pytest.mark.parametrize(("policy", "reference"), [("llama", "lfm2"), ("lfm2", "llama")])
def test_policy_and_reference_are_packed_each_as_it_allows(tmp_path, policy, reference):
    evaluation = tiny_tables.pairs(3, 1)
    trainer = made(tmp_path, tiny(policy), evaluation, LENGTH, tiny(reference).eval())
    assert trainer.data_collator.bin_tokens == (512 if policy == "llama" else 1)
    trainer.ensure_reference()
    other = made(tmp_path / "own", tiny(reference))
    other.ensure_reference()
    torch.testing.assert_close(trainer._reference[:6], other._reference, atol=1e-4, rtol=1e-5)
    first = trainer.evaluate()
    again = made(tmp_path / "again", tiny(policy), evaluation, LENGTH, tiny(reference).eval(), bin_tokens=1)
    assert first["eval_samples/kl"] == pytest.approx(again.evaluate()["eval_samples/kl"], abs=1e-3)
