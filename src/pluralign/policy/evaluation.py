"""What a policy says: samples of it, judged and measured against the reference.

In: prompts, a sampler, a reward source, functions that score texts under policy and reference. Out: numbers
by name. It knows nothing about training.

    reward, reward_q10, _q50, _q90   mean and quantiles of the samples' rewards
    rank                             their mean quantile reward among the references, 1/2 for the reference
    length, cut_off                  tokens, and the share that hit the limit
    kl                               mean of log pi - log ref over samples: unbiased, may be negative
    kl_k3                            mean of ref/pi - 1 + log pi - log ref: never negative, less noisy near 0
    length_correlation               Spearman of relative length and log pi - log ref (`length_bias`)

The texts are tokenized again to be scored, as in training, so a KL is that of texts and not of token paths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.policy.length_control import length_bias
from pluralign.policy.ranks import pad_references, quantile_rewards
from pluralign.policy.rewarding import RewardSource, rewards_of
from pluralign.policy.sampling import Completion, Prompt, Sampler, SamplingSettings

__all__ = ["JudgedSample", "draw_and_judge", "summarize"]

Score = Callable[[Sequence[Prompt], Sequence[Completion]], Tensor]  # log-probabilities, [B]


@dataclass(frozen=True)
class JudgedSample:
    """One sample of the policy.

    Attributes:
        num_tokens: tokens drawn, the end token included.
        cut_off: whether it hit the token limit.
        reward: None where there is no reward source.
        log_ratio: log pi(y|x) - log ref(y|x); None where the reference is not at hand.
        ref_rewards: rewards of the reference's completions to the prompt, where they are known.
        ref_lengths: their lengths in tokens, where they are known.
    """

    num_tokens: int
    cut_off: bool
    reward: float | None
    log_ratio: float | None
    ref_rewards: Sequence[float] | None
    ref_lengths: Sequence[int] | None


def draw_and_judge(
    rows: Sequence[Mapping[str, Any]],
    sampler: Sampler,
    settings: SamplingSettings,
    reward: RewardSource | None,
    policy: Score | None,
    reference: Score | None,
) -> list[JudgedSample]:
    """Samples completions, scores and judges them.

    Args:
        rows: prompts (message lists), and where known ref_rewards and ref_lengths.
        sampler: draws from the policy.
        settings: how many, how long, seed.
        reward: judges texts; None judges nothing.
        policy: log-probabilities of texts under the policy.
        reference: the same under the reference; None measures no KL.

    Returns:
        settings.completions samples per row, in the order of the rows.
    """
    if not rows:
        return []
    drawn = sampler.sample([row["prompt"] for row in rows], settings)
    pairs = [(row, sample) for row, samples in zip(rows, drawn, strict=True) for sample in samples]
    prompts, samples = [row["prompt"] for row, _ in pairs], [sample for _, sample in pairs]
    texts = {"prompt": prompts, "completion": [sample.text for sample in samples]}
    rewards = [None] * len(pairs) if reward is None else rewards_of(reward, texts, "samples of the policy")
    ratios: list[Any] = [None] * len(pairs)
    if policy is not None and reference is not None:
        ratios = (policy(prompts, samples).double() - reference(prompts, samples).double()).tolist()
    return [
        JudgedSample(sample.num_tokens, sample.cut_off, r, d, row.get("ref_rewards"), row.get("ref_lengths"))
        for (row, sample), r, d in zip(pairs, rewards, ratios, strict=True)
    ]


def summarize(samples: Sequence[JudgedSample]) -> dict[str, float]:
    """The numbers above, as far as the samples tell them.

    Raises:
        ArgumentError: there are no samples.
    """
    if not samples:
        raise ArgumentError("summarize needs at least one sample, received none")
    lengths = torch.tensor([float(sample.num_tokens) for sample in samples])
    found = {"length": lengths.mean().item(), "cut_off": sum(s.cut_off for s in samples) / len(samples)}
    judged = [(s.reward, s.ref_rewards) for s in samples if s.reward is not None]
    if judged:
        rewards = torch.tensor([reward for reward, _ in judged], dtype=torch.float64)
        found["reward"] = rewards.mean().item()
        for percent in (10, 50, 90):
            found[f"reward_q{percent}"] = rewards.quantile(percent / 100).item()
        ranked = [(reward, references) for reward, references in judged if references]
        if ranked:
            references, keep = pad_references([references for _, references in ranked])
            values = torch.tensor([reward for reward, _ in ranked], dtype=torch.float64)
            ranks = quantile_rewards(values, references, leave_one_out=False, keep_mask=keep)
            found["rank"] = ranks.mean().item()
    ratios = torch.tensor([s.log_ratio for s in samples if s.log_ratio is not None], dtype=torch.float64)
    if len(ratios):
        found["kl"] = ratios.mean().item()
        found["kl_k3"] = (torch.expm1(-ratios) + ratios).mean().item()
        correlation = _length_correlation(samples)
        if correlation is not None:
            found["length_correlation"] = correlation
    return found


def _length_correlation(samples: Sequence[JudgedSample]) -> float | None:
    """Of the samples whose references' lengths are known; None where they are too few or all alike."""
    known = [s for s in samples if s.log_ratio is not None and s.ref_lengths]
    if not known:
        return None
    lengths, keep = pad_references([s.ref_lengths or () for s in known])
    ratios = torch.tensor([s.log_ratio for s in known])
    try:
        return length_bias(ratios, torch.tensor([float(s.num_tokens) for s in known]), lengths, keep)
    except ArgumentError:  # a constant has no ranks
        return None
