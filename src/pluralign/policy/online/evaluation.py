"""A policy on held-out prompts: the proxy, gold where there is one, and how far it is from its reference.

In: rollouts with log-probabilities under policy and reference, judgements. Out: numbers by name; those of
`rewards.samples`, and gold, gold_q10. It draws nothing and trains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pluralign.policy.online.rollouts import Rollout
from pluralign.policy.rewards.samples import JudgedSample, summarize

__all__ = ["Evaluated", "evaluated", "measurements"]


@dataclass(frozen=True)
class Evaluated:
    """One sample of the policy and its gold reward, where that is known."""

    sample: JudgedSample
    gold: float | None


def evaluated(
    rollouts: Sequence[Rollout],
    utilities: Tensor,
    gold: Tensor | None,
    log_ratios: Tensor,
    keep_mask: Tensor,
) -> list[Evaluated]:
    """Puts together what is known of rollouts.

    Args:
        rollouts: B of them.
        utilities: [B].
        gold: [B], or None.
        log_ratios: log pi - log ref of tokens, [B, T].
        keep_mask: tokens that the policy chose, [B, T].
    """
    ratios = log_ratios.double().masked_fill(~keep_mask, 0.0)
    sums, k3 = ratios.sum(1).tolist(), (torch.expm1(-ratios) + ratios).sum(1).tolist()
    lengths = keep_mask.sum(1).tolist()
    found = []
    for place, one in enumerate(rollouts):
        sample = JudgedSample(
            num_tokens=lengths[place],
            cut_off=not one.ended,
            reward=float(utilities[place]),
            log_ratio=sums[place],
            k3=k3[place],
            ref_rewards=one.row.get("ref_rewards"),
            ref_lengths=one.row.get("ref_lengths"),
        )
        found.append(Evaluated(sample, None if gold is None else float(gold[place])))
    return found


def measurements(samples: Sequence[Evaluated]) -> dict[str, float]:
    """Means over samples, by name."""
    found = summarize([one.sample for one in samples])
    golds = torch.tensor([one.gold for one in samples if one.gold is not None], dtype=torch.float64)
    if len(golds):
        found |= {"gold": golds.mean().item(), "gold_q10": golds.quantile(0.1).item()}
    return found
