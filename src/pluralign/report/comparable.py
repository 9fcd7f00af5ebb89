"""Cautions where the numbers of several evaluations cannot be compared.

In: evaluations. Out: sentences. Two evaluations are about the same rows of a table if the digests in their
results agree. Results of earlier versions have none; of these, files and numbers of rows are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pluralign.report.evaluations import Evaluation, evaluated_on

__all__ = ["comparison_notes"]

_TABLES = ("ratings", "pairs", "votes")


def comparison_notes(evaluations: Sequence[Evaluation]) -> list[str]:
    """Cautions for reading several runs side by side; none for a single run."""
    if len(evaluations) == 1:
        return []
    differing, unknown = [], False
    for table in _TABLES:
        having = [e for e in evaluations if table in _sizes(e.results)]
        if len(having) < 2:
            continue
        rows = {_rows_of(e, table) for e in having}
        unknown |= None in rows
        if None not in rows and len(rows) > 1:
            differing.append(table)
    notes = []
    if unknown:
        notes.append("Whether the runs were evaluated on the same data is not known: a run.json is missing.")
    if differing:
        notes.append(
            f"These runs were evaluated on different {' and '.join(differing)}: what they say about these is "
            "not comparable."
        )
    notes.append(
        "Intervals are per run. Two runs may differ significantly although their intervals overlap: only the "
        "differences within a run are paired."
    )
    return notes


def _rows_of(evaluation: Evaluation, table: str) -> Any:
    """What identifies the rows of a table; None where nothing does."""
    results = evaluation.results
    if digest := results.get("row_digests", {}).get(table):
        return digest
    if evaluation.run is None:
        return None
    return evaluation.run["inputs"].get(table), evaluated_on(results), _sizes(results)[table]


def _sizes(results: Mapping[str, Any]) -> dict[str, Any]:
    """Rows and groups of each table; of ratings, those of their pairs where there is no calibration."""
    found: dict[str, Any] = {name: (part["rows"], part["groups"]) for name, part in results["pairs"].items()}
    rated = results["ratings"]
    if rated:
        found["ratings"] = tuple((name, part["rows"], part["groups"]) for name, part in rated.items())
    elif "pairs_from_ratings" in found:
        found["ratings"] = found["pairs_from_ratings"]
    return found
