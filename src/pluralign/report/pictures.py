"""The numbers of the page's pictures: curves, stacks of dots, outlines and ends of axes.

In: parts of a report's content. Out: plain numbers in the units of the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pluralign.report.density import density

__all__ = [
    "accuracy_ends",
    "board_ends",
    "dots",
    "lowest_coverage",
    "quantile",
    "response_picture",
    "ridges",
    "steps",
]

_ROOM = 0.125  # on both sides of the rating scale: half a unit of 1 to 5, the range of the noise on ratings
_CELL = 0.84  # share of the distance of two ratings that their bars fill
_DEEPEST = 6  # maximum number of equal ratings that are drawn below each other


def response_picture(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Curves of the predicted distributions, of the true one, and a dot per rating.

    A run whose ratings are on a grid has bars instead of a curve; if all runs have, so has the truth.

    Returns:
        `ends` of the axis; `distributions` by run and `truth` (or None), as from `_curve`; `bars` by run and
        `true_bars`, each (left, right, height); `top`, the maximum height; `dots`, each a position and the
        number of equal ones above it; `depth` of the deepest stack.
    """
    low, high = entry["scale"]
    grids = entry["grid"]
    steps = [(g["ratings"][-1] - g["ratings"][0]) / (len(g["ratings"]) - 1) for g in grids.values()]
    room = max(_ROOM * (high - low), *(0.5 * step for step in steps), 0.0)
    ends = (low - room, high + room)
    distributions = {
        name: _curve(values, entry["levels"], *ends)
        for name, values in entry["predicted"].items()
        if name not in grids
    }
    bars = {
        name: _bars(grid["ratings"], grid["shares"], step, i, len(grids))
        for i, ((name, grid), step) in enumerate(zip(grids.items(), steps, strict=True))
    }
    truth, true_bars = None, []
    if entry["true"]:
        count = len(entry["true"])
        levels = [k / (count + 1) for k in range(1, count + 1)]
        if distributions:
            truth = _curve(entry["true"], levels, *ends)
        else:
            ratings = next(iter(grids.values()))["ratings"]
            true_bars = _bars(ratings, _on_grid(entry["true"], levels, ratings), steps[0], 0, 1)
    tops = [curve["top"] for curve in (*distributions.values(), *([truth] if truth else []))]
    tops += [height for of_run in (*bars.values(), true_bars) for _, _, height in of_run]
    dots = [dot for dot in _dots(entry["ratings"] or [], *ends) if dot[1] < _DEEPEST]
    return {
        "ends": ends,
        "distributions": distributions,
        "truth": truth,
        "bars": bars,
        "true_bars": true_bars,
        "top": max(tops),
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


def dots(found: Mapping[str, Any]) -> int:
    """The largest number of dots on a run's reliability curve."""
    return max(len([n for n in pairs["reliability"]["count"] if n > 0]) for pairs in found.values())


def accuracy_ends(found: Mapping[str, Any]) -> tuple[float, float]:
    """The part of [0, 1] that the accuracies of a table are drawn on: all intervals, and chance."""
    ends = [0.5]
    for pairs in found.values():
        for interval in pairs["accuracy"].values():
            ends += [interval[k] for k in ("estimate", "low", "high") if interval[k] is not None]
    return max(math.floor(20 * min(ends)) / 20 - 0.02, 0.0), min(math.ceil(20 * max(ends)) / 20 + 0.02, 1.0)


def board_ends(table: Mapping[str, Any]) -> tuple[float, float]:
    """The part of the axis that the scores of a suite are drawn on: all intervals."""
    ends = [0.5]
    for row in table["rows"]:
        if row["score"] is not None:
            ends += [row["score"][k] for k in ("estimate", "low", "high") if row["score"][k] is not None]
    return math.floor(20 * min(ends)) / 20 - 0.02, math.ceil(20 * max(ends)) / 20 + 0.02


def ridges(responses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Curves of the predicted rewards of several responses on one axis.

    Returns:
        `ends` of the axis, `top`, the greatest height, and `curves`, each with `x`, `y`, `mean` and `tail`.
    """
    low = min(min(entry["reward"]) for entry in responses)
    high = max(max(entry["reward"]) for entry in responses)
    room = 0.06 * (high - low)
    ends = (low - room, high + room)
    curves = [
        _curve(entry["reward"], entry["levels"], *ends) | {"mean": entry["mean"], "tail": entry["tail"]}
        for entry in responses
    ]
    return {"ends": ends, "top": max(curve["top"] for curve in curves), "curves": curves}


def quantile(quantiles: list[float], levels: list[float], level: float) -> float:
    """A quantile between the predicted ones, linear in the level."""
    return float(np.interp(level, levels, sorted(quantiles)))


def _bars(
    ratings: Sequence[float], shares: Sequence[float], step: float, place: int, of: int
) -> list[tuple[float, float, float]]:
    """Left, right and height of the bar of each rating; several runs are side by side in its cell.

    Heights are densities, so that bars and curves have one axis.
    """
    width = _CELL * step / of
    left = -0.5 * _CELL * step + place * width
    return [(r + left, r + left + width, share / step) for r, share in zip(ratings, shares, strict=True)]


def _on_grid(quantiles: list[float], levels: list[float], ratings: list[float]) -> list[float]:
    """Shares of the ratings of a grid, from quantiles of ratings that were spread over their cells."""
    middles = 0.5 * (np.asarray(ratings[1:]) + np.asarray(ratings[:-1]))
    below = np.interp(middles, sorted(quantiles), levels, left=0.0, right=1.0)
    return [float(share) for share in np.diff(below, prepend=0.0, append=1.0)]


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
    counts: dict[float, int] = {}
    places = []
    for rating in sorted(ratings):
        place = min(max(rating, low), high)
        places.append((place, counts.get(place, 0)))
        counts[place] = counts.get(place, 0) + 1
    return places
