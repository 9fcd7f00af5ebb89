"""Responses to the same prompt, side by side: their predicted rewards, the attributes in which they differ,
and which change rank under a risk-averse measure.

In: the examples of an evaluation. Out: prompts with their responses in order of the mean. The cautious order
is by the mean of the worst tenth, taken of the predicted quantiles of the reward.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pluralign.report.evaluations import Evaluation

__all__ = ["TAIL", "rivals"]

TAIL = 0.1
_PROMPTS, _RESPONSES = 4, 8


def rivals(named: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Prompts with several responses, those whose order changes first.

    Returns:
        `by` (the run whose predictions these are), `prompts` (up to 4), each with `prompt` and `responses`
        (up to 8, best mean first): `response`, `subset`, `levels`, `reward` (quantiles), `mean`, `tail`,
        `place` and `cautious` (1 is best) and `pushes`, by attribute the gate's weight times the distance of
        its mean from that of this prompt's responses, as a share of the scale; `moved` and `of`, of all
        prompts with several responses; or `missing`.
    """
    for name, evaluation in named.items():
        lines = [line for line in evaluation.examples or () if max(line["reward"]) > min(line["reward"])]
        by_prompt: dict[str, list[Mapping[str, Any]]] = {}
        for line in lines:
            by_prompt.setdefault(json.dumps(line["prompt"]), []).append(line)
        several = [_compared(group) for group in by_prompt.values() if len(group) > 1]
        if several:
            order = sorted(several, key=lambda one: (-one["moved"], -len(one["responses"])))
            moved = sum(one["moved"] > 0 for one in several)
            return {"by": name, "prompts": order[:_PROMPTS], "moved": moved, "of": len(several)}
    return {"missing": "No prompt of the examples has several responses with a predicted distribution."}


def _compared(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    entries = [_entry(line) for line in lines]
    for key, place in (("mean", "place"), ("tail", "cautious")):
        ranked = sorted(entries, key=lambda entry: -entry[key])
        for number, entry in enumerate(ranked, 1):
            entry[place] = number
    _pushes(entries, lines)
    entries.sort(key=lambda entry: entry["place"])
    prompt = lines[0]["prompt"][-1]["content"] if lines[0]["prompt"] else ""
    moved = sum(entry["place"] != entry["cautious"] for entry in entries)
    return {"prompt": prompt, "responses": entries[:_RESPONSES], "moved": moved}


def _entry(line: Mapping[str, Any]) -> dict[str, Any]:
    levels, values = np.asarray(line["levels"]), np.sort(np.asarray(line["reward"], dtype=np.float64))
    return {
        "response": line["response"],
        "subset": line.get("subset", ""),
        "levels": list(line["levels"]),
        "reward": values.tolist(),
        "mean": _mean_below(levels, values, 1.0),
        "tail": _mean_below(levels, values, TAIL),
    }


def _mean_below(levels: Any, values: Any, share: float) -> float:
    """The mean of the lowest `share` of a distribution: quantiles linear between levels, flat beyond."""
    grid = (np.arange(400) + 0.5) / 400 * share
    return float(np.interp(grid, levels, values).mean())


def _pushes(entries: Sequence[dict[str, Any]], lines: Sequence[Mapping[str, Any]]) -> None:
    names = list(lines[0]["attributes"])
    if len(names) < 2 or any(list(line["attributes"]) != names for line in lines):
        for entry in entries:
            entry["pushes"] = {}
        return
    means = np.array([[np.mean(line["attributes"][name]) for name in names] for line in lines])
    scales = [next((tuple(e["scales"][n]) for e in lines if n in e.get("scales", {})), None) for n in names]
    spans = np.array([1.0 if scale is None else scale[1] - scale[0] for scale in scales])
    weights = np.array([line["gate"] for line in lines])
    apart = weights * (means - means.mean(0)) / spans
    for entry, row in zip(entries, apart, strict=True):
        entry["pushes"] = dict(zip(names, row.tolist(), strict=True))
