"""Sixty and more architectures: right log-probabilities, packed, batched and alone, or refused by name.

Each is tiny, with random weights (`tiny_architectures`). What is trained and measured must be the model's own
numbers: in float32 up to 1e-4 nats per token, however sequences are packed, in training mode as in evaluation
mode. A model whose numbers would be others is refused, and stands in `REFUSED` with what is said of it.
"""

from __future__ import annotations

import pytest
import torch
import transformers
from packaging.version import Version

import tiny_architectures
from pluralign.errors import ArgumentError
from pluralign.policy.logprobs.loading import disable_dropout
from pluralign.policy.logprobs.packing import pack
from pluralign.policy.logprobs.scored_forward import attach, examine, response_token_log_probs, row_tokens

VOCABULARY = 64
TOLERANCE = 1e-4  # nats per token, in float32
BETWEEN = (
    "changes its logits after the head, or its states before it"  # layers that only its own forward calls
)
REFUSED = {
    **dict.fromkeys(("bert", "big_bird", "ernie", "megatron-bert", "roc_bert", "roformer"), BETWEEN),
    **dict.fromkeys(
        ("camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta"), BETWEEN
    ),
    "electra": BETWEEN,
    "modernbert-decoder": BETWEEN,
    "phimoe": "in training mode differs",  # draws its experts
    "rembert": "does not fit its decoder",
    "xlnet": "is not causal",
}
# Sequences of one row touch each other in these, in some version of transformers; each is run alone.
MIXED = {
    *("afmoe", "bamba", "bart", "bert-generation", "bigbird_pegasus", "biogpt", "blenderbot"),
    *("blenderbot-small", "bloom", "falcon", "falcon_h1", "falcon_mamba", "gpt_oss", "granitemoehybrid"),
    *(
        "jamba",
        "lfm2",
        "lfm2_moe",
        "llama4_text",
        "mamba",
        "mamba2",
        "marian",
        "mbart",
        "minimax",
        "mpt",
        "mvp",
    ),
    *("nemotron_h", "olmo_hybrid", "openai-gpt", "opt", "pegasus", "plbart", "qwen3_5_text", "qwen3_next"),
    *("recurrent_gemma", "rwkv", "trocr", "xglm", "zamba", "zamba2"),
}
QUICK = ("bloom", "falcon", "gpt_oss", "jamba", "llama4_text", "mixtral", "opt", "recurrent_gemma")


def sequences() -> list[tuple[list[int], list[int]]]:
    """Not those of the probe: other tokens, other lengths, other order."""
    random = torch.Generator().manual_seed(7)

    def draw(count: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (count,), generator=random).tolist()

    return [
        (draw(5), draw(30)),
        (draw(30), draw(3)),
        (draw(1), draw(1)),
        (draw(12), draw(12)),
        (draw(2), draw(60)),
    ]


@torch.no_grad()
def own_log_probs(model, rows, batched: bool) -> list[torch.Tensor]:
    """By the model's own logits: one sequence at a time, or all in a batch that is filled up at the end."""
    width = max(len(prompt) + len(response) for prompt, response in rows)
    filled = [[*prompt, *response, *[3] * (width - len(prompt) - len(response))] for prompt, response in rows]
    if batched:
        logits = list(model(input_ids=torch.tensor(filled), use_cache=False).logits)
    else:
        logits = [model(input_ids=torch.tensor([[*p, *r]]), use_cache=False).logits[0] for p, r in rows]
    found = []
    for one, (prompt, response) in zip(logits, rows, strict=True):
        log_probs = one[len(prompt) - 1 : len(prompt) + len(response) - 1].double().log_softmax(-1)
        found.append(log_probs.gather(1, torch.tensor(response)[:, None])[:, 0])
    return found


@torch.no_grad()
def our_log_probs(model, rows, bin_tokens: int | None) -> list[torch.Tensor]:
    return response_token_log_probs(model, pack(rows, bin_tokens))


def gap(found, wanted) -> float:
    return max((one - other).abs().max().item() for one, other in zip(found, wanted, strict=True))


def check(name: str) -> None:
    model = tiny_architectures.tiny_model(name, VOCABULARY)
    rows = sequences()
    wanted = own_log_probs(model, rows, batched=False)
    disable_dropout(model)
    assert gap(own_log_probs(model, rows, batched=False), wanted) < 1e-6, "evaluation uses what was zeroed"
    if name in REFUSED:
        attach(model)
        with pytest.raises(ArgumentError, match=REFUSED[name]) as refusal:
            examine(model, without_dropout=True)
        assert type(model).__name__ in str(refusal.value)
        return
    attach(model)
    state = torch.get_rng_state()
    apart = examine(model, without_dropout=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert apart or name in MIXED
    assert not any(module.training for module in model.modules())
    assert gap(own_log_probs(model, rows, batched=True), wanted) < TOLERANCE
    for device in (torch.device("cpu"), torch.device("cuda")):  # rows of 512 and 2,048 tokens
        for sharded in (False, True):
            bin_tokens = row_tokens(model, apart, None, device, sharded)
            assert gap(our_log_probs(model, rows, bin_tokens), wanted) < TOLERANCE
    model.train()
    assert (
        gap(our_log_probs(model, rows, row_tokens(model, apart, None, torch.device("cpu"))), wanted)
        < TOLERANCE
    )


@pytest.mark.parametrize("name", [name for name in QUICK if name in tiny_architectures.NAMES])
def test_a_few_architectures(name):
    check(name)


@pytest.mark.slow
@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.20"),
    reason="the table says what a later transformers does",
)
@pytest.mark.parametrize("name", tiny_architectures.NAMES)
def test_every_architecture(name):
    check(name)


def test_there_are_sixty_that_work():
    assert len(set(tiny_architectures.NAMES) - set(REFUSED)) >= 60
    assert set(REFUSED) | MIXED <= set(tiny_architectures.TABLE)
    assert not set(REFUSED) & MIXED
