"""Evaluation of a policy on held-out prompts: its samples, and its KL compared with its gain in reward.

In: rollouts, their scores, log-probabilities under policy and reference. Out: `ScoredSample`s, from which
`rewards.samples` computes numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pluralign.policy.online.rollouts import Rollout
from pluralign.policy.rewards.samples import ScoredSample, kl_at_least, rows_of
from pluralign.policy.rewards.scoring import ResponseScores
from pluralign.precision import widened

__all__ = ["kl_beyond_gain", "scored_samples"]

_NO_GAIN = 99.0  # if the gain is 0


def scored_samples(
    rollouts: Sequence[Rollout],
    scores: ResponseScores,
    gold: Tensor | None,
    log_ratios: Tensor,
    keep_mask: Tensor,
) -> list[ScoredSample]:
    """Combines the data of rollouts.

    Args:
        rollouts: B rollouts.
        scores: their rewards.
        gold: [B], or None.
        log_ratios: log pi - log ref of tokens, [B, T].
        keep_mask: tokens that the policy chose, [B, T].
    """
    ratios = widened(log_ratios).masked_fill(~keep_mask, 0.0)
    sums, k3 = ratios.sum(1).tolist(), (torch.expm1(-ratios) + ratios).sum(1).tolist()
    lengths, utilities = keep_mask.sum(1).tolist(), scores.utilities.tolist()
    golds = [None] * len(rollouts) if gold is None else gold.tolist()
    profiles = rows_of(scores.columns)
    return [
        ScoredSample(
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
    samples: Sequence[ScoredSample],
    now: Mapping[str, float],
    start: Mapping[str, float],
    beta: float,
    end_penalty: float,
) -> float:
    """Ratio of a policy's KL from its reference to the KL that its gain in reward justifies.

    With the objective E[R] - beta KL, a KL above gain / beta is worse than no training. The estimate is
    conservative: it uses the KL minus two standard errors and the gain plus two.

    Args:
        samples: samples of the current policy.
        now: their measures.
        start: measures of the policy before the first step.
        beta: weight of the KL, in units of the reward per nat.
        end_penalty: penalty of a response without an end token.

    Returns:
        At least 0; 99 if there is KL but no gain.
    """
    far = kl_at_least(samples)
    if not far > 0 or beta == 0:
        return 0.0
    gain = now["reward"] - start["reward"] - end_penalty * (now["cut_off"] - start["cut_off"])
    doubt = 2 * ((now["reward_std"] ** 2 + start["reward_std"] ** 2) / len(samples)) ** 0.5
    paid = (gain + doubt) / beta
    return min(far / paid, _NO_GAIN) if paid > 0 else _NO_GAIN
