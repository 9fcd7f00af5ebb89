"""Samples of a policy, scored and compared with the reference.

In: prompts, a sampler, a reward source, functions for log-probabilities under policy and reference. Out:
numbers by name.

    reward, reward_q10, _q50, _q90   mean and quantiles of the samples' rewards
    reward_std                       their standard deviation over samples
    gold, gold_q10                   of a second reward that is evaluated but not trained on
    signs/NAME                       the numbers of `pluralign.warning_signs` for the samples
    rank                             their mean quantile reward among the references, 1/2 for the reference
    length, cut_off                  tokens, and the share that reached the limit
    kl                               mean of log pi - log ref over samples: unbiased, can be negative
    kl_k3                            mean of the sum over tokens of ref/pi - 1 + log pi - log ref: the
                                     same mean, never negative, with less noise
    length_correlation               Spearman of relative length and log pi - log ref (`length_bias`)

If the sampler knows the sampled tokens, these are scored, so the KL is that of the sampled distribution, up
to the token limit; text that is tokenized again may become tokens that the policy would rarely sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.model.profiles import sign_values
from pluralign.policy.rewards.length_control import length_bias
from pluralign.policy.rewards.ranks import pad_references, quantile_rewards
from pluralign.policy.rewards.sources import ModelReward, RewardSource, checked_rewards, rewards_of
from pluralign.policy.sampling.settings import Completion, Prompt, Sampler, SamplingSettings

__all__ = ["ScoredSample", "columns_of", "draw_and_score", "kl_at_least", "rows_of", "summarize"]

# Log-probabilities of the tokens of each sample, or their sum.
Score = Callable[[Sequence[Prompt], Sequence[Completion]], Sequence[Tensor] | Tensor]


@dataclass(frozen=True)
class ScoredSample:
    """One sample of the policy.

    Attributes:
        num_tokens: number of sampled tokens, including the end token.
        cut_off: whether it reached the token limit.
        reward: the reward; None without a reward source.
        log_ratio: log pi(y|x) - log ref(y|x); None without a reference.
        k3: sum over tokens of ref/pi - 1 + log pi - log ref; None without a reference.
        ref_rewards: rewards of the reference's completions to the prompt, if they are known.
        ref_lengths: their lengths in tokens, if they are known.
        gold: the second reward; None if there is none.
        prompt: messages.
        text: the response.
        profile: one number for each column of `model.profiles.profile`; empty without a reward.
    """

    num_tokens: int
    cut_off: bool
    reward: float | None
    log_ratio: float | None
    k3: float | None
    ref_rewards: Sequence[float] | None
    ref_lengths: Sequence[int] | None
    gold: float | None = None
    prompt: Sequence[Mapping[str, Any]] = ()
    text: str = ""
    profile: Mapping[str, float] = field(default_factory=dict)


def draw_and_score(
    rows: Sequence[Mapping[str, Any]],
    sampler: Sampler,
    settings: SamplingSettings,
    reward: RewardSource | None,
    policy: Score | None,
    reference: Score | None,
) -> list[ScoredSample]:
    """Samples completions, and computes their log-probabilities and rewards.

    Args:
        rows: prompts (message lists), with ref_rewards and ref_lengths if they are known.
        sampler: sampler of the policy.
        settings: number of samples, length, seed.
        reward: reward of texts; None for no rewards.
        policy: log-probabilities of texts under the policy.
        reference: the same under the reference; None for no KL.

    Returns:
        settings.completions samples per row, in the order of the rows.
    """
    if not rows:
        return []
    drawn = sampler.sample([row["prompt"] for row in rows], settings)
    pairs = [(row, sample) for row, samples in zip(rows, drawn, strict=True) for sample in samples]
    prompts, samples = [row["prompt"] for row, _ in pairs], [sample for _, sample in pairs]
    texts = {"prompt": prompts, "completion": [sample.text for sample in samples]}
    rewards, profiles = _rewarded(reward, texts)
    distances: list[tuple[float, float] | tuple[None, None]] = [(None, None)] * len(pairs)
    if policy is not None and reference is not None:
        scores = zip(policy(prompts, samples), reference(prompts, samples), strict=True)
        distances = [_distance(own.double() - other.double()) for own, other in scores]
    return [
        ScoredSample(
            num_tokens=sample.num_tokens,
            cut_off=sample.cut_off,
            reward=value,
            log_ratio=log_ratio,
            k3=k3,
            ref_rewards=row.get("ref_rewards"),
            ref_lengths=row.get("ref_lengths"),
            prompt=row["prompt"],
            text=sample.text,
            profile=profile,
        )
        for (row, sample), value, profile, (log_ratio, k3) in zip(
            pairs, rewards, profiles, distances, strict=True
        )
    ]


def _rewarded(
    reward: RewardSource | None, texts: Mapping[str, Sequence[Any]]
) -> tuple[Sequence[float | None], Sequence[Mapping[str, float]]]:
    """Rewards and profiles; with one call of a source that has distributions."""
    count = len(texts["completion"])
    if reward is None:
        return [None] * count, [{}] * count
    if isinstance(reward, ModelReward):
        found = reward.scores(texts)
        rewards = checked_rewards(found.utilities.tolist(), count, "samples of the policy")
        return rewards, rows_of(found.columns)
    rewards = rewards_of(reward, texts, "samples of the policy")
    return rewards, [{"utility": one} for one in rewards]


def rows_of(columns: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """Columns [B] as B rows."""
    names, values = list(columns), [column.tolist() for column in columns.values()]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def columns_of(profiles: Sequence[Mapping[str, float]]) -> dict[str, Tensor]:
    """Profiles of responses as columns [B], for those that every response has."""
    names = set.intersection(*(set(one) for one in profiles)) if profiles else set()
    return {name: torch.tensor([one[name] for one in profiles], dtype=torch.float64) for name in names}


def _distance(ratios: Tensor) -> tuple[float, float]:
    """The log-ratio of a sample and its k3, from the log-ratios of its tokens."""
    return ratios.sum().item(), (torch.expm1(-ratios) + ratios).sum().item()


def summarize(
    samples: Sequence[ScoredSample], reference_heads: Float[Tensor, "N H"] | None = None
) -> dict[str, float]:
    """The numbers above, as far as they are known for the samples.

    Args:
        samples: at least one.
        reference_heads: means of an ensemble's heads for the reference's responses, [N, H], if known.

    Raises:
        ArgumentError: there are no samples.
    """
    if not samples:
        raise ArgumentError("summarize needs at least one sample, received none")
    lengths = torch.tensor([float(sample.num_tokens) for sample in samples])
    found = {"length": lengths.mean().item(), "cut_off": sum(s.cut_off for s in samples) / len(samples)}
    known = [(s.reward, s.ref_rewards) for s in samples if s.reward is not None]
    if known:
        rewards = torch.tensor([reward for reward, _ in known], dtype=torch.float64)
        found["reward"] = rewards.mean().item()
        found["reward_std"] = rewards.std(correction=0).item()
        for percent in (10, 50, 90):
            found[f"reward_q{percent}"] = rewards.quantile(percent / 100).item()
        ranked = [(reward, references) for reward, references in known if references]
        if ranked:
            references, keep = pad_references([references for _, references in ranked])
            values = torch.tensor([reward for reward, _ in ranked], dtype=torch.float64)
            ranks = quantile_rewards(values, references, leave_one_out=False, keep_mask=keep)
            found["rank"] = ranks.mean().item()
    ratios = torch.tensor([s.log_ratio for s in samples if s.log_ratio is not None], dtype=torch.float64)
    if len(ratios):
        found["kl"] = ratios.mean().item()
        found["kl_k3"] = sum(s.k3 or 0.0 for s in samples if s.k3 is not None) / len(ratios)
        correlation = _length_correlation(samples)
        if correlation is not None:
            found["length_correlation"] = correlation
    golds = torch.tensor([s.gold for s in samples if s.gold is not None], dtype=torch.float64)
    if len(golds):
        found |= {"gold": golds.mean().item(), "gold_q10": golds.quantile(0.1).item()}
    columns = columns_of([one.profile for one in samples])
    if "utility" in columns:
        signs = sign_values(columns, reference_heads)
        found |= {f"signs/{name}": value for name, value in signs.items()}
    return found


def kl_at_least(samples: Sequence[ScoredSample]) -> float:
    """A lower bound of the KL: the mean of the log-ratios minus two standard errors; -inf if unknown."""
    ratios = torch.tensor([s.log_ratio for s in samples if s.log_ratio is not None], dtype=torch.float64)
    if len(ratios) < 2:
        return -float("inf")
    return float(ratios.mean() - 2 * ratios.std() / len(ratios) ** 0.5)


def _length_correlation(samples: Sequence[ScoredSample]) -> float | None:
    """For samples whose references' lengths are known; None if they are too few or all equal."""
    known = [s for s in samples if s.log_ratio is not None and s.ref_lengths]
    if not known:
        return None
    lengths, keep = pad_references([s.ref_lengths or () for s in known])
    ratios = torch.tensor([s.log_ratio for s in known])
    try:
        return length_bias(ratios, torch.tensor([float(s.num_tokens) for s in known]), lengths, keep)
    except ArgumentError:  # fewer than two prompts, or log-ratios that are not finite
        return None
