"""Best of n and over-optimisation: gold reward when a proxy chooses, and its cost in KL.

In:  proxy and gold rewards of samples, KL divergences.
Out: unbiased best-of-n values, KL bounds, the peak of a curve.

Notation: B prompts, N samples of each, n <= N the number from which the proxy chooses; KL in nats,
d = sqrt(KL); gold reward in any unit.

Paper: Gao, Schulman and Hilton 2022, "Scaling laws for reward model overoptimization", arXiv 2210.10760.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import Floats, Values, as_array

__all__ = ["Peak", "best_of_n", "best_of_n_kl", "peak"]


@dataclass(frozen=True)
class Peak:
    """The highest point of a curve of gold reward against KL.

    Attributes:
        gold: gold reward at the peak.
        kl: KL at the peak, in nats.
        drop: peak minus the point of the largest KL; 0 if the curve ends at its peak.
    """

    gold: float
    kl: float
    drop: float


def best_of_n(proxy: Values, gold: Values, n: Sequence[int]) -> Floats:
    """Estimates the expected gold reward of the best of n samples by proxy, without bias, from N >= n.

    With the N samples sorted by proxy, ascending, the i-th is the best of a random subset of n with
    probability C(i-1, n-1) / C(N, n):

        sum_{i=n}^{N} C(i-1, n-1) / C(N, n) gold_(i)

    Samples of equal proxy are equally likely to be chosen: each has the mean gold of its ties.

    Args:
        proxy: [N] or [B, N]; finite.
        gold: the same shape, any unit; finite. The proxy itself gives the proxy's own curve.
        n: numbers of samples to choose from, each in 1..N.

    Returns:
        [len(n)] or [B, len(n)]; n = 1 is the mean of `gold`, n = N the gold of the best by proxy.

    Raises:
        ArgumentError: shapes differ, a value is not finite, or an n is outside 1..N.

    Reference:
        Nakano et al. 2021, arXiv 2112.09332, appendix I; the treatment of ties is this project's choice.
    """
    scores, rewards = as_array(proxy), as_array(gold)
    if scores.shape != rewards.shape or scores.ndim not in (1, 2) or not scores.shape[-1]:
        raise ArgumentError(
            f"proxy and gold must have one shape, [N] or [B, N]; got {scores.shape} and {rewards.shape}"
        )
    if not (np.isfinite(scores).all() and np.isfinite(rewards).all()):
        raise ArgumentError("proxy and gold must be finite; leave out samples without a reward")
    weights = np.stack([_choice_probs(scores.shape[-1], one) for one in n], axis=1)  # [N, len(n)]
    ranked = np.stack(
        [_by_proxy(s, r) for s, r in zip(np.atleast_2d(scores), np.atleast_2d(rewards), strict=True)]
    )
    values: Floats = ranked @ weights
    return values if scores.ndim == 2 else values[0]


def _choice_probs(num_samples: int, n: int) -> Floats:
    """P(the i-th smallest of N is the largest of n drawn without replacement), i = 1..N; sums to 1."""
    if isinstance(n, bool) or n != int(n) or not 1 <= n <= num_samples:
        raise ArgumentError(f"n must be a whole number in 1..{num_samples}, the number of samples; got {n!r}")
    n = int(n)
    probs = np.zeros(num_samples)
    probs[n - 1 :] = [
        math.exp(_log_binomial(i - 1, n - 1) - _log_binomial(num_samples, n))
        for i in range(n, num_samples + 1)
    ]
    return probs


def _log_binomial(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def _by_proxy(proxy: Floats, gold: Floats) -> Floats:
    """Gold in ascending order of proxy; ties share their mean."""
    _, place, counts = np.unique(proxy, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=gold) / counts
    return np.repeat(means, counts)


def best_of_n_kl(n: Sequence[int] | Values) -> Floats:
    """Computes the upper bound log n - (n - 1)/n on the KL divergence of best-of-n from its base policy.

    Args:
        n: [T], at least 1.

    Returns:
        [T], in nats. The bound is exact if no two samples are equal.

    Raises:
        ArgumentError: an n is below 1.

    Reference:
        The formula is from Gao et al. 2022, section 2; Beirami et al. 2024, arXiv 2401.01879, show that it
        is a bound.
    """
    sizes = as_array(n)
    if not (sizes >= 1).all() or not np.isfinite(sizes).all():
        raise ArgumentError(f"n must be at least 1; got {n!r}")
    bound: Floats = np.log(sizes) - (sizes - 1) / sizes
    return bound


def peak(kl: Values, gold: Values) -> Peak:
    """Finds the highest gold reward along a path of growing KL.

    Args:
        kl: [T], in nats, finite, in any order.
        gold: [T], any unit, finite.

    Returns:
        The peak (if several are equal, that of the least KL) and the drop from it to the largest KL.

    Raises:
        ArgumentError: there are no points, shapes differ or a value is not finite.
    """
    distances, rewards = _curve(kl, gold, least=1)
    order = np.argsort(distances, kind="stable")
    top = order[int(np.argmax(rewards[order]))]
    return Peak(float(rewards[top]), float(distances[top]), float(rewards[top] - rewards[order[-1]]))


def _curve(kl: Values, gold: Values, least: int) -> tuple[Floats, Floats]:
    distances, rewards = as_array(kl), as_array(gold)
    if distances.shape != rewards.shape or distances.ndim != 1 or len(distances) < least:
        raise ArgumentError(
            f"a curve needs one KL per reward, at least {least}; got {distances.shape} and {rewards.shape}"
        )
    if not (np.isfinite(distances).all() and np.isfinite(rewards).all()):
        raise ArgumentError("KL and rewards must be finite")
    return distances, rewards
