"""Policies so small that everything can be enumerated: five letters, an end token, short answers."""

from __future__ import annotations

import itertools
from typing import Any

import torch

LETTERS = "xabcd"
END = "<end>"
PROMPTS = ["xa", "xbc", "c", "ddda"]
SETTINGS = {  # of a short online run
    "steps": 3,
    "prompts_per_step": 4,
    "completions": 2,
    "max_new_tokens": 5,
    "beta": 0.2,
    "epochs": 2,
    "learning_rate": 1e-2,
    "critic_learning_rate": 1e-2,
}


def reward(conversations: list[Any]) -> list[float]:
    """Likes the letter a, and short answers."""
    return [one[-1]["content"].count("a") - 0.1 * len(one[-1]["content"]) for one in conversations]


def tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate([END, *LETTERS])}
    raw = Tokenizer(models.WordLevel(vocab=vocab, unk_token="x"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    raw.decoder = decoders.Fuse()
    raw.add_special_tokens([END])
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=END)


def model(seed: int = 0, positions: int = 32) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(LETTERS) + 1,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def answers(length: int) -> list[tuple[int, ...]]:
    """All answers of at most `length` tokens: those that end, and those that are cut off."""
    letters = range(1, len(LETTERS) + 1)
    found: list[tuple[int, ...]] = []
    for size in range(length):
        found += [(*one, 0) for one in itertools.product(letters, repeat=size)]
    return found + list(itertools.product(letters, repeat=length))


def text_of(answer: tuple[int, ...]) -> str:
    return "".join(LETTERS[token - 1] for token in answer if token)


@torch.no_grad()
def log_probs(policy: Any, prompt: str, length: int) -> torch.Tensor:
    """log pi of each of `answers(length)`, float64, by full logits of one answer at a time."""
    before = [LETTERS.index(letter) + 1 for letter in prompt]
    found = []
    for answer in answers(length):
        logits = policy(input_ids=torch.tensor([[*before, *answer]])).logits[0, len(before) - 1 : -1]
        found.append(logits.double().log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum())
    return torch.stack(found)


def optimum(reference: torch.Tensor, rewards: torch.Tensor, beta: float) -> tuple[torch.Tensor, float]:
    """pi* proportional to ref exp(R / beta), and E[R] - beta KL there: beta log E_ref[exp(R / beta)]."""
    tilted = reference + rewards / beta
    return tilted.log_softmax(0).exp(), beta * float(tilted.logsumexp(0))


def objective(policy: torch.Tensor, reference: torch.Tensor, rewards: torch.Tensor, beta: float) -> float:
    """E[R] - beta KL(pi || ref)."""
    return float((policy.exp() * (rewards - beta * (policy - reference))).sum())
