"""Preference probabilities compared with real preferences: Brier score, reliability, calibration error.

In: probabilities and outcomes, one per pair, as tensors, arrays or lists. Out: float64 arrays with one value
per row, or plain dictionaries for `results.json`.

Papers: Brier 1950; Guo et al. 2017, arXiv 1706.04599 (expected calibration error).
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import Floats, Values, bin_of, columns, uniform_noise

__all__ = [
    "ReliabilityCurve",
    "brier",
    "expected_calibration_error",
    "randomise_orientation",
    "reliability_curve",
]


class ReliabilityCurve(TypedDict):
    """Bins of predicted probability; means are None in an empty bin."""

    edges: list[float]
    predicted: list[float | None]
    observed: list[float | None]
    count: list[int]


def randomise_orientation(
    prob_chosen: Values, seed: int = 0, share_chosen: Values | None = None
) -> tuple[Floats, Floats]:
    """Shows each pair in a random order, as raters see it: otherwise every outcome would be 1.

    Args:
        prob_chosen: [N] predicted probability that the chosen response is preferred.
        seed: random seed of the order.
        share_chosen: [N] share of the votes for the chosen response, a tie as half a vote; None for 1.

    Returns:
        `(probs, outcomes)`, [N] each: the probability that the first response is preferred, and the share of
        votes for it: without shares 1 if the chosen one comes first, else 0. The Brier score of a row does
        not depend on the order; calibration does.

    Raises:
        ArgumentError: a probability or a share is NaN or outside [0, 1], or their numbers differ.
    """
    probs = _probabilities(prob_chosen)
    shares = np.ones_like(probs) if share_chosen is None else _probabilities(share_chosen)
    probs, shares = columns(prob_chosen=probs, share_chosen=shares)
    chosen_first = uniform_noise(probs.shape, seed, "orientation") < 0.5
    return np.where(chosen_first, probs, 1 - probs), np.where(chosen_first, shares, 1 - shares)


def brier(probs: Values, outcomes: Values) -> Floats:
    """Squared error of a probability, per row: `(p - o)^2`.

    Args:
        probs: [N] in [0, 1].
        outcomes: [N] in [0, 1]: 1 for the event, 0 without it, a share of votes between them.

    Returns:
        [N]; 0 is perfect, and the constant 1/2 gives 0.25.

    Raises:
        ArgumentError: shapes differ or a value is outside [0, 1].
    """
    p, o = columns(probs=_probabilities(probs), outcomes=_probabilities(outcomes))
    return np.square(p - o)


def reliability_curve(probs: Values, outcomes: Values, bins: int = 10) -> ReliabilityCurve:
    """Mean outcome against mean probability in bins of equal width.

    Args:
        probs: [N] in [0, 1].
        outcomes: [N] in [0, 1].
        bins: number of bins; bin b is [b/bins, (b+1)/bins), the last one includes 1.

    Returns:
        Edges [bins + 1], and predicted, observed and count [bins].

    Raises:
        ArgumentError: shapes differ, a value is outside [0, 1], or bins < 1.
    """
    p, o = columns(probs=_probabilities(probs), outcomes=_probabilities(outcomes))
    index = bin_of(p, bins)
    count = np.bincount(index, minlength=bins).tolist()
    sums = [np.bincount(index, weights=column, minlength=bins).tolist() for column in (p, o)]
    predicted, observed = ([x / n if n else None for x, n in zip(side, count, strict=True)] for side in sums)
    return {
        "edges": [b / bins for b in range(bins + 1)],
        "predicted": predicted,
        "observed": observed,
        "count": count,
    }


def expected_calibration_error(curve: ReliabilityCurve) -> float:
    """Mean |observed - predicted| over the bins of a reliability curve, weighted by their counts.

    Biased upwards in small samples: true probabilities spread over [0, 1] give about .31 sqrt(bins / N).

    Reference:
        Guo et al. 2017, equation 3, for the probability of a binary event instead of the confidence.
    """
    parts = zip(curve["predicted"], curve["observed"], curve["count"], strict=True)
    total = sum(curve["count"])
    return sum(n * abs(o - p) for p, o, n in parts if p is not None and o is not None) / total


def _probabilities(values: Values) -> Floats:
    (probs,) = columns(probabilities=values)
    if ((probs < 0) | (probs > 1)).any():
        raise ArgumentError(f"probabilities must be in [0, 1]; got {probs.min()} to {probs.max()}")
    return probs
