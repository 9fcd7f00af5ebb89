"""The numbers of the page's pictures: curves, stacks of dots, outlines and ends of axes.

In: parts of a report's content. Out: plain numbers in the units of the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pluralign.report.density import density

__all__ = ["accuracy_ends", "lowest_coverage", "quantile", "response_picture", "steps"]

_ROOM = 0.125  # on both sides of the rating scale: half a unit of 1 to 5, the range of the noise on ratings
_DEEPEST = 6  # maximum number of equal ratings that are drawn below each other


def response_picture(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Curves of the predicted distributions, of the true one, and a dot per rating.

    Returns:
        `ends` of the axis; `distributions` by run and `truth` (or None), as from `_curve`; `top`, the
        highest value of the curves; `dots`, each a position and the number of equal ones above it; `depth`
        of the deepest stack.
    """
    low, high = entry["scale"]
    ends = (low - _ROOM * (high - low), high + _ROOM * (high - low))
    distributions = {
        name: _curve(values, entry["levels"], *ends) for name, values in entry["predicted"].items()
    }
    truth = None
    if entry["true"]:
        count = len(entry["true"])
        truth = _curve(entry["true"], [k / (count + 1) for k in range(1, count + 1)], *ends)
    dots = [dot for dot in _dots(entry["ratings"] or [], *ends) if dot[1] < _DEEPEST]
    return {
        "ends": ends,
        "distributions": distributions,
        "truth": truth,
        "top": max(
            distribution["top"] for distribution in (*distributions.values(), *([truth] if truth else []))
        ),
        "dots": dots,
        "depth": max((above + 1 for _, above in dots), default=0),
    }


def steps(edges: Sequence[float], shares: Sequence[float]) -> tuple[list[float], list[float]]:
    """Outline of a histogram, from its lower left to its lower right corner."""
    xs = [edge for edge in edges for _ in (0, 1)]
    return xs, [0.0, *(share for share in shares for _ in (0, 1)), 0.0]


def lowest_coverage(bins: Sequence[Mapping[str, float]]) -> float:
    """The start of the axis of coverages: 80 %, or below the lowest."""
    shares = [entry[head] for entry in bins for head in ("model", "constant") if head in entry]
    return max(min(0.8, *(share - 0.02 for share in shares)), 0.0)


def accuracy_ends(found: Mapping[str, Any]) -> tuple[float, float]:
    """The part of [0, 1] that the accuracies of a table are drawn on: all intervals, and chance."""
    ends = [0.5]
    for pairs in found.values():
        for interval in pairs["accuracy"].values():
            ends += [interval[k] for k in ("estimate", "low", "high") if interval[k] is not None]
    return max(math.floor(20 * min(ends)) / 20 - 0.02, 0.0), min(math.ceil(20 * max(ends)) / 20 + 0.02, 1.0)


def quantile(quantiles: list[float], levels: list[float], level: float) -> float:
    """A quantile between the predicted ones, linear in the level."""
    return float(np.interp(level, levels, sorted(quantiles)))


def _curve(quantiles: list[float], levels: list[float], low: float, high: float) -> dict[str, Any]:
    """Curve of a distribution on a grid over [low, high], and the curve's height at the quantiles."""
    x = np.linspace(low, high, 121)
    values = np.sort(np.asarray(quantiles, dtype=np.float64))
    y = density(values, np.asarray(levels, dtype=np.float64), x)
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "top": float(y.max()),
        "quantiles": values.tolist(),
        "heights": np.interp(values, x, y).tolist(),
    }


def _dots(ratings: list[float], low: float, high: float) -> list[tuple[float, int]]:
    """Each rating with the number of equal ones before it, so that dots are stacked."""
    seen: dict[float, int] = {}
    places = []
    for rating in sorted(ratings):
        place = min(max(rating, low), high)
        places.append((place, seen.get(place, 0)))
        seen[place] = seen.get(place, 0) + 1
    return places
