"""The tables of a suite: prints its part of `results.json` in the terminal.

In: the content of `results.json`. Out: tables on a console, a column per rule: the risk measures of the
model, its baselines, and length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pluralign.cli.console import Console, interval
from pluralign.report.wording import counted, rule_words

__all__ = ["print_suite"]

_MOST_SUBSETS = 40


def print_suite(console: Console, results: Mapping[str, Any]) -> None:
    """The score and its sections, each subset, best of n by n, and what should be known of the suite."""
    suite = results["suite"]
    scores, rules = suite["scores"], list(suite["scores"])
    main = scores[rules[0]]
    rows = []
    for rule in rules:
        name = rule if rule in suite["risks"] else rule_words(rule)
        less = interval(suite["difference"].get(rule), 3)
        rows.append((name, _score(scores[rule]), less, _equal(scores[rule])))
    title = f"{suite['title']}: {counted(suite['rows'], 'row')}, {counted(suite['groups'], 'group')}"
    console.table(title, ("", "score", "minus length", "equal scores"), rows)
    heads = ("", *rules)
    sections = [
        (name, *[_number(scores[rule]["sections"][name]) for rule in rules]) for name in main["sections"]
    ]
    if sections:
        console.table("by section", heads, sections)
    _by_subset(console, suite, heads)
    if "n" in main:
        cells = []
        for i, n in enumerate(main["n"]):
            reached = [f"{scores[rule]['gold'][i]:.3f}" for rule in rules]
            cells.append((f"best of {n}", *reached, f"{main['oracle'][i]:.3f}"))
        console.table("true reward", (*heads, "best possible"), cells)
    console.say(
        f"rule: {suite['rule']}" + ("; weights from before September 2024" if suite["legacy"] else "")
    )
    if main["missing"]:
        console.say(
            f"missing: {', '.join(main['missing'])}; a score that needs them is not given, and others are "
            "comparable with published ones only where nothing is missing"
        )
    for note in suite["notes"]:
        console.say(f"note: {note}")


def _score(found: Mapping[str, Any]) -> str:
    return interval(found["interval"].get("overall"), 3) if found["overall"] is not None else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _equal(found: Mapping[str, Any]) -> str:
    counts = found.get("equal_scores", 0)
    return f"{sum(counts.values()) if isinstance(counts, Mapping) else counts:,}"


def _by_subset(console: Console, suite: Mapping[str, Any], heads: tuple[str, ...]) -> None:
    scores = suite["scores"]
    main = next(iter(scores.values()))
    names = list(main.get("subsets", ()))[:_MOST_SUBSETS]
    if len(names) < 2:
        return
    counts = main.get("rows", {})
    rows = []
    for name in names:
        cells = [_number(found["subsets"].get(name)) for found in scores.values()]
        rows.append((name, f"{counts[name]:,}" if name in counts else "", *cells))
    console.table("by subset", ("", "rows", *heads[1:]), rows)
