"""Sampling a policy on the lab's prompts, with the log-ratio of each response to the reference policy.

In: a policy, its reference, their tokenizer, prompts. Out: `Samples`, which `outcomes` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.conversations import ConversationReader
from pluralign.errors import ArgumentError
from pluralign.lab.outcomes import Samples
from pluralign.lab.world import Message
from pluralign.policy.sampling.local import LocalSampler
from pluralign.policy.sampling.settings import SamplingSettings

__all__ = ["log_ratios", "sample_policy"]

_TOGETHER = 128  # sequences per forward pass
_MAX_NEW_TOKENS = 80


def sample_policy(
    policy: Any,
    reference: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    completions: int = 4,
    *,
    seed: int = 0,
    max_new_tokens: int = _MAX_NEW_TOKENS,
    score: Callable[[list[list[Message]]], Tensor] | None = None,
) -> Samples:
    """Samples a policy at temperature 1.

    Two policies with the same seed use the same random numbers for the same completion, so that their
    difference is less noisy than either.

    Args:
        policy: a causal language model of transformers, in this process.
        reference: the model that it was trained from; the policy itself gives log-ratios of 0.
        tokenizer: tokenizer of both.
        prompts: message lists without the response.
        completions: responses per prompt.
        seed: random seed of the sampling.
        max_new_tokens: maximum number of tokens of a response, including its end token.
        score: the proxy, from conversations to [B]; for example `model.score`.

    Returns:
        `completions` consecutive responses to each prompt, with log-ratios per token and cut-offs, and with
        the proxy if there is one.

    Raises:
        ArgumentError: prompts are not message lists, or the proxy is not finite or not [B].
    """
    if not len(prompts) or any(isinstance(prompt, str) for prompt in prompts):
        raise ArgumentError("prompts must be message lists without the response, at least one")
    reader = ConversationReader(tokenizer)
    settings = SamplingSettings(completions=completions, max_new_tokens=max_new_tokens, seed=seed)
    drawn = LocalSampler(policy, tokenizer, batch_size=4 * _TOGETHER).sample(prompts, settings)
    answered = [(prompt, one) for prompt, several in zip(prompts, drawn, strict=True) for one in several]
    sequences = [
        (
            reader.prompt_ids(prompt),
            one.token_ids or (),  # the sampled tokens; the text may have other token ids
        )
        for prompt, one in answered
    ]
    ratios = log_ratios(policy, reference, sequences)
    samples = Samples(
        [prompt for prompt, _ in answered],
        [one.text for _, one in answered],
        cut_off=torch.tensor([one.cut_off for _, one in answered]),
        log_ratios=ratios,
    )
    if score is None:
        return samples
    proxy = torch.as_tensor(score(samples.conversations))
    return Samples(samples.prompts, samples.responses, samples.cut_off, ratios, proxy)


@torch.inference_mode()
def log_ratios(
    policy: Any, reference: Any, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> Float[Tensor, "B T"]:
    """Computes log pi - log ref of each token of each response.

    Args:
        policy: a causal language model.
        reference: another one with the same tokens.
        sequences: token ids of prompt and response; the end token is part of the response.

    Returns:
        [B, T] in float32, T the longest response, 0 after the end of a response.
    """
    longest = max(len(response) for _, response in sequences)
    found = torch.zeros(len(sequences), max(longest, 1))
    order = sorted(range(len(sequences)), key=lambda row: sum(map(len, sequences[row])))
    for start in range(0, len(order), _TOGETHER):
        rows = order[start : start + _TOGETHER]
        batch = [sequences[row] for row in rows]
        difference = _token_log_probs(policy, batch) - _token_log_probs(reference, batch)
        for row, (prompt, response), values in zip(rows, batch, difference, strict=True):
            begin = len(prompt) - 1
            found[row, : len(response)] = values[begin : begin + len(response)]
    return found


def _token_log_probs(model: Any, batch: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Tensor:
    """log p of every token but the first, [B, L - 1]; padding is on the right, where it has no effect."""
    length = max(len(prompt) + len(response) for prompt, response in batch)
    ids = torch.tensor([[*p, *r] + [0] * (length - len(p) - len(r)) for p, r in batch]).to(model.device)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    chosen: Tensor = logits.gather(2, ids[:, 1:, None])[..., 0] - logits.logsumexp(-1)
    return chosen.cpu()
