"""All families in the lab: the part of docs/results.md. Made of the records.

It computes nothing but means and Student t intervals over seeds, and draws the picture of recovery.
"""

from __future__ import annotations

import statistics
from typing import Any

from studies import findings
from studies.cells import NAMES, Records, keys, of, plus_minus, where
from studies.families_lab import picture
from studies.families_lab.section_votes import costs, personas
from studies.records import read
from studies.tables import Rows, table

FAMILIES = {
    "constant": "average distribution",
    "quantile": "quantile",
    "gaussian": "Gaussian residual",
    "gaussian_ensemble": "Gaussian ensemble",
    "cross_entropy": "cross-entropy",
    "rps": "RPS",
    "transport": "transport",
}
LOSSES = {"cross_entropy": "cross-entropy", "rps": "RPS", "transport": "transport"}


def section() -> str | None:
    """The studies that have been run; None where there are none."""
    records = read("families_lab")
    studies = {name: [r for r in records if r["arm"] == name] for name in ("recovery", "bounds")}
    parts = [
        text
        for text in (_recovery(**studies), _categories(records), costs(records), personas(records))
        if text
    ]
    if not parts:
        return None
    intro = (
        "## All families in the lab\n\nThe crowd's exact distribution is known (`python -m studies families_lab`). Errors are exact "
        "expectations on 2,000 texts of prompts that no fit has seen, half with objects and half with tasks that training never "
        "names. A seed stands for other texts and other people; ± is half of a Student t interval over seeds. Categorical fits "
        "choose among penalties from 0.0003 to 3, each ten times the last (to 0.03 from 10,000 responses on, and below `Recovery`); "
        "all else is the package's default."
    )
    return "\n\n".join([intro, *parts])


def pictures() -> None:
    """docs/images/families_recovery.svg."""
    picture.draw(read("families_lab", "recovery"))


# -- recovery ----------------------------------------------------------------------------------------


def _recovery(recovery: Records, bounds: Records) -> str | None:
    if not recovery or not bounds:
        return None
    least = bounds[0]["results"]
    text = (
        "### Recovery of the true distribution\n\n"
        "![Distance to the true distribution by number of rated responses, a line for each family, for two kinds of features]"
        "(images/families_recovery.svg)\n\n"
        "W1 between the predicted and the true distribution of a rating of 1 to 5, spread over its step; 0 is the truth. Each response "
        "has one rater. The average distribution is that of all training ratings, for every text.\n\n"
    )
    text += _w1(recovery, 1)
    text += (
        "\n\nSome families cannot reach 0 with any amount of data. W1 of the optimum of each: the true quantiles "
        f"at 19 levels with flat tails {least['quantile']['w1']:.3f}; a Gaussian of the true mean and standard deviation "
        f"{least['gaussian_ensemble']['w1']:.3f}, with one standard deviation for all texts {least['gaussian']['w1']:.3f}; "
        "transport follows, at each threshold, the median of what the raters of a response say, which is "
        f"{least['transport, 1 raters']['w1']:.3f} from the truth with one rater, {least['transport, 5 raters']['w1']:.3f} "
        f"with 5 and {least['transport, 20 raters']['w1']:.3f} with 20.\n\n"
    )
    return (
        text
        + findings.section("families_lab", "Recovery")
        + "\n\nThe same number of ratings from five raters to a response:\n\n"
        + _w1(recovery, 5)
        + _why(recovery)
    )


def _w1(records: Records, raters: int) -> str:
    """W1 of every family by size, where so many people rated each response."""
    own = [r for r in records if r["settings"]["raters"] == raters]
    rows: Rows = []
    for features, count in keys(own, "features", "ratings"):
        runs = where(own, features=features, ratings=count)
        cells = [plus_minus(runs, of(family, "w1")) for family in FAMILIES]
        rows.append([f"{NAMES[features]}, {count:,}", str(len(runs)), *cells])
    return table(["features, ratings", "seeds", *FAMILIES.values()], rows)


