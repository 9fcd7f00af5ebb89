"""All families against held-out raters: the part of docs/results.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import pluralign as pl
from tables import Rows, interval, read_folder, table

METHODS = {
    "constant": "the average law of the people",
    "average": "one number (ridge regression)",
    "gaussian": "ridge with a Gaussian residual",
    "quantile": "quantile (QRM)",
    "gaussian_ensemble": "Gaussian ensemble (BRME)",
    "transport": "categorical, transport (DPRM)",
    "cross_entropy": "categorical, cross-entropy",
    "rps": "categorical, RPS",
}
THINNINGS = {
    (1.0, None): "all",
    (0.1, None): "10 % of the responses",
    (1.0, 1): "1 rater",
    (1.0, 3): "3 raters",
    (1.0, 5): "5 raters",
}


def section() -> str | None:
    """Distances with everything, then what is left of them with less data."""
    records = {(r["set"], r["method"], (r["share"], r["raters"])): r for r in read_folder("families")}
    if not records:
        return None
    text = (
        "## All families against held-out raters\n\nFrozen MiniLM with length and surface columns, 5-fold cross-fitting over "
        "groups (`python benchmarks/families.py`). Every law is read on the raters' categories and compared with all held-out "
        "raters of a response, in units of the rating scale; a point stays the number it is. W1 is the Wasserstein distance; the "
        "floor is what the true law would score against so few raters. The squared distance is the integral of the squared "
        "difference of distribution functions, unbiased for the number of raters: 0 is perfect. W1 to few raters is no proper "
        "score: a law that is more extreme than the crowd can win, as transport does on summeval; the squared distance then "
        "says so. Intervals are over groups, "
        "each counting alike; the difference is paired, to the average law. `ukpconvarg` has about 165 votes per argument, "
        "summeval's crowd 5 ratings, emobank 5 to 7 (1,260 sentences, reader's valence and arousal)."
    )
    sets = list(dict.fromkeys(name for name, _, _ in records))
    for name in sets:
        rows = list(_rows({m: r for (s, m, t), r in records.items() if s == name and t == (1.0, None)}))
        if rows:
            floors = next(r for (s, _, _), r in records.items() if s == name)["floors"]
            text += (
                f"\n\n**{name}**: floor of W1 {floors['wasserstein_floor']:.3f}; halves of the raters are "
                f"{floors['raters_apart']:.3f} apart.\n\n"
            )
            head = [
                "",
                "W1",
                "minus the average law",
                "squared distance",
                "minus the average law",
                "majority right",
            ]
            text += table(head, rows)
    thinned = list(_thinned(records))
    if thinned:
        text += (
            "\n\nWith less to learn from: the squared distance to all held-out raters (W1 in brackets), by what the family "
            "was fitted on.\n\n"
        ) + table(["", *THINNINGS.values()], thinned)
    return text


def _column(record: dict[str, Any], key: str) -> Any:
    return np.array([own[key] for _, own in sorted(record["groups"].items())])


def _rows(records: dict[str, Any]) -> Iterator[list[str]]:
    for method, label in METHODS.items():
        if method not in records:
            continue
        groups = sorted(records[method]["groups"])
        row = [label]
        for key in ("wasserstein", "energy"):
            own = _column(records[method], key)
            row.append(interval(pl.evaluation.mean_interval(own, groups).to_dict(), 3))
            if method == "constant" or "constant" not in records:
                row.append("")
                continue
            base = _column(records["constant"], key)
            row.append(interval(pl.evaluation.difference_interval(own, base, groups).to_dict(), 3))
        yield [*row, f"{100 * _column(records[method], 'majority').mean():.0f} %"]


def _thinned(records: dict[Any, Any]) -> Iterator[list[str]]:
    for name in dict.fromkeys(name for name, _, t in records if t != (1.0, None)):
        for method, label in METHODS.items():
            cells: Rows = []
            for thinning in THINNINGS:
                record = records.get((name, method, thinning))
                cells.append(
                    [""]
                    if record is None
                    else [
                        f"{_column(record, 'energy').mean():.3f} ({_column(record, 'wasserstein').mean():.3f})"
                    ]
                )
            if any(cell[0] for cell in cells[1:]):
                yield [f"{name}: {label}", *(cell[0] for cell in cells)]
