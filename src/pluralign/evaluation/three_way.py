"""Votes with ties: probabilities of `a`, `tie` and `b` compared with the shares of people who said so.

In: probabilities and shares of votes, one row per comparison. Out: log loss, Brier score and calibration,
beside two forecasts that ignore the texts: the base rates, and 1/3 for each.

A comparison with five raters counts as much as one with one. The log loss of shares is the mean over the
row's votes, which cannot be 0 where they differ: `floor` is what the shares themselves would get. The Brier
score is about the shares, as in `probabilities`: a single vote's is larger by `1 - sum_c share_c^2`, by
which its raters differ.

Papers: Brier 1950; Murphy 1973, "A new vector partition of the probability score" (several events, a score
per row that is summed over them); Gneiting and Raftery 2007 (both are proper).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import Floats, Values, as_array
from pluralign.evaluation.probabilities import expected_calibration_error, reliability_curve

__all__ = ["OUTCOMES", "three_way", "three_way_brier", "three_way_log_loss"]

OUTCOMES = ("a", "tie", "b")
_SUM = 1e-4  # rounding of single precision, and of shares that were printed with four digits


def three_way(
    probs: Values, votes: Values, *, base_rates: Values | None = None, bins: int = 10
) -> dict[str, Any]:
    """How good probabilities of three outcomes are: a is better, tie, b is better.

    Args:
        probs: [N, 3], predicted probabilities of a, tie and b; rows sum to 1.
        votes: [N, 3], the shares of the row's votes for each, or its one vote as 1 and two zeros; rows sum
            to 1.
        base_rates: [3], the shares in the data that the model was fitted on. None for those of `votes`, the
            best constant forecast in hindsight, which is the harder one to beat.
        bins: number of bins of the reliability curves.

    Returns:
        `rows`; `log_loss`, mean of `-sum_c share_c log p_c`, in nats, infinite where a vote was called
        impossible; `brier`, mean of `sum_c (p_c - share_c)^2`, in [0, 2]; `base_rates` and `uniform`, both
        losses of these forecasts, and `floor`, of the shares themselves; `mean`, the mean `predicted` and
        `observed` share of each outcome; `calibration`, for each outcome its `reliability` curve and
        `expected_calibration_error`; and `expected_calibration_error`, the mean of the three.

    Raises:
        ArgumentError: shapes other than [N, 3], N >= 1, values outside [0, 1], or a row that does not sum to
        1.
    """
    p, o = _shares(probs, "probs"), _shares(votes, "votes")
    if len(p) != len(o):
        raise ArgumentError(f"probs and votes need one row per comparison; got {len(p)} and {len(o)}")
    if base_rates is None:
        rates = o.mean(0)
    else:
        rates = _shares(as_array(base_rates)[None], "base_rates")[0]
    calibration: dict[str, Any] = {}
    for place, name in enumerate(OUTCOMES):
        curve = reliability_curve(p[:, place], o[:, place], bins)
        error = expected_calibration_error(curve)
        calibration[name] = {"expected_calibration_error": error, "reliability": curve}
    errors = [part["expected_calibration_error"] for part in calibration.values()]
    return {
        "rows": len(p),
        **_losses(p, o),
        "base_rates": _losses(np.broadcast_to(rates, p.shape), o),
        "uniform": _losses(np.full_like(p, 1 / 3), o),
        "floor": _losses(o, o),
        "mean": {"predicted": _named(p.mean(0)), "observed": _named(o.mean(0))},
        "calibration": calibration,
        "expected_calibration_error": sum(errors) / len(errors),
    }


def three_way_log_loss(probs: Values, votes: Values) -> Floats:
    """`-sum_c share_c log p_c` of each row, [N], in nats; infinite where a vote had probability 0.

    Args:
        probs: [N, 3], rows sum to 1.
        votes: [N, 3], rows sum to 1.

    Raises:
        ArgumentError: as `three_way`.
    """
    p, o = _shares(probs, "probs"), _shares(votes, "votes")
    with np.errstate(divide="ignore"):
        logs = np.where(o > 0, np.log(p), 0.0)
    return np.asarray(-(o * logs).sum(1), np.float64) + 0.0


def three_way_brier(probs: Values, votes: Values) -> Floats:
    """`sum_c (p_c - share_c)^2` of each row, [N], in [0, 2].

    Args:
        probs: [N, 3], rows sum to 1.
        votes: [N, 3], rows sum to 1.

    Raises:
        ArgumentError: as `three_way`.
    """
    p, o = _shares(probs, "probs"), _shares(votes, "votes")
    return np.asarray(np.square(p - o).sum(1), np.float64)


def _losses(probs: Floats, votes: Floats) -> dict[str, float]:
    log_loss, brier = three_way_log_loss(probs, votes), three_way_brier(probs, votes)
    return {"log_loss": float(log_loss.mean()), "brier": float(brier.mean())}


def _named(values: Floats) -> dict[str, float]:
    return dict(zip(OUTCOMES, values.tolist(), strict=True))


def _shares(values: Values, name: str) -> Floats:
    """[N, 3] in float64, rows brought to a sum of exactly 1."""
    array = as_array(values)
    if array.ndim != 2 or array.shape[1] != len(OUTCOMES) or not len(array):
        raise ArgumentError(
            f"{name} needs a row (a, tie, b) for each comparison, at least one; got {list(array.shape)}"
        )
    total = array.sum(1)
    wrong = ~((array >= 0).all(1) & (abs(total - 1) <= _SUM))  # NaN is neither
    if wrong.any():
        row = int(wrong.argmax())
        raise ArgumentError(
            f"{name}[{row}] is {array[row].tolist()}; allowed: three shares of at least 0 that sum to 1. "
            "Divide counts of votes by their sum"
        )
    return np.asarray(array / total[:, None], np.float64)
