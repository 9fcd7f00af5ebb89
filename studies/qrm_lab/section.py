"""QRM in the lab: the part of docs/results.md. Computes nothing new but means.

Intervals are Student t over the 5 seeds; differences are of runs of the same seed.
"""

from __future__ import annotations

import statistics

from studies.cells import NAMES, PARTS, Records, Value, keys, mean, of, percent, where
from studies.qrm_lab.section_gate import gate
from studies.records import read
from studies.tables import Headline, Rows, table


def section() -> str | None:
    """The studies that have been run; None where there are none."""
    records = read("qrm_lab")
    parts = [
        text
        for study in (_recovery, _levels, _penalties, gate, _length)
        if (text := study([r for r in records if r["arm"] == study.__name__.lstrip("_")])) is not None
    ]
    if not parts:
        return None
    intro = (
        "## QRM in the lab\n\nThe lab's crowd has an exact distribution of reward (`python -m studies qrm_lab`). Nothing "
        "here is measured on drawn ratings or votes: errors, losses and accuracies are exact expectations on texts of "
        "prompts that no fit has seen, half with objects and half with tasks that training never names, unless stated otherwise. Seeds share one pool of texts and differ in which texts are fitted on, who rates them and who decides each pair; intervals are Student t over 5 seeds."
    )
    return "\n\n".join([intro, *parts])


def headlines() -> list[Headline]:
    """The error of the quantiles with the most ratings, and the constant model's."""
    records = read("qrm_lab", "recovery")
    found = []
    for features, count in keys(records, "features", "ratings"):
        if count == max(r["settings"]["ratings"] for r in records):
            runs = where(records, features=features, ratings=count)
            both = (mean(runs, _both(who, "w1"), 3) for who in ("model", "constant"))
            claim = f"quantile model in the lab, {count:,} ratings, W1 to the truth ({NAMES[features]})"
            found.append(Headline(claim, "; the constant model ".join(both)))
    return found


def _recovery(records: Records) -> str | None:
    if not records:
        return None
    rows: Rows = []
    for features, count in keys(records, "features", "ratings"):
        runs = where(records, features=features, ratings=count)
        rows.append(
            [
                f"{NAMES[features]}, {count:,}",
                mean(runs, _both("model", "w1"), 3),
                mean(runs, lambda r: _both("model", "w1")(r) - _both("constant", "w1")(r), 3),
                *(mean(runs, _error(k), 3) for k in (0, 9, 18)),
                percent(runs, _both("model", "coverage")),
                percent(runs, _both("model", "crossing")),
                f"{statistics.median(r['l1'] for r in runs):g}",
            ]
        )
    text = (
        "### True quantiles, as ratings grow\n\nW1 between the predicted and the true distribution of a rating of 1 to 5 (spread "
        "over its grid step), five ratings to a text. The constant model predicts the training ratings' quantiles for "
        f"every text. The true quantiles at the 19 levels, with flat tails, have W1 {_floor(records)}. `error` is the mean "
        "absolute error of one predicted quantile. Traits hold everything that the crowd responds to, so what is left there is the estimator's error and what a linear head cannot express; the rest of MiniLM's error is what its features do not carry."
    )
    head = ["features, ratings", "W1", "minus constant", "error at .05", "at .5", "at .95"]
    return text + "\n\n" + table([*head, "true coverage of 5-95 %", "crossing", "median l1"], rows)


def _levels(records: Records) -> str | None:
    if not records:
        return None
    rows: Rows = []
    for (features,) in keys(records, "features"):
        runs = where(records, features=features)
        for count in ("1", "5", "9", "19", "39"):
            rows.append(
                [
                    f"{NAMES[features]}, K = {count}",
                    mean(runs, _both(count, "w1"), 3),
                    mean(runs, lambda r, k=count: _both(k, "crps")(r) - _both(k, "floor")(r), 4),
                    mean(runs, lambda r, k=count: _both(k, "crps")(r) - _both("19", "crps")(r), 4),
                    percent(runs, _both(count, "crossing")),
                ]
            )
    text = (
        "### How many levels\n\n10,000 ratings, the same l1 for every K, levels k/(K + 1). CRPS is expected under the true "
        "distribution, less that of the true distribution itself; K = 1 is the median alone."
    )
    return text + "\n\n" + table(["", "W1", "CRPS above the truth's", "minus K = 19", "crossing"], rows)


