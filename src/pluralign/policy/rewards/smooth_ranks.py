"""Ranks of responses whose rewards are known as distributions, not as numbers.

In: the reward distribution of each response and of its references. Out: ranks, or smooth scores, float64.

The smooth score of a response is `mean over j of P(R_j < R) + P(R_j = R)/2`, where both rewards are random.
It is finer than a rank of means, but not uniform under the reference policy: its spread shrinks from .289
towards 0 as the distributions widen, so the exact partition function does not apply. There are two solutions:

- rank the score among the references' own scores, which is uniform again: `smooth_quantile_rewards`,
  `smooth_reference_ranks`;
- keep the scores (`smooth_scores`) and use the finite partition function of the references' scores:
  `log_partition(beta, reference_ranks=smooth_scores(references, n))`.

Both are this project's. Each member of a group is scored against all others of the group, so members from the
same policy are exchangeable.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.policy.rewards.ranks import Estimator, quantile_rewards, reference_ranks

__all__ = ["smooth_quantile_rewards", "smooth_reference_ranks", "smooth_scores"]


def smooth_scores(
    references: RewardDistribution, num_references: int, response: RewardDistribution | None = None
) -> Float[Tensor, "B N"]:
    """Mean probability that a member's reward exceeds that of another member of its group.

    Args:
        references: distributions of B * N completions, prompt by prompt.
        num_references: N.
        response: distribution of one more response per prompt, B rows, which joins the group as its last
            member.

    Returns:
        [B, N], or [B, N + 1] with a response; float64, in [0, 1], of mean 1/2 over each group.

    Raises:
        ArgumentError: the number of distributions is not a multiple of N, or a group has fewer than two
            members.
    """
    members = _members(references, num_references, response)
    size = len(members)
    total = torch.zeros(len(members[0]), size, dtype=torch.float64, device=references.device)
    for i in range(size):
        for j in range(i + 1, size):
            wins = members[i].prob_greater(members[j]).double()
            total[:, i] += wins
            total[:, j] += 1 - wins
    # The sum of the same numbers in another order differs in the last bits; equal distributions must tie.
    return (total / (size - 1)).round(decimals=12)


def smooth_quantile_rewards(
    response: RewardDistribution,
    references: RewardDistribution,
    estimator: str | Estimator = "mid",
    generator: torch.Generator | None = None,
) -> Float[Tensor, " B"]:
    """Rank of a response's smooth score among those of its references.

    Args:
        response: distributions of B responses that are not among the references.
        references: distributions of B * N completions, prompt by prompt.
        estimator: as in `quantile_rewards`; `randomised` is exactly uniform under the reference policy.
        generator: random generator for V of `randomised`.

    Returns:
        [B], float64, in [0, 1].

    Raises:
        ArgumentError: the number of references is not a multiple of B, or is 0.
    """
    number = len(references) // max(1, len(response))
    scores = smooth_scores(references, number, response)
    return quantile_rewards(
        scores[:, -1], scores[:, :-1], estimator, leave_one_out=False, generator=generator
    )


def smooth_reference_ranks(
    references: RewardDistribution,
    num_references: int,
    estimator: str | Estimator = "mid",
    generator: torch.Generator | None = None,
) -> Float[Tensor, "B N"]:
    """Rank of each reference's smooth score among those of the others: quantile rewards for training on them.

    Args:
        references: distributions of B * N completions, prompt by prompt.
        num_references: N, at least 2.
        estimator: as in `quantile_rewards`.
        generator: random generator for V of `randomised`.

    Returns:
        [B, N], float64, in [0, 1].

    Raises:
        ArgumentError: as for `smooth_scores`.
    """
    scores = smooth_scores(references, num_references)
    return reference_ranks(scores, estimator, leave_one_out=True, generator=generator)


def _members(
    references: RewardDistribution, num_references: int, response: RewardDistribution | None
) -> list[RewardDistribution]:
    if num_references < 1 or len(references) == 0 or len(references) % num_references:
        raise ArgumentError(
            f"received distributions of {len(references)} references, {num_references} per prompt; "
            "allowed: a multiple"
        )
    members: list[RewardDistribution] = [references[k::num_references] for k in range(num_references)]
    if response is not None:
        if len(response) != len(members[0]):
            raise ArgumentError(
                f"received {len(response)} responses and references of {len(members[0])} prompts"
            )
        members.append(response)
    if len(members) < 2:
        raise ArgumentError("a smooth score needs at least two completions per prompt, received one")
    return members
