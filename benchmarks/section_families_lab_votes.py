"""Votes for six categories in the lab: costs of transport, tables of rewards, and other crowds.

In:  the result files of `families_lab.py`. Out: parts of docs/results.md, for `section_families_lab`.
"""

from __future__ import annotations

from typing import Any

from families_lab_picture import plus_minus
from qrm_lab_tables import NAMES, Records, Value, keys, of, where
from tables import Rows, table

TABLES = ("paper", "equal steps", "harm counts double")
CROSSED = ("rps", "transport")  # losses that know the table

FOUND_COSTS = (
    "\n\n- Cross-entropy, which knows neither cost nor table, is on average nearest to the truth in every column, and its error of the "
    "probability of harm is about half of any transport's.\n"
    "- A floor is worth having: it lowers total variation by a fifth, and costs nothing that can be seen in reward. Above it "
    "the costs are alike: two axes, 0 or 1 and rewards with a floor of 0.5 agree within their intervals.\n"
    "- Two axes, 0 or 1 and a floor of 0.5 say too little harm: transport follows the median of the votes, also with 20 of "
    "them, and the median of what is rare is lower than its mean.\n"
    "- In the paper's table not helpful and harmless is worth as much as helpful and harmful, and a loss that sees only "
    "rewards cannot tell them apart: RPS then says too much harm, and does not with equal steps, where no two categories tie.\n\n"
)
FOUND_TABLES = (
    "\n\nA fit with the paper's table and RPS is worth less under another table than a new fit, for the same reason: its tie hid "
    "what the other table asks for. The other way round hardly anything is lost, and with transport, whose own error is larger, no "
    "difference is seen. Cross-entropy needs no table: change the rewards and keep the model."
)
FOUND_PERSONAS = (
    "\n\n- Who votes matters more than how their votes are learned: with two personas of six the model is 4 times as far from "
    "everybody as with all six, nearly all of it the distance between the crowds, and its order of texts suffers most where "
    "teenagers and artists speak for all. No loss can help that.\n"
    "- Shifted shares of the same six personas cost little: equal shares, or nobody of one persona, add a fifth of the error; "
    "half of the crowd being of one persona doubles it.\n"
    "- A fixed panel of 30 is as good as people drawn anew for each response; a panel of 3 is twice as far, and it depends on "
    "which 3 they are.\n"
    "- People who judge more steadily are harder to learn, not easier: with half the noise the laws differ more from text to "
    "text, and both losses are farther from them."
)


def costs(records: Records) -> str | None:
    """Each cost judged under the paper's table, and each table judged under each."""
    own = [r for r in records if r["study"] == "tables"]
    if not own:
        return None
    seeds = len({r["settings"]["seed"] for r in own})
    true = own[0]["results"]["constant"]["harm"]
    text = (
        f"### Costs of transport, and tables of rewards\n\nVotes of 20 people for the six categories on 1,000 responses, {seeds} "
        "seeds. Rewards of a table are mapped to [0, 1], so errors are shares of the distance between its best and its worst "
        "category. Under `rewards` confusing two categories costs the difference of their rewards, and in the paper's table two of "
        "the six are worth the same; under `two axes` their distance in helpfulness and in harm; `0 or 1` asks only whether they "
        f"differ. The floor is added for any confusion. Harm is what the average text is said to be; the truth is {true:.4f}. W1, "
        "the error of the expected reward and its rank correlation with the true one over texts are under the paper's table.\n\n"
    )
    text += (
        _costs(own)
        + FOUND_COSTS
        + (
            "Fitted with one table and judged by another: W1, and in the next column the difference from the fit with the table "
            "that judges. Equal steps order the categories by their number; where harm counts double, a harmful text loses 4 "
            "instead of 2 of the paper's points.\n\n"
        )
    )
    return text + _crossed(own) + FOUND_TABLES


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
                for judge in TABLES:
                    row.append(plus_minus(runs, of(_fit(loss, known), judge, "w1"), 4))
                    row.append(_minus_own(runs, loss, known, judge))
                rows.append(row)
        cells = [(plus_minus(runs, of("cross_entropy", judge, "w1"), 4), "") for judge in TABLES]
        rows.append([f"{NAMES[features]}: cross-entropy", *(cell for pair in cells for cell in pair)])
    head = [words for judge in TABLES for words in (f"judged by {judge}", "minus refitted")]
    return table(["fitted with", *head], rows)


def _minus_own(runs: list[dict[str, Any]], loss: str, known: str, judge: str) -> str:
    if known == judge:
        return ""
    fit, refitted = _fit(loss, known), _fit(loss, judge)
    return plus_minus(runs, lambda r: r[fit][judge]["w1"] - r[refitted][judge]["w1"], 4, "+")


def _fit(loss: str, known: str) -> str:
    """The name under which a fit with a table is kept."""
    return "transport, rewards, floor 0" if (loss, known) == ("transport", "paper") else f"{loss}, {known}"


def _words(name: str) -> str:
    return {"constant": "the average law", "cross_entropy": "cross-entropy"}.get(
        name, name.replace("rps", "RPS")
    )


def personas(records: Records) -> str | None:
    """What votes of one crowd say of that crowd, and of everybody."""
    own = [r for r in records if r["study"] == "personas"]
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
        f"### Other people than those who judge\n\nThe same 1,000 responses and 20 votes each, from other crowds, {seeds} seeds; "
        "W1 under the paper's table, on [0, 1]. `apart` is how far the exact laws of that crowd and of everybody (all six "
        "personas) are from each other: what a perfect model of the wrong people would be wrong by. A panel is a few people, "
        "drawn anew for each seed, who judge everything.\n\n"
    )
    head = [
        f"{words}, to {whose}" for words in ("cross-entropy", "transport") for whose in ("them", "everybody")
    ]
    return text + table(["who voted", "apart", *head, "rank correlation"], rows) + FOUND_PERSONAS
