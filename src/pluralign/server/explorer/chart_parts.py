"""Shared parts of the charts: the schema, labels of axes, names and colours of responses, digits.

In: rows of what `seen` returns. Out: parts of Vega-Lite specifications.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["LABELS", "SCHEMA", "Chart", "Seen", "colour_of", "name_of", "numbers_to", "short"]

Seen = Mapping[str, Any]
Chart = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
LABELS = {"labelLimit": 130, "ticks": False, "domain": False, "labelPadding": 6}


def name_of(response: Mapping[str, Any]) -> str:
    """A response with its rank, as charts label it."""
    return f"{response['rank']}. Response {response['number']}"


def colour_of(found: Seen) -> Chart:
    """The encoding that gives each response its colour."""
    domain = numbers_to(len(found["responses"]))
    scale = {"domain": domain, "range": "responses"}
    return {"field": "response", "type": "nominal", "scale": scale, "legend": None}


def numbers_to(count: int) -> list[int]:
    """A response has its colour whatever its rank."""
    return list(range(1, count + 1))


def short(value: float) -> float:
    """Five digits, as many as a picture can show."""
    return float(f"{value:.5g}")
