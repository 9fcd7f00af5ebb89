"""The weight w of `robust:w` from data: from how far heads disagree, or from ratings.

In: means of heads, or distributions and ratings. Out: a number in [0, 1]. It trains nothing. Yan et al. 2024
(arXiv 2409.15360) leave open how w is to be chosen; both rules are ours.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pluralign.distributions import RewardDistribution
from pluralign.errors import ArgumentError
from pluralign.risk.measures import Robust, WorstCase

__all__ = ["robust_weight_from_disagreement", "robust_weight_from_ratings", "variance_between_heads"]

_ROUNDING = 1e-12  # share of a sum of squares


def variance_between_heads(means: Float[Tensor, "B H"]) -> Float[Tensor, " B"]:
    """The (population) variance of the heads' means of each response."""
    return means.double().var(-1, correction=0)


def robust_weight_from_disagreement(variance: float, reference_variance: float, most: float = 1.0) -> float:
    """w = most * min(1, reference_variance / variance): the worst counts more where heads disagree more.

    As long as heads disagree about the policy's responses no more than about the reference's, w is `most`.
    A single head is trusted in proportion to how much of the variance between heads was there at the
    reference, where the heads were fitted; the rest is doubt about responses that the policy found itself.

    Args:
        variance: mean variance between heads over the policy's responses, at least 0.
        reference_variance: the same over the reference's responses.
        most: w at the reference, in [0, 1].

    Returns:
        In [0, most], monotone; unchanged by a change of the units of rewards.

    Raises:
        ArgumentError: a number is not finite or out of its range.
    """
    for name, value in (("variance", variance), ("reference_variance", reference_variance)):
        if not 0 <= value < float("inf"):
            raise ArgumentError(f"{name}: received {value}; allowed: 0 or more, finite")
    if not 0 <= most <= 1:
        raise ArgumentError(f"most: received {most}; allowed: a weight in [0, 1]")
    return most if variance <= reference_variance else most * reference_variance / variance


def robust_weight_from_ratings(distribution: RewardDistribution, ratings: Float[Tensor, " B"]) -> float:
    """The w with which w nominal + (1 - w) worst_case predicts held-out ratings best, by least squares.

    w = sum (y - worst)(nominal - worst) / sum (nominal - worst)^2, limited to [0, 1], with means of heads
    and ratings each centred first: a constant that is added to rewards changes no policy.

    It does not see responses that nobody rated, so it says how far the surest head can be trusted on
    texts like those, not how far a policy may go.

    Args:
        distribution: of B responses, with heads.
        ratings: those that people gave them, on the scale of the distribution, [B].

    Raises:
        ArgumentError: ratings are not finite or not B, or both measures are the same on all responses.
        RiskError: the distribution has no heads.
    """
    if ratings.shape != (len(distribution),) or not bool(ratings.isfinite().all()):
        raise ArgumentError(
            f"ratings: received shape {list(ratings.shape)}; needed: {len(distribution)} finite numbers, one "
            "for each response"
        )
    worst = WorstCase()(distribution).double()
    gain = Robust(1.0)(distribution).double() - worst
    gain, error = gain - gain.mean(), ratings.double() - worst
    squares = float(gain.square().sum())
    if squares <= _ROUNDING * float((worst - worst.mean()).square().sum()):
        raise ArgumentError(
            "distribution: the mean of the most confident head exceeds the smallest mean by the same amount "
            "for every response, so the ratings do not determine w"
        )
    return min(max(float((error - error.mean()) @ gain) / squares, 0.0), 1.0)
