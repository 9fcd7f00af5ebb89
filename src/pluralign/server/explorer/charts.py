"""The charts of the page as Vega-Lite specifications; their colours are the theme of the page.

In: what `seen` returns. Out: JSON. A specification holds numbers, numbers of responses and names of
attributes, and no text of a user. Every chart has a table of the same numbers beside it, so none is read
aloud.

Reference: Vega-Lite 5, https://vega.github.io/vega-lite/docs/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pluralign.server.explorer.seen import MOST_CURVES

__all__ = ["attribute_chart", "charts", "curves_chart", "intervals_chart", "parameter_chart", "spread_chart"]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_ROW, _SLIM_ROW = 58, 18  # pixels of a response
_UNIT = "reward, in standard deviations"
_MOST_ATTRIBUTE_BARS = 8

Seen = Mapping[str, Any]
Chart = dict[str, Any]


def charts(found: Seen) -> dict[str, Any]:
    """Every chart that there is something for, by name; `attributes` is a list of them, by attribute."""
    few = len(found["responses"]) <= MOST_CURVES and found["curves"] is not None
    named: dict[str, Any] = {"rewards": curves_chart(found) if few else intervals_chart(found)}
    if found["along"] is not None and len(found["responses"]) > 1:
        named["parameter"] = parameter_chart(found["along"])
    if found["has_members"]:
        named["spread"] = spread_chart(found)
    named["attributes"] = [attribute_chart(one, found["order"]) for one in found["attributes"]]
    return named


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
            shapes.append(
                {"x": _short(x), "base": -row, "top": _short(-row + height * y), "response": number}
            )
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
                    "color": _colour(found),
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


def parameter_chart(found: Mapping[str, Any]) -> Chart:
    """A line per response: its utility over the range of the parameter; a rule where the parameter is."""
    lines = [
        {"at": _short(x), "utility": _short(y), "response": number, "name": f"Response {number}"}
        for number, values in zip(found["numbers"], found["utilities"], strict=True)
        for x, y in zip(found["at"], values, strict=True)
    ]
    title = f"{found['parameter']} of {found['measure']}"
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": 220,
        "layer": [
            {
                "data": {"values": [{"at": found["now"]}]},
                "mark": {"type": "rule", "strokeDash": [4, 3]},
                "encoding": {"x": {"field": "at", "type": "quantitative"}},
            },
            {
                "data": {"values": lines},
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {
                    "x": {
                        "field": "at",
                        "type": "quantitative",
                        "title": title,
                        "scale": {"zero": False, "nice": False},
                        "axis": {"tickCount": 6, "grid": False},
                    },
                    "y": {
                        "field": "utility",
                        "type": "quantitative",
                        "title": "utility",
                        "scale": {"zero": False},
                        "axis": {"tickCount": 5},
                    },
                    "color": {
                        "field": "response",
                        "type": "nominal",
                        "scale": {"domain": _domain(max(found["numbers"])), "range": "responses"},
                        "legend": None,
                    },
                },
            },
            {
                "data": {"values": [line for line in lines if line["at"] == _short(found["at"][-1])]},
                "mark": {"type": "text", "align": "left", "dx": 5, "fontWeight": 600},
                "encoding": {
                    "x": {"field": "at", "type": "quantitative"},
                    "y": {"field": "utility", "type": "quantitative"},
                    "text": {"field": "response"},
                    "color": {
                        "field": "response",
                        "type": "nominal",
                        "scale": {"domain": _domain(max(found["numbers"])), "range": "responses"},
                        "legend": None,
                    },
                },
            },
        ],
    }


def spread_chart(found: Seen) -> Chart:
    """A bar per response: the variance of the reward, as far as people differ and as far as members do."""
    values = []
    for number in found["order"][: 4 * MOST_CURVES]:
        response = found["responses"][number - 1]
        parts = {"people differ": response["within_std"], "the model is unsure": response["between_std"]}
        for place, (part, std) in enumerate(parts.items()):
            row = {"name": _name(response), "part": part, "place": place}
            values.append(row | {"variance": _short(std**2)})
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": {"step": 26},
        "data": {"values": values},
        "mark": {"type": "bar", "height": 13, "cornerRadius": 2},
        "encoding": {
            "y": {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": _LABELS},
            "x": {
                "field": "variance",
                "type": "quantitative",
                "title": "variance of the reward",
                "stack": "zero",
                "axis": {"tickCount": 5},
            },
            "order": {"field": "place", "type": "quantitative"},
            "color": {
                "field": "part",
                "type": "nominal",
                "scale": {"domain": ["people differ", "the model is unsure"], "range": ["people", "unsure"]},
                "legend": {"orient": "top", "title": None},
            },
        },
    }


def attribute_chart(attribute: Mapping[str, Any], order: Sequence[int]) -> Chart:
    """A bar per response: the share of people who give each rating; or an interval on the scale."""
    numbers = list(order[:_MOST_ATTRIBUTE_BARS])
    spec: Chart = {"$schema": _SCHEMA, "width": "container", "height": {"step": 24}}
    labels = attribute["labels"]
    axis = {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": _LABELS}
    if labels is not None:
        values = [
            {"name": f"Response {n}", "rating": label, "place": place, "share": _short(share)}
            for n in numbers
            for place, (label, share) in enumerate(
                zip(labels, attribute["responses"][n - 1]["shares"], strict=True)
            )
        ]
        return spec | {
            "data": {"values": values},
            "mark": {"type": "bar", "height": 14},
            "encoding": {
                "y": axis,
                "x": {
                    "field": "share",
                    "type": "quantitative",
                    "stack": "normalize",
                    "title": "share of people",
                    "axis": {"format": "%", "tickCount": 4, "grid": False},
                },
                "order": {"field": "place", "type": "quantitative"},
                "color": {
                    "field": "rating",
                    "type": "ordinal",
                    "scale": {"domain": labels, "range": "ramp"},
                    "legend": {
                        "orient": "top",
                        "title": None,
                        "columns": 3 if max(map(len, labels)) > 6 else 0,
                    },
                },
            },
        }
    values = []
    for n in numbers:
        response = attribute["responses"][n - 1]
        low, *_, high = response["quantiles"]
        values.append(
            {
                "name": f"Response {n}",
                "low": _short(low),
                "high": _short(high),
                "mean": _short(response["mean"]),
            }
        )
    x = {"type": "quantitative", "scale": {"domain": [attribute["low"], attribute["high"]], "nice": False}}
    return spec | {
        "data": {"values": values},
        "encoding": {"y": axis},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"x": {"field": "low", "title": "rating", **x}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {"x": {"field": "mean", **x}},
            },
        ],
    }


_LABELS = {"labelLimit": 130, "ticks": False, "domain": False, "labelPadding": 6}


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
        "scale": {"domain": [_short(min(ends) - margin), _short(max(ends) + margin)], "nice": False},
        "axis": {"tickCount": 7, "grid": False},
    }
    names = [_name(found["responses"][number - 1]) for number in numbers]
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": height,
        "encoding": {
            "x": {"type": "quantitative", **first},
            "y": {
                "type": "quantitative",
                "title": None,
                "scale": {"domain": list(y_range), "nice": False},
                "axis": _LABELS
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
                        "color": _colour(found),
                    },
                }
            )
    layers.append(
        {
            "data": data,
            "mark": {"type": "point", "filled": True, "size": 36 if slim else 46, "opacity": 1},
            "encoding": {"x": {"field": "mean", "type": "quantitative"}, "y": y, "color": _colour(found)},
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
    q05, q25, _, q75, q95 = map(_short, response["quantiles"])
    return {
        "response": response["number"],
        "name": _name(response),
        "mean": _short(response["mean"]),
        "utility": _short(response["utility"]),
        "q05": q05,
        "q25": q25,
        "q75": q75,
        "q95": q95,
    }


def _ends(found: Seen, response: Mapping[str, Any]) -> list[float]:
    used = [response["mean"], *((response["utility"],) if found["in_units_of_reward"] else ())]
    return used if found["is_point"] else [*used, response["quantiles"][0], response["quantiles"][-1]]


def _name(response: Mapping[str, Any]) -> str:
    return f"{response['rank']}. Response {response['number']}"


def _colour(found: Seen) -> Chart:
    domain = _domain(len(found["responses"]))
    scale = {"domain": domain, "range": "responses"}
    return {"field": "response", "type": "nominal", "scale": scale, "legend": None}


def _domain(count: int) -> list[int]:
    """A response has its colour whatever its rank."""
    return list(range(1, count + 1))


def _short(value: float) -> float:
    """Five digits, as many as a picture can show."""
    return float(f"{value:.5g}")
