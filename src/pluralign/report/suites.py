"""The leaderboard of a report: the scores of models and rules on each suite.

In: evaluations with `--suite`. Out: one table per suite, best first. Numbers are those of `results.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pluralign.report.evaluations import Evaluation
from pluralign.report.wording import rule_words

__all__ = ["leaderboard"]


def leaderboard(named: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    """One entry per suite, in the order of the evaluations.

    Returns:
        `title`, `rule`, `sections` (names), `rows` (best first, those without a score last), each with `run`,
        `who`, `own` (whether it is a measure of the model), `score` and `difference` from length (intervals
        or None), `sections`; `missing` by run, and `notes`.
    """
    tables: dict[str, dict[str, Any]] = {}
    for run, evaluation in named.items():
        suite = evaluation.results.get("suite")
        if suite is None:
            continue
        table = tables.setdefault(
            suite["title"],
            {
                "title": suite["title"],
                "rule": suite["rule"],
                "sections": [],
                "rows": [],
                "missing": {},
                "notes": [],
            },
        )
        for rule, found in suite["scores"].items():
            table["sections"] += [name for name in found["sections"] if name not in table["sections"]]
            table["rows"].append(_row(run, rule, found, suite))
        if missing := next(iter(suite["scores"].values()))["missing"]:
            table["missing"][run] = missing
        table["notes"] += [note for note in suite["notes"] if note not in table["notes"]]
    for table in tables.values():
        table["rows"] = sorted(_without_repeats(table["rows"]), key=_place)
    return list(tables.values())


def _row(run: str, rule: str, found: Mapping[str, Any], suite: Mapping[str, Any]) -> dict[str, Any]:
    own = rule in suite["risks"]
    return {
        "run": run,
        "who": rule if own else rule_words(rule),
        "own": own,
        "score": found["interval"].get("overall"),
        "difference": suite["difference"].get(rule),
        "sections": dict(found["sections"]),
    }


def _without_repeats(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Length is the same whoever was evaluated: equal rows of a null baseline are shown once."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        same = [one for one in kept if one["who"] == row["who"] and one["sections"] == row["sections"]]
        if row["own"] or not any(one["score"] == row["score"] for one in same):
            kept.append(row)
    return kept


def _place(row: Mapping[str, Any]) -> tuple[bool, float]:
    return (row["score"] is None, 0.0 if row["score"] is None else -row["score"]["estimate"])
