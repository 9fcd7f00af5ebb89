"""A policy on held-out prompts: what is known of each of its samples, and how far it went for what it gained.

In: rollouts, judgements, log-probabilities under policy and reference. Out: `JudgedSample`s, of which
`rewards.samples` makes numbers. It draws nothing and trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pluralign.policy.online.rollouts import Rollout
from pluralign.policy.rewards.judgement import Judgement
from pluralign.policy.rewards.samples import JudgedSample, kl_at_least, rows_of

__all__ = ["judged_samples", "kl_beyond_gain"]

_NO_GAIN = 99.0  # where there is nothing to divide by


def judged_samples(
    rollouts: Sequence[Rollout],
    judgement: Judgement,
    gold: Tensor | None,
    log_ratios: Tensor,
    keep_mask: Tensor,
) -> list[JudgedSample]:
    """Puts together what is known of rollouts.

    Args:
        rollouts: B of them.
        judgement: of them.
        gold: [B], or None.
        log_ratios: log pi - log ref of tokens, [B, T].
        keep_mask: tokens that the policy chose, [B, T].
    """
    ratios = log_ratios.double().masked_fill(~keep_mask, 0.0)
    sums, k3 = ratios.sum(1).tolist(), (torch.expm1(-ratios) + ratios).sum(1).tolist()
    lengths, utilities = keep_mask.sum(1).tolist(), judgement.utilities.tolist()
    golds = [None] * len(rollouts) if gold is None else gold.tolist()
    profiles = rows_of(judgement.columns)
    return [
        JudgedSample(
            num_tokens=lengths[place],
            cut_off=not one.ended,
            reward=utilities[place],
            log_ratio=sums[place],
            k3=k3[place],
            ref_rewards=one.row.get("ref_rewards"),
            ref_lengths=one.row.get("ref_lengths"),
            gold=golds[place],
            prompt=one.messages[:-1],
            text=one.text,
            profile=profiles[place],
        )
        for place, one in enumerate(rollouts)
    ]


def kl_beyond_gain(
    samples: Sequence[JudgedSample],
    now: Mapping[str, float],
    start: Mapping[str, float],
    beta: float,
    end_penalty: float,
) -> float:
    """How many times the KL that the gain in reward pays for, a policy is from its reference.

    With E[R] - beta KL as the objective, a KL above gain / beta is worse than none. Doubt about either number
    is the policy's: the KL is taken two standard errors low, the gain two high.

    Args:
        samples: of the policy as it is.
        now: their measurements.
        start: measurements of the policy before the first step.
        beta: weight of the KL, in units of the reward per nat.
        end_penalty: what a response without an end token costs.

    Returns:
        At least 0; 99 where much was paid for no gain at all.
    """
    far = kl_at_least(samples)
    if not far > 0 or beta == 0:
        return 0.0
    gain = now["reward"] - start["reward"] - end_penalty * (now["cut_off"] - start["cut_off"])
    doubt = 2 * ((now["reward_std"] ** 2 + start["reward_std"] ** 2) / len(samples)) ** 0.5
    paid = (gain + doubt) / beta
    return min(far / paid, _NO_GAIN) if paid > 0 else _NO_GAIN
