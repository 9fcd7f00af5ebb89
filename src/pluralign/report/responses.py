"""The responses that a report shows with their text: those with the widest and the narrowest prediction.

In: evaluations with examples. Out: texts with predicted quantiles per run, ratings, and true quantiles if
they are known. They are selected by the prediction of the first run that has one, never by the ratings.

Contested: by the width of the central interval, between the outermost levels, as a share of the rating scale.
If ratings are on a grid, the prediction is shown rounded to it; the order is by the prediction before
rounding, which has fewer ties.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pluralign.report.evaluations import Evaluation

__all__ = ["chosen_responses"]

_SHOWN = 6


def chosen_responses(named: Mapping[str, Evaluation]) -> dict[str, Any]:
    """The most contested and the most agreed responses, and the rest in between.

    Returns:
        `by` (the run whose prediction is used), `contested` and `agreed` (up to 6 each), `all` (every
        example, most contested first), each with `prompt`, `response`, `subset`, `attribute`, `scale`,
        `levels`, `predicted` per run (quantiles), `grid` per run (`ratings` and their `shares`, if they are
        on one), `ratings`, `true`, `width`, `profile` (quantiles by attribute) and `gate`; or `missing`.
    """
    if not any(e.examples for e in named.values()):
        return {"missing": "There is no examples.jsonl, so no texts can be shown."}
    usable = {n: e for n, e in named.items() if any(map(_has_spread, e.examples or ()))}
    if not usable:
        return {"missing": "No run predicts more than one number per response, so there is nothing to draw."}
    by, first = next(iter(usable.items()))
    others = {
        name: {_key(line): line for line in e.examples or ()} for name, e in usable.items() if name != by
    }
    scales = _scales(first.examples or ())
    entries = []
    for line in first.examples or ():
        entry = _entry(line, first.results["ratings"], scales)
        if entry is None:
            continue
        entry["predicted"] = {by: entry.pop("quantiles")}
        attribute = entry["attribute"]
        entry["grid"] = {by: grid} if (grid := line.get("grid", {}).get(attribute)) else {}
        for name, lines in others.items():
            match = lines.get(_key(line))
            found = match["attributes"].get(attribute) if match is not None else None
            if match is not None and found and match["levels"] == entry["levels"] and max(found) > min(found):
                entry["predicted"][name] = _shown(match, attribute)
                if grid := match.get("grid", {}).get(attribute):
                    entry["grid"][name] = grid
        entries.append(entry)
    if not entries:
        return {"missing": "examples.jsonl has no attribute that was evaluated."}
    entries.sort(key=lambda entry: -entry["width"])
    count = min(_SHOWN, len(entries) // 2)
    return {
        "by": by,
        "runs": [n for n in usable if any(n in entry["predicted"] for entry in entries)],
        "has_ratings": any(entry["ratings"] for entry in entries),
        "has_truth": any(entry["true"] for entry in entries),
        "contested": entries[:count] if count else entries,
        "agreed": entries[len(entries) - count :][::-1],
        "all": entries,
    }


def _has_spread(line: Mapping[str, Any]) -> bool:
    return any(max(quantiles) > min(quantiles) for quantiles in line["attributes"].values())


def _key(line: Mapping[str, Any]) -> str:
    return json.dumps([line["prompt"], line["response"]])


def _entry(
    line: Mapping[str, Any], evaluated: Mapping[str, Any], scales: Mapping[str, tuple[float, float]]
) -> dict[str, Any] | None:
    """One response with the attribute on which it is most contested."""
    widths = {}
    for attribute, quantiles in line["attributes"].items():
        if (attribute in evaluated or not evaluated) and len(quantiles) > 1:
            low, high = scales[attribute]
            widths[attribute] = (quantiles[-1] - quantiles[0]) / (high - low)
    rated = [a for a in widths if line.get("ratings", {}).get(a)]
    candidates = {a: widths[a] for a in rated or widths}
    if not candidates:
        return None
    attribute = max(candidates, key=lambda a: candidates[a])
    prompt = line["prompt"][-1]["content"] if line["prompt"] else ""
    return {
        "prompt": prompt,
        "response": line["response"],
        "subset": line.get("subset", ""),
        "attribute": attribute,
        "scale": scales[attribute],
        "levels": line["levels"],
        "quantiles": _shown(line, attribute),
        "ratings": line.get("ratings", {}).get(attribute),
        "true": line.get("true_quantiles", {}).get(attribute),
        "width": candidates[attribute],
        "profile": {
            a: {"scale": scales[a], "quantiles": _shown(line, a)} for a in line["attributes"] if a in widths
        },
        "gate": dict(zip(line["attributes"], line["gate"], strict=True)),
    }


def _shown(line: Mapping[str, Any], attribute: str) -> list[float]:
    """Quantiles at the line's levels: of the shares of ratings on a grid, else as predicted."""
    grid = line.get("grid", {}).get(attribute)
    if grid is None:
        return list(line["attributes"][attribute])
    below = np.cumsum(grid["shares"])
    places = np.searchsorted(below, np.asarray(line["levels"]) * below[-1] - 1e-6)
    return [float(grid["ratings"][place]) for place in places]


def _scales(examples: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """The rating scale of every attribute; the range of its predictions if the file has none."""
    scales: dict[str, tuple[float, float]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for line in examples:
        for attribute, (low, high) in line.get("scales", {}).items():
            scales.setdefault(attribute, (low, high))
        for attribute, quantiles in line["attributes"].items():
            low, high = ranges.get(attribute, (np.inf, -np.inf))
            ranges[attribute] = (min(low, *quantiles), max(high, *quantiles))
    for attribute, (low, high) in ranges.items():
        bottom, top = float(np.floor(low)), float(np.ceil(high))
        scales.setdefault(attribute, (bottom, max(top, bottom + 1)))
    return scales
