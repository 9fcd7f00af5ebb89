"""The charts of the page as Vega-Lite specifications; their colours are the theme of the page.

In: what `seen` returns. Out: JSON. A specification holds numbers, numbers of responses and names of
attributes, and no text of a user. Every chart has a table of the same numbers beside it, so none is read
aloud.

Reference: Vega-Lite 5, https://vega.github.io/vega-lite/docs/
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from pluralign.server.explorer.chart_parts import LABELS, SCHEMA, Chart, Seen, name_of, numbers_to, short
from pluralign.server.explorer.reward_charts import curves_chart, intervals_chart
from pluralign.server.explorer.seen import MOST_CURVES

__all__ = ["apart", "attribute_chart", "charts", "parameter_chart", "spread_chart"]

_MOST_ATTRIBUTE_BARS = 8


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


def parameter_chart(found: Mapping[str, Any]) -> Chart:
    """A line per response: its utility over the range of the parameter; a rule where the parameter is."""
    lines = [
        {"at": short(x), "utility": short(y), "response": number, "name": f"Response {number}"}
        for number, values in zip(found["numbers"], found["utilities"], strict=True)
        for x, y in zip(found["at"], values, strict=True)
    ]
    ends = [values[-1] for values in found["utilities"]]
    everything = [value for values in found["utilities"] for value in values]
    gap = 0.07 * (max(everything) - min(everything))
    labels = [
        {"at": short(found["at"][-1]), "utility": short(place), "response": number}
        for number, place in zip(found["numbers"], apart(ends, gap), strict=True)
    ]
    title = f"{found['parameter']} of {found['measure']}"
    return {
        "$schema": SCHEMA,
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
                        "scale": {"domain": numbers_to(max(found["numbers"])), "range": "responses"},
                        "legend": None,
                    },
                },
            },
            {
                "data": {"values": labels},
                "mark": {"type": "text", "align": "left", "dx": 5, "fontWeight": 600},
                "encoding": {
                    "x": {"field": "at", "type": "quantitative"},
                    "y": {"field": "utility", "type": "quantitative"},
                    "text": {"field": "response"},
                    "color": {
                        "field": "response",
                        "type": "nominal",
                        "scale": {"domain": numbers_to(max(found["numbers"])), "range": "responses"},
                        "legend": None,
                    },
                },
            },
        ],
    }


def apart(values: Sequence[float], gap: float) -> list[float]:
    """Places for labels: those of the values, moved up where two would be less than a gap apart.

    >>> apart([1.0, 0.0, 1.0], 0.5)
    [1.0, 0.0, 1.5]
    """
    found = list(values)
    order = sorted(range(len(found)), key=found.__getitem__)
    for lower, upper in itertools.pairwise(order):
        found[upper] = max(found[upper], found[lower] + gap)
    return found


def spread_chart(found: Seen) -> Chart:
    """A bar per response: the variance of the reward, as far as people differ and as far as members do."""
    values = []
    for number in found["order"][: 4 * MOST_CURVES]:
        response = found["responses"][number - 1]
        parts = {"people differ": response["within_std"], "the model is unsure": response["between_std"]}
        for place, (part, std) in enumerate(parts.items()):
            row = {"name": name_of(response), "part": part, "place": place}
            values.append(row | {"variance": short(std**2)})
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": {"step": 26},
        "data": {"values": values},
        "mark": {"type": "bar", "height": 13, "cornerRadius": 2},
        "encoding": {
            "y": {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": LABELS},
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
    spec: Chart = {"$schema": SCHEMA, "width": "container", "height": {"step": 24}}
    labels = attribute["labels"]
    axis = {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": LABELS}
    if labels is not None:
        values = [
            {"name": f"Response {n}", "rating": label, "place": place, "share": short(share)}
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
                "low": short(low),
                "high": short(high),
                "mean": short(response["mean"]),
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
