"""Closed forms for the crowd: rating values, categories, quantiles, win probabilities.

In:  mean judgements [B, P] of P personas, their noise [P], the population's weights [P]; float64.
Out: exact probabilities and quantiles; products and sums of normal CDFs, no sampling.

A person of persona p judges m_p + s_p e with e standard normal; the crowd is the mixture over p with weights
w_p. A rating is the judgement rounded to a whole number and clamped to 1..5.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.heads.categories import CATEGORIES, CATEGORY_REWARDS

__all__ = [
    "CATEGORIES",
    "CATEGORY_REWARDS",
    "category_probs",
    "dequantised_quantile",
    "rating_probs",
    "win_probability",
]

NUM_RATINGS = 5
RATINGS = torch.arange(1, NUM_RATINGS + 1, dtype=torch.float64)

# A person finds a text helpful if that person's judgement of helpfulness is above HELPFUL, not helpful if it
# is below UNHELPFUL, and harmful if the judgement of safety is below HARMFUL (would be rated 1).
HELPFUL = 3.5
UNHELPFUL = 2.5
HARMFUL = 1.5


def _below(threshold: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """P(a person of each persona judges below each threshold), [B, P, T]."""
    below: Tensor = torch.special.ndtr((threshold - means[..., None]) / stds[:, None])
    return below


def rating_probs(
    means: Float[Tensor, "B P"], stds: Float[Tensor, " P"], weights: Float[Tensor, " P"]
) -> Float[Tensor, "B 5"]:
    """Computes the exact probabilities of the ratings 1 to 5.

    P(rating <= k) = sum_p w_p Phi((k + 0.5 - m_p) / s_p) for k = 1..4.

    Args:
        means: mean judgements.
        stds: their noise, positive.
        weights: the population, summing to 1.

    Returns:
        Probabilities that sum to 1.
    """
    thresholds = torch.arange(1, NUM_RATINGS, dtype=means.dtype) + 0.5
    below = torch.einsum("bpt,p->bt", _below(thresholds, means, stds), weights)
    zero, one = torch.zeros_like(below[:, :1]), torch.ones_like(below[:, :1])
    return torch.diff(torch.cat([zero, below, one], dim=1), dim=1)


def dequantised_quantile(probs: Float[Tensor, "B C"], levels: Float[Tensor, " T"]) -> Float[Tensor, "B T"]:
    """Computes quantiles of `rating + U(-1/2, 1/2)`, the targets of a quantile fit on dequantised ratings.

    The CDF is linear between 0.5, 1.5, ..., C + 0.5.

    Args:
        probs: probabilities of the ratings 1..C.
        levels: in (0, 1).

    Returns:
        Quantiles in [0.5, C + 0.5], the smallest value where the CDF reaches the level.
    """
    upper = probs.cumsum(1)
    cell = torch.searchsorted(upper, levels.expand(len(probs), -1).contiguous()).clamp(max=probs.shape[1] - 1)
    mass = probs.gather(1, cell)
    into = (levels - (upper - probs).gather(1, cell)) / mass
    return cell + 0.5 + into.clamp(0, 1)


def category_probs(
    helpfulness: Float[Tensor, "B P"],
    safety: Float[Tensor, "B P"],
    stds: Float[Tensor, " P"],
    weights: Float[Tensor, " P"],
) -> Float[Tensor, "B 6"]:
    """Computes the exact probabilities of the six categories, in the order of `CATEGORIES`.

    A person's noise on helpfulness and on safety is independent, so within a persona the probability is a
    product of two normal CDF differences.

    Args:
        helpfulness: mean judgements.
        safety: mean judgements.
        stds: noise of both, positive.
        weights: the population, summing to 1.

    Returns:
        Probabilities that sum to 1.

    Reference:
        The categories are those of Li et al. 2024, arXiv 2402.09764; thresholds with noise are
        this project's choice.
    """
    below = _below(torch.tensor([UNHELPFUL, HELPFUL], dtype=stds.dtype), helpfulness, stds)
    helpful = torch.stack([1 - below[..., 1], below[..., 1] - below[..., 0], below[..., 0]], dim=-1)
    harmful = _below(torch.tensor([HARMFUL], dtype=stds.dtype), safety, stds)
    by_persona = torch.cat([helpful * (1 - harmful), helpful * harmful], dim=-1)
    return torch.einsum("bpc,p->bc", by_persona, weights)


def win_probability(
    first: Float[Tensor, "B P"],
    second: Float[Tensor, "B P"],
    stds: Float[Tensor, " P"],
    weights: Float[Tensor, " P"],
) -> Float[Tensor, " B"]:
    """Computes the probability that a person who judges both texts prefers the first.

    sum_p w_p Phi((m1_p - m2_p) / (s_p sqrt 2)), with independent noise in the two judgements. This is not
    `prob_greater` of the two crowds, in which two different people judge.

    Args:
        first: mean judgements of the first texts.
        second: mean judgements of the second texts.
        stds: noise of each judgement, positive.
        weights: the population, summing to 1.

    Returns:
        Probabilities; swapping the texts gives one minus them.
    """
    wins: Tensor = torch.special.ndtr((first - second) / (stds * 2**0.5)) @ weights
    return wins
