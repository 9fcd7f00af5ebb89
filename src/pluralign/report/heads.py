"""Heads of an ensemble, as the page shows them: how similar they are, and whether they predict errors.

In: evaluations. Out: the content of a table per run, with one column per attribute or kind of pair. Numbers
are from `results.json`, with their intervals if it has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pluralign.report.evaluations import Evaluation

__all__ = ["HEAD_MEASURES", "HeadMeasure", "heads_of"]


@dataclass(frozen=True)
class HeadMeasure:
    """How one number of an ensemble is shown.

    Attributes:
        name: name in the table.
        meaning: one sentence.
        share: whether it is a share, shown in percent.
        warns: whether it is a correlation of uncertainty with the error.
    """

    name: str
    meaning: str
    share: bool = False
    warns: bool = False


HEAD_MEASURES = {
    "within_std": HeadMeasure(
        "How people differ",
        "Standard deviation within a head on the scale of the ratings, the root of the mean variance.",
    ),
    "between_std": HeadMeasure(
        "What the model does not know",
        "Standard deviation between heads, likewise. The two squares sum to the variance predicted.",
    ),
    "correlation": HeadMeasure(
        "Correlation between heads",
        "Mean over pairs of heads. At 1 all heads agree, and the lowest of them adds no information.",
    ),
    "disagreement": HeadMeasure(
        "Disagreement",
        "Standard deviation between heads, as a share of the standard deviation of their average over texts.",
    ),
    "split": HeadMeasure(
        "Split opinions", "Share of pairs on which some head prefers the other response.", share=True
    ),
    "spearman_between_error": HeadMeasure(
        "Does their disagreement predict errors?",
        "Rank correlation of the standard deviation between heads with the error. Higher is better.",
        warns=True,
    ),
    "spearman_within_error": HeadMeasure(
        "Does the std of the heads predict errors?",
        "The same for the spread that each head predicts. Higher is better.",
        warns=True,
    ),
}


def heads_of(named: Mapping[str, Evaluation]) -> dict[str, dict[str, Any]]:
    """For each run with several heads: `heads`, `std_means` (or None) and `columns`.

    A column is an attribute, or a table of pairs: its numbers by key as intervals, without ends if
    `results.json` has none.
    """
    runs = {}
    for name, evaluation in named.items():
        ensemble = evaluation.results.get("ensemble", {})
        parts = ensemble.get("ratings", {}) | {k: part for k, part in ensemble.items() if k != "ratings"}
        columns = {label: _column(part) for label, part in parts.items() if part.get("heads")}
        if columns:
            runs[name] = {
                "heads": max(part["heads"] for part in parts.values() if part.get("heads")),
                "std_means": evaluation.results["fitted"].get("std_means"),
                "columns": columns,
            }
    return runs


def _column(part: Mapping[str, Any]) -> dict[str, Any]:
    known = part.get("intervals", {})
    return {
        key: known.get(key, {"estimate": part[key], "low": None, "high": None, "reason": "not measured"})
        for key in HEAD_MEASURES
        if part.get(key) is not None
    }
