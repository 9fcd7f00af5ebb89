"""The second call of a model: the numbers of its own logits, packed or not, and other calls unchanged."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import tiny_policy
from pluralign.errors import ArgumentError
from pluralign.policy.logprobs.packing import pack
from pluralign.policy.logprobs.scored_forward import install, response_log_probs

SHARED = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
SEQUENCES = [([3, 4, 5], [6, 7]), ([8], [9, 10, 11, 12, 1]), ([13, 14], [15])]


def models():
    torch.manual_seed(0)
    yield "gemma2 with capped logits", Gemma2ForCausalLM(Gemma2Config(**SHARED, final_logit_softcapping=2.0))
    yield "cohere with scaled logits", CohereForCausalLM(CohereConfig(**SHARED, logit_scale=0.3))
    yield "granite with divided logits", GraniteForCausalLM(GraniteConfig(**SHARED, logits_scaling=3.0))
    yield "qwen3", Qwen3ForCausalLM(Qwen3Config(**SHARED))
    config = {"bos_token_id": 0, "eos_token_id": 1, "initializer_range": 0.3}
    yield "gpt2", GPT2LMHeadModel(GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, **config))


def from_logits(model, sequences):
    """The reference: one sequence at a time, full logits."""
    sums = []
    for prompt, response in sequences:
        logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
        sums.append(logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None]).sum())
    return torch.stack(sums)


@pytest.mark.parametrize(
    ("name", "model"), list(models()), ids=lambda value: value if isinstance(value, str) else ""
)
@pytest.mark.parametrize("bin_tokens", [1, 7, None])
def test_packed_equals_unpacked_in_value_and_gradient(name, model, bin_tokens):
    model.eval()
    wanted = from_logits(model, SEQUENCES)
    gradients = torch.autograd.grad((wanted * torch.tensor([1.0, -2.0, 0.5])).sum(), list(model.parameters()))
    assert install(model)
    found = response_log_probs(model, pack(SEQUENCES, bin_tokens))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    ours = torch.autograd.grad((found * torch.tensor([1.0, -2.0, 0.5])).sum(), list(model.parameters()))
    for one, other in zip(ours, gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_sdpa_and_eager_attention_agree():
    model = tiny_policy.model()
    install(model)
    packed = pack(SEQUENCES, None)
    first = response_log_probs(model, packed)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(response_log_probs(model, packed), first, atol=1e-5, rtol=1e-5)


def test_other_calls_are_as_before_and_copies_are_their_own():
    model = tiny_policy.model()
    ids = torch.tensor([[3, 4, 5]])
    before = model(input_ids=ids).logits
    drawn = model.generate(ids, max_new_tokens=4, do_sample=False)
    keys = set(model.state_dict())
    install(model)
    install(model)  # twice is once
    assert torch.equal(model(input_ids=ids).logits, before)
    assert torch.equal(model.generate(ids, max_new_tokens=4, do_sample=False), drawn)
    assert set(model.state_dict()) == keys
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    log_probs = response_log_probs(other, pack(SEQUENCES, None))
    assert log_probs.tolist() == pytest.approx(
        [-len(r) * torch.log(torch.tensor(261.0)).item() for _, r in SEQUENCES]
    )
    assert torch.equal(model(input_ids=ids).logits, before)


def test_gradient_checkpointing_changes_nothing():
    model = tiny_policy.model()
    install(model)
    packed = pack(SEQUENCES, None)
    model.train()
    plain = torch.autograd.grad(response_log_probs(model, packed).sum(), model.lm_head.weight)[0]
    model.gradient_checkpointing_enable()
    again = torch.autograd.grad(response_log_probs(model, packed).sum(), model.lm_head.weight)[0]
    torch.testing.assert_close(again, plain)


def test_unknown_treatment_of_logits_is_refused():
    model = tiny_policy.model()
    inner = model.forward

    def doubled(*args, **options):
        output = inner(*args, **options)
        output.logits = 2 * output.logits
        return output

    model.forward = doubled
    with pytest.raises(ArgumentError, match="changes its logits"):
        install(model)


def test_a_model_that_mixes_packed_sequences_is_noticed():
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=61, hidden_size=32, num_hidden_layers=2)).eval()
    wanted = from_logits(model, SEQUENCES)
    assert not install(model)
    found = response_log_probs(model, pack(SEQUENCES, 1))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_models_without_a_plain_head_are_refused():
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=61, d_model=32, d_ff=32, num_layers=1, num_heads=2, d_kv=8)
    with pytest.raises(ArgumentError, match="causal language model"):
        install(T5ForConditionalGeneration(config))
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(tiny_policy.model(), LoraConfig(target_modules=["lm_head"], r=2))
    with pytest.raises(ArgumentError, match="lm_head from an adapter"):
        install(adapted)