def _penalties(records: Records) -> str | None:
    if not records:
        return None
    rows: Rows = []
    runs = [r["results"] for r in records]
    for l1 in sorted(runs[0], key=float):
        columns = runs[0][l1]["used"]["columns"]
        rows.append(
            [
                l1,
                f"{statistics.mean(r[l1]['used']['weights'] for r in runs):.0f} of {columns}",
                percent(runs, _both(l1, "crossing")),
                mean(runs, _both(l1, "pinball_as_fitted"), 4),
                mean(runs, lambda r, k=l1: _both(k, "pinball")(r) - _both(k, "pinball_as_fitted")(r), 4),
                mean(runs, _both(l1, "w1"), 3),
            ]
        )
    text = (
        "### l1 and crossing\n\nMiniLM, 10,000 ratings, 19 levels. Crossing is the share of neighbouring levels that are "
        "out of order before sorting; pinball loss is expected under the true distribution, on the scale of ratings."
    )
    head = [
        "l1",
        "weights not 0, per level",
        "crossing",
        "pinball loss as fitted",
        "sorted minus as fitted",
        "W1",
    ]
    return text + "\n\n" + table(head, rows)


def _length(records: Records) -> str | None:
    if not records:
        return None
    parts = [
        "### Debiasing for length\n\nFour attributes and `verbosity`, 2,000 rated texts, 5,000 pairs. In one crowd people "
        "judge as they do; in the other everybody over-rates each word by 0.05 rating units, in ratings, in votes and in "
        "the pairs of the gate, and the truth does not. Spearman is between score and number of words; accuracy is "
        "against one person as they vote, against one person without the bias, and against the unbiased crowd's mean "
        "judgement (gold). `length` takes tokens off, where shift and parity are the same; `dropped` and `length` do "
        "without the attribute verbosity, since no lambda suffices for it."
    ]
    shown = ("spearman", "spearman_of_cvar", "voted", "fair", "gold")
    for (bias,) in keys(records, "bias"):
        crowd = where(records, bias=bias)[0]["crowd"]
        rows: Rows = []
        for (features,) in keys([r for r in records if r["settings"]["bias"] == bias], "features"):
            runs = where(records, bias=bias, features=features)
            for name in runs[0]:
                if name == "crowd":
                    continue
                changes = [
                    mean(runs, lambda r, n=name, k=key: r[n][k] - r["none"][k], 3) if name != "none" else ""
                    for key in ("voted", "gold")
                ]
                row = [
                    f"{NAMES[features]}: {name}",
                    *(mean(runs, of(name, key), 3) for key in shown),
                    *changes,
                ]
                rows.append(row)
        parts.append(
            (f"Each word over-rated by {bias:g}" if bias else "The crowd as it is")
            + f": gold follows length with a Spearman correlation of {crowd['gold']:.2f}, what the crowd says with "
            f"{crowd['recorded']:.2f}.\n\n"
            + table(
                [
                    "",
                    "Spearman",
                    "of cvar:0.1",
                    "votes",
                    "fair votes",
                    "gold",
                    "votes, minus none",
                    "gold, minus none",
                ],
                rows,
            )
        )
    return "\n\n".join(parts)


def _both(name: str, key: str) -> Value:
    """The mean over both kinds of unseen prompts; runs keep either part or setting on the outside."""
    return lambda r: statistics.mean((r[part][name] if part in r else r[name][part])[key] for part in PARTS)


def _error(level: int) -> Value:
    return lambda r: statistics.mean(r[part]["model"]["mae_by_level"][level] for part in PARTS)


def _floor(records: Records) -> str:
    return f"{_both('true', 'w1')(records[0]['results']):.3f}"
