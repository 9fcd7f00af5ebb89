"""Panels of judges: the part of docs/results.md, from the records."""

from __future__ import annotations

from typing import Any

from studies import findings
from studies.judges.panels import METHODS, PANELS
from studies.records import results
from studies.tables import Headline, Rows, difference_over_seeds, over_seeds, table

SHOWN = {
    "alike": "five judges of one scale, severity and noise",
    "scales": "1 to 5 (twice), 1 to 10 (twice), 0 to 100",
    "severity": "one scale: mild, milder, strict, and one that uses all of it",
    "noise": "error of 0.3, 0.6, 1, 2 and 4 standard deviations of gold",
    "loud and noisy": "four good ones on 1 to 10, one with an error of 4 on 0 to 100",
    "long": "one of five likes long answers",
    "curved": "one of five, on 0 to 100, praises the best out of proportion",
}


def runs(panel: str) -> list[dict[str, Any]]:
    """The results of a panel's seeds."""
    found: list[dict[str, Any]] = results("judges", "panels", panel=panel)
    return found


def judges(run: dict[str, Any]) -> list[dict[str, float]]:
    """Each judge alone."""
    return [one for name, one in run.items() if name.startswith("judge ")]


def section() -> str | None:
    """Two tables; None before the study was run."""
    if not runs("alike"):
        return None
    first = "## Judges on one scale\n\nFive simulated judges see the crowd's true mean of a response with an error of their own, and write a number on their own scale (`python -m studies judges`). Their scores are averaged as they are (raw), as shares of each judge's nominal scale (range), in standard deviations of its scores for 300 references (standardised), and by ranks among these references, as `pl.combine` does. The errors of different judges are independent, which those of real ones are not. Intervals are Student t over 5 seeds, in which the errors differ and the texts do not.\n\n"
    text = findings.section("judges", "Scales") + "\n\n"
    ranking = "Spearman correlation with the true mean, 600 responses:\n\n" + _table("spearman", 3)
    best = "\n\nTrue mean of the best of 16 responses, in standard deviations:\n\n" + _table("best", 2)
    noise = "\n\n" + findings.section("judges", "Noise")
    return first + text + ranking + best + noise


def headlines() -> list[Headline]:
    """What ranks add to raw scores where scales differ."""
    found = runs("scales")
    if not found:
        return []
    shown = difference_over_seeds(
        (run["ranks"]["spearman"] for run in found), (run["raw"]["spearman"] for run in found), 3
    )
    return [Headline("five judges on three scales, Spearman with gold by ranks minus by raw scores", shown)]


def _table(number: str, digits: int) -> str:
    rows: Rows = []
    for panel in PANELS:
        found = runs(panel)
        if not found:
            continue
        cells = [over_seeds((run[method][number] for run in found), digits) for method in METHODS]
        alone = [sum(one[number] for one in judges(run)) / len(judges(run)) for run in found]
        top = [max(one[number] for one in judges(run)) for run in found]
        rows.append([SHOWN[panel], *cells, over_seeds(alone, digits), over_seeds(top, digits)])
    return table(["panel", *METHODS, "a judge alone", "the best alone"], rows)
