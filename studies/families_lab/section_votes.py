"""Votes for six categories in the lab: costs of transport, tables of rewards, and other crowds.

In:  the records. Out: parts of docs/results.md, for `section`.
"""

from __future__ import annotations

from typing import Any

from studies import findings
from studies.cells import NAMES, Records, Value, keys, of, plus_minus, where
from studies.tables import Rows, table

TABLES = ("paper", "equal steps", "harm counts double")
CROSSED = ("rps", "transport")  # losses that know the table


def costs(records: Records) -> str | None:
    """Each cost evaluated under the paper's table, and each table evaluated under each."""
    own = [r for r in records if r["arm"] == "tables"]
    if not own:
        return None
    seeds = len({r["settings"]["seed"] for r in own})
    true = own[0]["results"]["constant"]["harm"]
    text = (
        f"### Costs of transport, and tables of rewards\n\nVotes of 20 people for the six categories on 1,000 responses, {seeds} "
        "seeds. Rewards of a table are mapped to [0, 1], so errors are shares of the distance between its best and its worst "
        "category. Under `rewards` confusing two categories costs the difference of their rewards, and in the paper's table two of the six have the same reward; under `two axes` their distance in helpfulness and in harm; `0 or 1` asks only whether they "
        f"differ. The floor is added for any confusion. Harm is the predicted probability of harm, averaged over texts; the truth is {true:.4f}. W1, "
        "the error of the expected reward and its rank correlation with the true one over texts are under the paper's table.\n\n"
    )
    text += (
        _costs(own)
        + "\n\n"
        + findings.section("families_lab", "Costs")
        + (
            "\n\nFitted with one table and evaluated under another: W1, and in the next column the difference from a fit with the latter. Equal steps order the categories by their number; where harm counts double, a harmful text loses 4 "
            "instead of 2 of the paper's points.\n\n"
        )
    )
    return text + _crossed(own) + "\n\n" + findings.section("families_lab", "Tables of rewards")


def _costs(records: Records) -> str:
    rows: Rows = []
    measured: list[Value] = [of(key) for key in ("total_variation", "harm_error", "harm_said")]
    measured += [of("paper", key) for key in ("w1", "mean_error", "spearman")]
    for (features,) in keys(records, "features"):
        runs = where(records, features=features)
        for name in runs[0]:
            if name.split(", ")[-1] not in TABLES[1:]:
                fits = [run[name] for run in runs]
                rows.append(
                    [f"{NAMES[features]}: {_words(name)}", *(plus_minus(fits, m, 4) for m in measured)]
                )
    head = ["total variation", "error of P(harm)", "harm", "W1", "error of the mean", "rank correlation"]
    return table(["", *head], rows)


def _crossed(records: Records) -> str:
    rows: Rows = []
    for (features,) in keys(records, "features"):
        runs = where(records, features=features)
        for loss in CROSSED:
            for known in TABLES:
                row = [f"{NAMES[features]}: {_words(loss)}, {known}"]
                for other in TABLES:
                    row.append(plus_minus(runs, of(_fit(loss, known), other, "w1"), 4))
                    row.append(_minus_own(runs, loss, known, other))
                rows.append(row)
        cells = [(plus_minus(runs, of("cross_entropy", other, "w1"), 4), "") for other in TABLES]
        rows.append([f"{NAMES[features]}: cross-entropy", *(cell for pair in cells for cell in pair)])
    head = [words for other in TABLES for words in (f"evaluated under {other}", "minus refitted")]
    return table(["fitted with", *head], rows)


def _minus_own(runs: list[dict[str, Any]], loss: str, known: str, other: str) -> str:
    if known == other:
        return ""
    fit, refitted = _fit(loss, known), _fit(loss, other)
    return plus_minus(runs, lambda r: r[fit][other]["w1"] - r[refitted][other]["w1"], 4, "+")


def _fit(loss: str, known: str) -> str:
    """The name under which a fit with a table is kept."""
    return "transport, rewards, floor 0" if (loss, known) == ("transport", "paper") else f"{loss}, {known}"


def _words(name: str) -> str:
    return {"constant": "the average distribution", "cross_entropy": "cross-entropy"}.get(
        name, name.replace("rps", "RPS")
    )


def personas(records: Records) -> str | None:
    """What votes of one crowd say of that crowd, and of everybody."""
    own = [r for r in records if r["arm"] == "personas"]
    rows: Rows = []
    for (features,) in keys(own, "features"):
        runs = [r["crowds"] for r in where(own, features=features)]
        for name in runs[0]:
            row = [f"{NAMES[features]}: {name}", plus_minus(runs, of(name, "apart", "paper", "w1"), 4)]
            for loss in ("cross_entropy", "transport"):
                row += [
                    plus_minus(runs, of(name, loss, whose, "paper", "w1"), 4)
                    for whose in ("own", "everybody")
                ]
            rows.append(
                [*row, plus_minus(runs, of(name, "cross_entropy", "everybody", "paper", "spearman"), 3)]
            )
    if not rows:
        return None
    seeds = len({r["settings"]["seed"] for r in own})
    text = (
        f"### Votes of other people than the target crowd\n\nThe same 1,000 responses and 20 votes each, from other crowds, {seeds} seeds; "
        "W1 under the paper's table, on [0, 1]. `apart` is how far the exact distributions of that crowd and of everybody (all six "
        "personas) are from each other: the error of a perfect model of the wrong people. A panel is a few people, drawn anew for each seed, who vote on everything.\n\n"
    )
    head = [
        f"{words}, to {whose}" for words in ("cross-entropy", "transport") for whose in ("them", "everybody")
    ]
    return (
        text
        + table(["who voted", "apart", *head, "rank correlation"], rows)
        + "\n\n"
        + findings.section("families_lab", "Other people")
    )
