"""The charts of the rewards: a curve for each of a few responses, or an interval for each of many.

In: what `seen` returns. Out: Vega-Lite specifications over one axis of rewards, a row per response in the
order of the ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pluralign.server.explorer.chart_parts import LABELS, SCHEMA, Chart, Seen, colour_of, name_of, short
from pluralign.server.explorer.seen import MOST_CURVES

__all__ = ["curves_chart", "intervals_chart"]

_ROW, _SLIM_ROW = 58, 18  # pixels of a response
_UNIT = "reward, in standard deviations"


def curves_chart(found: Seen) -> Chart:
    """A row per response, in the order of the ranking: curve, middle 90 %, mean and utility."""
    curves = found["curves"]
    numbers = [number for number in found["order"] if number in curves["numbers"]]
    by_number = dict(zip(curves["numbers"], curves["curves"], strict=True))
    peak = max(max(curve) for curve in curves["curves"]) or 1.0
    shapes, marks = [], []
    for row, number in enumerate(numbers):
        own = max(by_number[number]) or 1.0
        height = 0.78 * (own / peak) ** 0.5 / own  # so that a sure response does not flatten the others
        for x, y in zip(curves["x"], by_number[number], strict=True):
            shapes.append({"x": short(x), "base": -row, "top": short(-row + height * y), "response": number})
        response = found["responses"][number - 1]
        marks.append(_mark(found, response) | {"base": -row, "low": -row - 0.1, "peak": -row + 0.82})
    return _rewards(
        found,
        height=_ROW * len(numbers),
        numbers=numbers,
        layers=[
            {
                "data": {"values": shapes},
                "mark": {
                    "type": "area",
                    "interpolate": "linear",
                    "opacity": 0.32,
                    "line": {"strokeWidth": 1.5},
                },
                "encoding": {
                    "x": {"field": "x", "type": "quantitative"},
                    "y": {"field": "top", "type": "quantitative"},
                    "y2": {"field": "base"},
                    "color": colour_of(found),
                },
            },
            *_interval_layers(found, marks, "low"),
        ],
        y_range=(-len(numbers) + 0.72, 1.0),
    )


def intervals_chart(found: Seen) -> Chart:
    """A slim row per response, for many of them and for models that give one number."""
    marks = []
    for row, number in enumerate(found["order"]):
        response = found["responses"][number - 1]
        marks.append(
            _mark(found, response) | {"base": -row, "low": -row, "peak": -row + 0.38, "foot": -row - 0.38}
        )
    count = len(found["order"])
    return _rewards(
        found,
        height=max(_SLIM_ROW * count, 40) + 10,
        numbers=found["order"],
        layers=_interval_layers(found, marks, "low", slim=True),
        y_range=(-count + 0.3, 0.7),
    )


def _rewards(
    found: Seen, *, height: int, numbers: Sequence[int], layers: list[Chart], y_range: tuple[float, float]
) -> Chart:
    """Layers over the axis of rewards, with a rule at the average response."""
    ends = [end for n in numbers for end in _ends(found, found["responses"][n - 1])] + [0.0]
    if found["curves"] is not None and len(numbers) <= MOST_CURVES:
        ends += [found["curves"]["x"][0], found["curves"]["x"][-1]]
    margin = 0.04 * (max(ends) - min(ends)) or 1.0
    zero = {
        "data": {"values": [{"x": 0}]},
        "mark": {"type": "rule", "strokeDash": [3, 3], "opacity": 0.7},
        "encoding": {"x": {"field": "x", "type": "quantitative"}},
    }
    first = {
        "title": "reward" if found["is_point"] else _UNIT,
        "scale": {"domain": [short(min(ends) - margin), short(max(ends) + margin)], "nice": False},
        "axis": {"tickCount": 7, "grid": False},
    }
    names = [name_of(found["responses"][number - 1]) for number in numbers]
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": height,
        "encoding": {
            "x": {"type": "quantitative", **first},
            "y": {
                "type": "quantitative",
                "title": None,
                "scale": {"domain": list(y_range), "nice": False},
                "axis": LABELS
                | {
                    "values": [-row for row in range(len(numbers))],
                    "labelExpr": f"{names!r}[round(-datum.value)]",
                    "grid": False,
                    "labelOverlap": False,
                },
            },
        },
        "layer": [zero, *layers],
    }


def _interval_layers(found: Seen, marks: list[Chart], line: str, *, slim: bool = False) -> list[Chart]:
    """The middle 90 % and 50 %, the mean, and the utility where it is in units of reward."""
    y = {"field": line, "type": "quantitative"}
    data = {"values": marks}
    layers: list[Chart] = []
    if not found["is_point"]:
        for ends, width in ((("q05", "q95"), 1.5), (("q25", "q75"), 4)):
            layers.append(
                {
                    "data": data,
                    "mark": {"type": "rule", "strokeWidth": width, "opacity": 0.75},
                    "encoding": {
                        "x": {"field": ends[0], "type": "quantitative"},
                        "x2": {"field": ends[1]},
                        "y": y,
                        "color": colour_of(found),
                    },
                }
            )
    layers.append(
        {
            "data": data,
            "mark": {"type": "point", "filled": True, "size": 36 if slim else 46, "opacity": 1},
            "encoding": {"x": {"field": "mean", "type": "quantitative"}, "y": y, "color": colour_of(found)},
        }
    )
    if found["in_units_of_reward"]:
        layers.append(
            {
                "data": data,
                "mark": {"type": "rule", "strokeWidth": 2.5, "strokeCap": "round"},
                "encoding": {
                    "x": {"field": "utility", "type": "quantitative"},
                    "y": {"field": "foot" if slim else "low", "type": "quantitative"},
                    "y2": {"field": "peak"},
                },
            }
        )
    return layers


def _mark(found: Seen, response: Mapping[str, Any]) -> Chart:
    q05, q25, _, q75, q95 = map(short, response["quantiles"])
    return {
        "response": response["number"],
        "name": name_of(response),
        "mean": short(response["mean"]),
        "utility": short(response["utility"]),
        "q05": q05,
        "q25": q25,
        "q75": q75,
        "q95": q95,
    }


def _ends(found: Seen, response: Mapping[str, Any]) -> list[float]:
    used = [response["mean"], *((response["utility"],) if found["in_units_of_reward"] else ())]
    return used if found["is_point"] else [*used, response["quantiles"][0], response["quantiles"][-1]]
