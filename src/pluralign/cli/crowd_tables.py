"""The tables of an evaluation about raters: distances from groups of them, and pairwise calibration.

In: the content of `results.json`. Out: tables on a console.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pluralign.cli.console import Console, interval
from pluralign.report.wording import counted, rule_words

__all__ = ["print_crowd"]


def print_crowd(console: Console, results: Mapping[str, Any]) -> None:
    """Distances by attribute and group of raters, and whether shares of raters are as predicted."""
    for name, parts in results.get("crowd", {}).items():
        rows = []
        for who, part in parts.items():
            constant = interval(part["w1"].get("constant"), 3).partition(" ")[0]
            known = ["-" if part[key] is None else f"{part[key]:.3f}" for key in ("floor", "split_half")]
            energy = interval(part["energy"].get("model"), 4).partition(" ")[0]
            rows.append(
                (who, f"{part['rows']:,}", interval(part["w1"]["model"], 3), constant, *known, energy)
            )
        heads = ("raters", "rows", "W1", "constant", "floor", "their halves", "energy")
        console.table(f"{name}: distance from the people who rated", heads, rows)
    for name, part in results.get("pairwise", {}).items():
        rows = [
            (
                results["family"] if who == "model" else rule_words(who),
                f"{found['error']:.3f}",
                interval(found["brier"], 3),
            )
            for who, found in part["by"].items()
        ]
        sizes = f"{counted(part['rows'], 'pair')}, {counted(part['groups'], 'group')}"
        half = f"always saying 1/2 has Brier {part['of_half']:.3f}"
        console.table(
            f"shares of raters, {name.replace('_', ' ')}: {sizes}; {half}",
            ("", "calibration error", "Brier"),
            rows,
        )