def _why(records: Records) -> str:
    """What is behind W1 where ratings are many: the mean, the spread, the order."""
    rows: Rows = []
    own = [r for r in records if r["settings"]["raters"] == 1]
    most = max(r["settings"]["ratings"] for r in own)
    for (features,) in keys(own, "features"):
        runs = where(own, features=features, ratings=most)
        for family, label in FAMILIES.items():
            values = ("on_categories", "mean_error", "std", "order")
            rows.append(
                [f"{NAMES[features]}: {label}", *(plus_minus(runs, of(family, key)) for key in values)]
            )
        order = plus_minus(runs, of("bradley_terry", "order"))
        rows.append([f"{NAMES[features]}: Bradley-Terry", "", "", "", order])
    true = own[0]["results"]["constant"]["true_std"]
    text = (
        f"\n\nWhat is behind W1 at {most:,} ratings, one rater each: W1 where every distribution is read on the five ratings, the error of "
        f"the mean rating, the mean standard deviation (the truth: {true:.3f}), and the share of pairs of responses to one "
        "prompt that the mean orders as the crowd's true mean does. Bradley-Terry has no scale, so only its order can be evaluated; "
        "it learns from at most 30 pairs of a prompt.\n\n"
    )
    return text + table(["", "W1 on the ratings", "error of the mean", "standard deviation", "order"], rows)


# -- categories --------------------------------------------------------------------------------------


def _categories(records: Records) -> str | None:
    own = [r for r in records if r["arm"] == "categories"]
    rows: Rows = []
    for features, responses in keys(own, "features", "responses"):
        runs = where(own, features=features, responses=responses)
        data = f"{NAMES[features]}, {responses:,}"
        for count in sorted({fit["count"] for fit in runs[0].values() if "count" in fit}):
            fits = {loss: [run[f"{loss}, {count}"] for run in runs] for loss in LOSSES}
            row = [
                f"{data}: C = {count}",
                str(len(runs)),
                plus_minus(fits["rps"], lambda f: _best(f)["binning"]),
            ]
            for mine in fits.values():
                chosen = plus_minus(mine, of("chosen", "w1")) if "chosen" in mine[0] else ""
                row += [chosen, plus_minus(mine, lambda f: _best(f)["w1"]), _seconds(mine)]
            rows.append(row)
        seconds = statistics.mean(run["quantile"]["cpu_seconds"] for run in runs)
        w1 = plus_minus(runs, of("quantile", "w1"))
        rows.append([f"{data}: quantile family", str(len(runs)), "", w1, "", f"{seconds:.1f}", *[""] * 6])
    if not rows:
        return None
    text = (
        "### How many categories\n\nJudgements before they are rounded, five raters to a response, put into C bins that hold as "
        "many each. W1 is to the true distribution before binning, on the scale of ratings; `binning` is that of the true distribution in the same "
        "bins, the least that C categories allow. First the penalty that held-out loss chooses, then the one of 0.0003 to 0.03 "
        "that comes nearest to the truth (with 10,000 responses only 0.0003), and the seconds of one training on one core. The "
        "quantile family saw the same judgements; its penalty is chosen, and its seconds include that choice.\n\n"
    )
    head = [words for loss in LOSSES.values() for words in (f"{loss}, chosen", "best", "s")]
    return (
        text
        + table(["", "seeds", "binning", *head], rows)
        + "\n\n"
        + findings.section("families_lab", "Categories")
    )


def _best(fit: dict[str, Any]) -> dict[str, Any]:
    """Of the fits with given penalties the one nearest to the truth."""
    found: dict[str, Any] = min(fit["path"].values(), key=lambda one: one["w1"])
    return found


def _seconds(fits: list[dict[str, Any]]) -> str:
    return f"{statistics.mean(one['cpu_seconds'] for fit in fits for one in fit['path'].values()):.1f}"
