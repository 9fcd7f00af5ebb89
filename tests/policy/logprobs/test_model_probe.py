"""The probe of a policy: leaks however small, half precision, what is random in training, where it runs."""

from __future__ import annotations

import pytest
import torch
from transformers import CONFIG_MAPPING, AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM

import tiny_architectures
import tiny_policy
from half_attention import half_only, needs_half_attention
from pluralign.errors import ArgumentError
from pluralign.policy.logprobs.loading import disable_dropout
from pluralign.policy.logprobs.packing import pack
from pluralign.policy.logprobs.scored_forward import (
    attach,
    examine,
    install,
    response_log_probs,
    response_token_log_probs,
    row_tokens,
)

CPU = torch.device("cpu")


def recurrent(seed: int):
    """A small RecurrentGemma: its convolutions reach 3 tokens back, into the sequence before."""
    torch.manual_seed(seed)
    config = CONFIG_MAPPING["recurrent_gemma"](
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        lru_width=32,
        attention_window_size=8,
        initializer_range=0.3,
        pad_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
@pytest.mark.parametrize("half", [None, "weights", "autocast"])
def test_a_convolution_that_reaches_into_the_next_sequence_is_seen(seed, half):
    model = recurrent(seed)
    model = model.bfloat16() if half == "weights" else model
    with torch.autocast("cpu", torch.bfloat16, enabled=half == "autocast"):
        assert not install(model)


class Leaky(torch.nn.Module):
    """Adds to the states of a decoder's layer what a leak adds: `scale` times the mean of the row so far."""

    def __init__(self, layer, scale: float, of_tokens: bool) -> None:
        super().__init__()
        self.layer, self.scale, self.of_tokens = layer, scale, of_tokens

    def forward(self, states, **options):
        places = torch.arange(1, states.shape[1] + 1).reshape(1, -1, 1)
        position = (
            options["position_ids"].unsqueeze(-1) if options.get("position_ids") is not None else places - 1
        )
        before = places - 1 - position  # tokens of the row that belong to other sequences
        if self.of_tokens:  # the token just before the sequence
            first = (places - 1 - position).clamp(min=1).squeeze(-1).squeeze(0) - 1
            leak = states[:, first] * (before > 0)
        else:  # only how many there are: a position that counts on
            leak = before.clamp(max=1).to(states) * torch.ones_like(states)
        return self.layer(states + self.scale * leak.to(states.dtype), **options)


@needs_half_attention
@pytest.mark.parametrize("of_tokens", [True, False])
@pytest.mark.parametrize(("half", "scale"), [(False, 1e-3), (True, 5e-2)])
def test_leaks_that_the_old_tolerance_let_pass(of_tokens, half, scale):
    """A thousandth of a state in float32, and in bfloat16 what moves a sequence by a tenth of a nat."""
    model = tiny_policy.model()
    assert install(model.bfloat16() if half else model)
    model = tiny_policy.model()
    model.model.layers[0] = Leaky(model.model.layers[0], scale, of_tokens)
    assert not install(model.bfloat16() if half else model)


@needs_half_attention
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_ordinary_model_is_packed_in_half_precision_too(seed):
    for name in ("llama", "gemma2", "mixtral"):
        assert install(tiny_architectures.tiny_model(name, seed=seed).bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            assert install(tiny_architectures.tiny_model(name, seed=seed))


def test_the_probe_leaves_everything_as_it_was():
    model = tiny_architectures.tiny_model("gpt2")
    model.train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    hooks = len(model.get_input_embeddings()._forward_hooks)
    disable_dropout(model)
    state = torch.get_rng_state()
    attach(model)
    assert examine(model, without_dropout=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert len(model.get_input_embeddings()._forward_hooks) == hooks


def test_where_no_probe_can_run_nothing_is_packed():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny_architectures.tiny_config("llama"))
    assert not install(model)
    for sharded in (False, True):
        assert row_tokens(model, False, None, CPU, sharded) == 1
    model.config._attn_implementation = "flash_attention_2"
    assert row_tokens(model, False, 10_000, CPU) == 1


def test_how_many_tokens_share_a_row():
    model = tiny_policy.model()
    assert row_tokens(model, True, None, CPU) == 512
    assert row_tokens(model, True, None, torch.device("cuda")) == 2048
    assert row_tokens(model, True, 100, CPU) == 100
    assert row_tokens(model, True, 100, CPU, sharded=True) is None
    model.config._attn_implementation = "flash_attention_2"
    assert row_tokens(model, True, 100, CPU) is None
    # Attention in chunks of the row: chunks of a sequence only where a row is no longer than one.
    chunked = tiny_architectures.tiny_model("llama4_text")
    assert row_tokens(chunked, True, None, CPU) == 16
    assert row_tokens(chunked, True, None, CPU, sharded=True) == 1
    # Positions that change beyond a length: sequences in a row stay below it, or stand alone.
    long = tiny_architectures.tiny_model("phi3", **tiny_architectures.LONG_ROPE)
    assert row_tokens(long, True, None, CPU) == tiny_architectures.SWITCH
    assert row_tokens(long, True, None, CPU, sharded=True) == 1


@torch.no_grad()
@pytest.mark.parametrize("sharded", [False, True])
def test_a_longer_sequence_in_the_row_changes_no_log_probability(sharded):
    model = tiny_architectures.tiny_model("phi3", **tiny_architectures.LONG_ROPE)
    apart = install(model)
    random = torch.Generator().manual_seed(3)
    draw = [torch.randint(2, 64, (count,), generator=random).tolist() for count in (10, 20, 46, 50, 70)]
    rows = [(one[:4], one[4:]) for one in draw]
    wanted = []
    for prompt, response in rows:
        logits = model(input_ids=torch.tensor([[*prompt, *response][:-1]]), use_cache=False).logits[0]
        log_probs = logits[len(prompt) - 1 :].double().log_softmax(-1)
        wanted.append(log_probs.gather(1, torch.tensor(response)[:, None]).sum().item())
    found = response_log_probs(model, pack(rows, row_tokens(model, apart, None, CPU, sharded)))
    assert found.tolist() == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("kind", [TypeError, RuntimeError])
def test_a_model_that_takes_no_packed_row_runs_alone(kind):
    model = tiny_policy.model()
    plain = model.model.forward

    def forward(*args, position_ids=None, **options):
        if position_ids is not None:
            raise kind("forward() got an unexpected keyword argument 'position_ids'")
        return plain(*args, **options)

    model.model.forward = forward
    assert not install(model)
    rows = [([3, 4], [5, 6, 7]), ([8], [9])]
    found = response_log_probs(model, pack(rows, 1))
    other = tiny_policy.model()
    assert install(other)
    torch.testing.assert_close(found, response_log_probs(other, pack(rows, None)), atol=1e-5, rtol=1e-5)


def test_a_number_that_is_none_is_not_agreement():
    model = tiny_policy.model()
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(ArgumentError, match="differ by up to inf nats"):
        install(model)


def test_a_model_that_sees_what_comes_after_is_refused():
    from transformers import BertGenerationConfig, BertGenerationDecoder

    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    torch.manual_seed(0)
    model = BertGenerationDecoder(BertGenerationConfig(vocab_size=64, hidden_size=32, **sizes))
    with pytest.raises(ArgumentError, match="BertGenerationDecoder is not causal"):
        install(tiny_architectures.roughen(model))


# ---- what is random in training ---------------------------------------------------------------------------

RANDOM = {
    "opt": {"dropout": 0.1, "attention_dropout": 0.1},
    "bloom": {"hidden_dropout": 0.1, "attention_dropout": 0.1},
    "gpt_bigcode": {"attn_pdrop": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1},
    "starcoder2": {"residual_dropout": 0.1, "embedding_dropout": 0.1, "attention_dropout": 0.1},
    "biogpt": {"hidden_dropout_prob": 0.1, "activation_dropout": 0.1, "layerdrop": 0.5},
    "xglm": {"dropout": 0.1, "activation_dropout": 0.1, "layerdrop": 0.5},
    "bart": {"dropout": 0.1, "activation_dropout": 0.1, "decoder_layerdrop": 0.5},
    "marian": {"dropout": 0.1, "attention_dropout": 0.1, "decoder_layerdrop": 0.5},
    "pegasus": {"dropout": 0.1, "attention_dropout": 0.1, "decoder_layerdrop": 0.5},
    "mixtral": {"router_jitter_noise": 0.1, "attention_dropout": 0.1},
    "gpt_neox": {"hidden_dropout": 0.1, "attention_dropout": 0.1},
    "ctrl": {"resid_pdrop": 0.1, "embd_pdrop": 0.1},
}


@pytest.mark.parametrize("name", RANDOM)
def test_every_kind_of_dropout_is_switched_off(name):
    config = tiny_architectures.tiny_config(name)
    for key, value in RANDOM[name].items():
        assert hasattr(config, key)
        setattr(config, key, value)
    torch.manual_seed(0)
    model = tiny_architectures.roughen(AutoModelForCausalLM.from_config(config)).eval()
    attach(model)
    with pytest.raises(ArgumentError, match=rf"{type(model).__name__} in training mode differs"):
        examine(model, without_dropout=True)
    examine(model)  # as it is in evaluation mode it can be used
    rows = [([3, 4, 5], [6, 7, 8, 9, 10]), ([8], [9, 10, 11])]
    with torch.no_grad():
        before = torch.cat(response_token_log_probs(model, pack(rows, 1)))
        disable_dropout(model)
        after = torch.cat(response_token_log_probs(model, pack(rows, 1)))
    torch.testing.assert_close(after, before)
    examine(model, without_dropout=True)


def test_what_stays_random_is_refused():
    model = tiny_architectures.tiny_model("opt")
    disable_dropout(model)

    class Noisy(torch.nn.Module):
        def forward(self, states):
            return torch.nn.functional.dropout(torch.nn.functional.relu(states), 0.1, self.training)

    model.model.decoder.layers[1].activation_fn = Noisy()
    attach(model)
    with pytest.raises(ArgumentError, match=r"OPTForCausalLM in training mode differs .* randomness"):
        examine(model, without_dropout=True)


# ---- where it runs ----------------------------------------------------------------------------------------


@pytest.fixture
def half_only_model():
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register("half_only", half_only)
    AttentionMaskInterface.register("half_only", sdpa_mask)
    model = tiny_policy.model()
    model.set_attn_implementation("half_only")
    return model


@needs_half_attention
def test_attention_that_is_made_for_half_precision_is_probed_in_it(half_only_model):
    attach(half_only_model)
    with pytest.raises(RuntimeError, match="only supports fp16 and bf16"):
        examine(half_only_model)
    with torch.autocast("cpu", torch.bfloat16):
        assert examine(half_only_model)
