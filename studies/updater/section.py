"""The updaters: the part of docs/results.md, from the records."""

from __future__ import annotations

import statistics
from typing import Any

from studies.records import read
from studies.tables import Headline, Rows, difference_over_seeds, over_seeds, table

SCENARIOS = {
    "steady": "Nothing changes",
    "shift": "The population shifts from scientists and teachers to teenagers and artists",
    "heterogeneity": "One persona becomes six",
    "contradiction": "At half time everybody reverses their opinion",
}
AMOUNTS = {"dense": "900 votes per batch", "sparse": "30 votes per batch"}
HALF_LIVES = ("none", "0.5", "0.2", "0.1", "0.05")
ONCE = {
    "start": "never updated",
    "refit all": "refit on all votes",
    "refit window": "refit on the last 5 batches",
}
FAMILIES = {
    "items": "per item",
    "kept": "per item, prior kept",
    "known": "population, raters known",
    "unknown": "population, raters unknown",
}

Record = dict[str, Any]


def _records() -> list[Record]:
    return [{**r["settings"], **r["results"]} for r in read("updater", "streams")]


def section() -> str | None:
    """Tables of error and time per scenario; None where nothing has been run."""
    records = _records()
    if not records:
        return None
    parts = [
        "## Following a crowd that changes\n\nVotes for six categories on 300 texts come in 20 batches over time 0 to 1 "
        "(`python -m studies updater`, lab). The error is the Wasserstein-1 distance to the exact distribution at that time, in "
        "units of the categories' rewards (1 to -3), after every fourth batch, on average; on the texts voted on, "
        "and on 150 other texts that nobody votes on. Half-lives are shares of the stream. A panel at time 0 (3 votes "
        "per text and persona) makes the prediction that is never updated, the prior of the items (worth 5 votes) and "
        "the personas of the population updater; the refit on all votes begins with 3 of its votes per text. Refits "
        "are of the categorical family by cross-entropy, on features that hold everything, with the penalty that was "
        "best for them. Student t intervals over seeds. The best half-life is not known in advance.",
        _times(records),
    ]
    for scenario, title in SCENARIOS.items():
        for amount, votes in AMOUNTS.items():
            runs = [r for r in records if (r["scenario"], r["votes"]) == (scenario, amount)]
            if runs:
                parts.append(f"**{title}; {votes}** ({len(runs)} seeds)\n\n{_errors(runs)}")
    return "\n\n".join(parts)


def headlines() -> list[Headline]:
    """The population updater against refitting, where the population shifts; half-life a tenth of the stream."""
    runs = [r for r in _records() if (r["scenario"], r["votes"]) == ("shift", "dense")]
    if not runs:
        return []
    methods = ("unknown 0.1", "refit all", "refit window")
    updated, everything, window = ([error(r["curves"], m, "items") for r in runs] for m in methods)
    claim = "following a population that shifts, W1 to the truth: updater minus"
    return [
        Headline(f"{claim} {name}", difference_over_seeds(updated, rival, 3))
        for name, rival in (("refitting on all votes", everything), ("refitting on the last ones", window))
    ]


def _errors(runs: list[Record]) -> str:
    rows: Rows = []
    for part, where in (("items", "voted on"), ("others", "others")):
        for method, name in ONCE.items():
            rows.append([f"{where}: {name}", _cell(runs, method, part), *[""] * (len(HALF_LIVES) - 1)])
        for family, name in FAMILIES.items():
            cells = [_cell(runs, f"{family} {h}", part) for h in HALF_LIVES]
            if any(cells):
                rows.append([f"{where}: {name}", *cells])
    return table(["half-life", *HALF_LIVES], rows)


def _cell(runs: list[Record], method: str, part: str) -> str:
    if not runs[0]["curves"][method][part]:
        return ""
    return over_seeds([error(run["curves"], method, part) for run in runs], 3)


def error(curves: dict[str, Any], method: str, part: str) -> float:
    """Mean over the times at which there is a refit."""
    times, curve = curves["refit all"]["time"], curves[method]
    return statistics.fmean(e for t, e in zip(curve["time"], curve[part], strict=True) if t in times)


def _times(records: list[Record]) -> str:
    rows: Rows = []
    for amount, votes in AMOUNTS.items():
        runs = [r for r in records if r["votes"] == amount]
        if not runs:
            continue
        methods = {f"{family} 0.2": name for family, name in FAMILIES.items() if family != "kept"}
        for method, name in {**methods, **ONCE}.items():
            if method == "start":
                continue
            spent = [1e3 * s for r in runs for s in r["curves"][method]["seconds"]]
            rows.append([f"{name}, {votes}", f"{statistics.median(spent):.1f}", f"{max(spent):.1f}"])
    return "Processor time of one batch, adding it and predicting, in ms on one thread; " + (
        "refits are given features, so embedding time is not counted.\n\n"
        + table(["", "median", "largest"], rows)
    )
