"""A bandit made of the lab: a prompt, 33 responses to choose from, and what the crowd truly thinks of each.

In: features, a seed. Out: reward models fitted on what people said of other texts, what they say of every
response, and a policy small enough that its choice can be computed exactly. It trains nothing.

Prompts and responses are the pools of `studies.brme.world`: 24 usual responses and 2 of each of four styles
that the rated texts hardly hold. A letter stands for a response, and two letters for a prompt; a policy that
ends at once has said nothing, which is the 33rd response. So one token decides, and E[reward] under a policy,
its KL and the optimum of E[u] - beta KL are sums.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from studies.brme import ensembles
from studies.brme import world as brme

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEF"
END = "<end>"
ANSWERS = len(LETTERS) + 1
FAMILIES = ("gaussian_ensemble", "quantile")


def prompt_of(place: int) -> str:
    """The two letters of a prompt."""
    first, second = divmod(place, len(LETTERS))
    return LETTERS[first] + LETTERS[second]


@functools.cache
def conversations() -> list[list[dict[str, str]]]:
    """Prompt by prompt, the empty response first, as the end token is the first of the vocabulary."""
    pools = brme.pools().conversations
    found = []
    for place in range(brme.PROMPTS):
        own = pools[place * brme.POOL : (place + 1) * brme.POOL]
        found += [[*own[0][:-1], {"role": "assistant", "content": ""}], *own]
    return found


@dataclass(frozen=True)
class Truth:
    """What the crowd thinks, each [prompts, answers]: mean, worst 5 % of people; which are unusual."""

    gold: Tensor
    tail: Tensor
    unusual: Tensor


@functools.cache
def truth() -> Truth:
    """Of every response; the empty one is unusual."""
    found = brme.CROWD.truth(conversations())
    shape = (brme.PROMPTS, ANSWERS)
    place = torch.arange(ANSWERS).expand(shape)
    unusual = (place == 0) | (place > brme.USUAL)
    return Truth(found.mean().double().reshape(shape), found.cvar(0.05).double().reshape(shape), unusual)


@functools.cache
def distribution(family: str, features: str, seed: int) -> Any:
    """What a reward model of this family predicts for every response."""
    if family == "gaussian_ensemble":
        model = ensembles.fit(features, seed)
    else:
        model = pl.fit(
            family,
            ratings=brme.ratings(seed),
            backbone=brme.backbone(features),
            cache=brme.cache_of(features),
            config={"baselines": False, "dequantise": False},
            progress=False,
        )
    return model.distribution(conversations())


def utilities(family: str, features: str, seed: int, measure: str) -> Tensor:
    """What a risk measure makes of it, [prompts, answers], float64."""
    found = pl.risk.parse(measure)(distribution(family, features, seed))
    return found.double().reshape(brme.PROMPTS, ANSWERS)


def tokenizer() -> Any:
    """A token for each letter."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({t: i for i, t in enumerate([END, *LETTERS])}, unk_token=LETTERS[0]))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    raw.decoder = decoders.Fuse()
    raw.add_special_tokens([END])
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=END)


def policy(seed: int) -> Any:
    """A language model of two layers that likes all responses almost the same."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=ANSWERS,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=8,
        bos_token_id=None,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@torch.inference_mode()
def log_probs(model: Any) -> Tensor:
    """Of every response to every prompt, [prompts, answers], float64."""
    asked = tokenizer()([prompt_of(place) for place in range(brme.PROMPTS)], return_tensors="pt").input_ids
    return model(input_ids=asked).logits[:, -1].double().log_softmax(-1)


def optimum(reference: Tensor, utility: Tensor, beta: float) -> Tensor:
    """log pi of the policy with the largest E[u] - beta KL: pi proportional to ref exp(u / beta)."""
    return (reference + utility / beta).log_softmax(-1)


def outcome(policy_log_probs: Tensor, reference: Tensor, utility: Tensor) -> dict[str, float]:
    """Expectations under a policy, mean over prompts; utilities in the reference's standard deviations."""
    probs, known = policy_log_probs.exp(), truth()
    mean, std = unit(utility, reference)
    columns = {
        "kl": policy_log_probs - reference,
        "utility": (utility - mean) / std,
        "gold": known.gold,
        "tail": known.tail,
        "unusual": known.unusual.double(),
    }
    return {name: float((probs * column).sum(1).mean()) for name, column in columns.items()}


def unit(utility: Tensor, reference: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of a utility over the reference's responses to all prompts."""
    probs = reference.exp() / len(reference)
    mean = float((probs * utility).sum())
    return mean, float((probs * (utility - mean).square()).sum().sqrt())
