"""Suites and pairs of real people: the part of docs/results.md."""

from __future__ import annotations

from typing import Any

from pluralign.families import title_of
from studies import findings
from studies.records import read
from studies.suites.evaluated import LAMBDAS, SETS, TRAINED_ON
from studies.tables import Rows, interval, table


def runs() -> dict[str, dict[str, Any]]:
    """The results of each family, by name."""
    return {r["settings"]["family"]: r["results"] for r in read("suites", "families", seed=0)}


def section() -> str | None:
    """The text, or None where nothing has been run."""
    found = runs()
    if not found:
        return None
    first = next(iter(found.values()))
    text = (
        "## Suites and pairs of real people\n\nFrozen MiniLM, one model per family, fitted on "
        f"{first['trained']:,} comparisons of {', '.join(TRAINED_ON)} (`python -m studies suites`); evaluated on held-out "
        "groups of these, and on llmbar and rm_bench, which nobody trains on. Share of pairs whose better side has the "
        "higher mean, by each suite's rule, with 95 % intervals over groups; rm_bench has no math here, so its score is "
        "not comparable with published ones.\n\n"
    )
    head = ["", *SETS]
    rows: Rows = [
        [title_of(family), *(_score(results, name, "mean") for name in SETS)]
        for family, results in found.items()
    ]
    rows.append(["longer wins", *(_score(first, name, "length") for name in SETS)])
    text += table(head, rows)
    text += "\n\nMinus length, paired by row:\n\n"
    rows = [
        [title_of(family), *(interval(results["sets"][name]["difference"].get("mean"), 3) for name in SETS)]
        for family, results in found.items()
    ]
    text += table(head, rows)
    cautious: Rows = []
    for family, results in found.items():
        for rule in ("mean", *(f"entropic:{one:g}" for one in LAMBDAS)):
            if rule in results["sets"]["llmbar"]["scores"] and len(results["sets"]["llmbar"]["scores"]) > 3:
                cells = [results["sets"][name]["scores"].get(rule) for name in SETS]
                shown = ["" if cell is None else f"{cell['interval']['estimate']:.3f}" for cell in cells]
                cautious.append([f"{title_of(family)}, {rule}", *shown])
    text += "\n\nThe same by the entropic utility, the more cautious the larger lambda:\n\n" + table(
        head, cautious
    )
    return text + "\n\n" + findings.section("suites", "Suites")


def _score(results: dict[str, Any], name: str, rule: str) -> str:
    found = results["sets"][name]["scores"].get(rule)
    return "" if found is None else interval(found["interval"], 3)
