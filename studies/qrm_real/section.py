"""QRM on real people: the part of docs/results.md about raters, families, five quantiles and verbosity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pluralign.evaluation import mean_interval
from pluralign.evaluation.within import chance_verdict
from studies.qrm_real import five_quantiles
from studies.qrm_real.models import SOURCES, compare
from studies.records import read
from studies.tables import Rows, interval, table

# Label of a row, variant that holds it, and its head there.
MODELS = (
    ("quantile, raw ratings", "raw", "model"),
    ("quantile, mean ratings", "mean", "model"),
    ("quantile, majority ratings", "majority", "model"),
    ("regression, Gaussian residual", "gaussian", "model"),
    ("constant", "raw", "constant"),
    ("Bradley-Terry", "raw", "bradley_terry"),
    ("longer wins", "raw", "length"),
)


def section() -> str | None:
    """The text, or None where nothing has been run."""
    parts = [part for part in (_models(), _attributes(), _first_experiment(), _verbosity()) if part]
    return "\n\n".join(["## QRM on real people", *parts]) if parts else None


def pictures() -> None:
    """docs/images/five_quantiles.svg."""
    record = run_of("five_quantiles")
    if record is not None:
        five_quantiles.draw(record)


def run_of(arm: str, **settings: Any) -> dict[str, Any] | None:
    """The results of a run, or None where it has not been done."""
    for record in read("qrm_real", arm, **settings, seed=0):
        found: dict[str, Any] = record["results"]
        return found
    return None


def _models() -> str | None:
    rows: Rows = []
    for name in SOURCES:
        runs = {variant: run_of("models", data=name, variant=variant) for _, variant, _ in MODELS}
        raw = runs["raw"]
        for label, variant, head in MODELS if raw else ():
            if (run := runs[variant]) is not None:
                rows.append([f"{name}, {label}", *_cells(raw, run, head)])
    if not rows:
        return None
    text = (
        "### Raw ratings, their mean or their majority; quantiles, a Gaussian or one number\n\nFrozen MiniLM, every row by "
        "5-fold cross-fitting over groups (`python -m studies qrm_real --arms models`), all attributes together. Losses are in shares of "
        "the rating scale and always against the ratings as people gave them, one by one; coverage is that of the central "
        "90 % interval. Accuracy is on pairs of responses to one prompt whose mean ratings differ, by the mix of all "
        "attributes in equal parts. `raw minus this` is the quantile model on raw ratings minus the row, paired: below 0 it is "
        "better in a loss, above 0 in accuracy. Losses are over all responses, and can be lowered by knowing which prompts have good ones; the last column says whether the accuracy, within a prompt, is above chance. "
        f"{_shares()}"
    )
    less = "raw minus this"
    head = ["", "pinball", less, "CRPS", less, "coverage", "accuracy within a prompt", less, "which is"]
    return f"{text}\n\n{table(head, rows)}"


def _shares() -> str:
    cut = [f"{name} ({100 * source.share:.0f} %)" for name, source in SOURCES.items() if source.share < 1]
    return (
        f"To save time, only a share of the groups of some sets is used, drawn by hash: {', '.join(cut)}."
        if cut
        else ""
    )


def _cells(raw: dict[str, Any], run: dict[str, Any], head: str) -> Iterator[str]:
    own = run is raw and head == "model"
    for column, part, digits in (
        ("pinball", "ratings:all", 4),
        ("crps", "ratings:all", 4),
        ("coverage", "ratings:all", 3),
        ("outcome", "pairs:all", 3),
    ):
        there = f"{head}_{column}" in run["by_group"][part]["mean"]
        value = interval(group_means(run, part, f"{head}_{column}"), digits) if there else ""
        difference = ""
        if there and not own:
            difference = interval(compare(raw, run, part, f"model_{column}", f"{head}_{column}"), digits)
        yield value
        if column != "coverage":
            yield difference
    pairs = run["results"]["pairs"]
    if head in pairs["ties"]:
        chance = 0.5 * (1 - pairs["ties"][head] / pairs["rows"])
        yield chance_verdict(group_means(run, "pairs:all", f"{head}_outcome"), chance)
    else:
        yield ""


def group_means(run: dict[str, Any], part: str, column: str) -> dict[str, Any]:
    """As the evaluation computes it from rows: from the means of groups, weighted by their rows."""
    found = run["by_group"][part]
    return mean_interval(
        np.array(found["mean"][column]), found["groups"], weights=found["count"], method="t"
    ).to_dict()


def _attributes() -> str | None:
    rules = ("model", "own_attribute", "bradley_terry", "length")
    rows: Rows = []
    for name in SOURCES:
        run = run_of("models", data=name, variant="raw")
        for part, found in run["by_group"].items() if run else ():
            kind, attribute = part.split(":")
            if kind == "pairs" and attribute != "all":
                rows.append(
                    [
                        f"{name}, {attribute}",
                        f"{sum(found['count']):,}",
                        *[interval(group_means(run, part, f"{rule}_outcome"), 3) for rule in rules],
                        interval(compare(run, run, part, "model_outcome", "bradley_terry_outcome"), 3),
                    ]
                )
    if not rows:
        return None
    text = "### Accuracy by attribute\n\nThe same pairs, by the attribute whose mean ratings order them: the choice is made by the mix of all attributes, the quantile model's mean of that attribute alone, one Bradley-Terry score for all attributes, or length. A tie, as with an attribute that its penalty left constant, does not count as right."
    head = ["", "pairs", "mix", "own attribute", "Bradley-Terry", "longer wins", "mix minus Bradley-Terry"]
    return f"{text}\n\n{table(head, rows)}"


def _first_experiment() -> str | None:
    record = run_of("five_quantiles")
    if record is None:
        return None
    numbers = record["numbers"]
    rows = [
        [label, interval(numbers["crps"][head]), interval(numbers["crps_difference"].get(head))]
        for label, head in (
            ("five quantiles", "model"),
            ("regression, Gaussian residual", "gaussian"),
            ("regression, one number", "point"),
            ("constant, five quantiles", "constant"),
        )
    ]
    runs = [run_of("models", data="emobank-reader", variant=variant) for variant in ("raw", "gaussian")]
    if all(runs):
        finer, gaussian = runs
        part, column = f"ratings:{record['source']['attribute']}", "model_crps"
        rows.append(["19 quantiles", interval(group_means(finer, part, column)), ""])
        against = compare(finer, gaussian, part, column, column)
        nineteen = f" 19 quantiles minus the Gaussian residual: {interval(against)}."
    else:
        nineteen = ""
    spread = numbers["spread_of_ratings"]
    text = (
        "### Five quantiles beside one number\n\n"
        "![Six sentences, each with the ratings of five readers, five predicted quantiles and a point estimate]"
        "(images/five_quantiles.svg)\n\n"
        f"Reader's valence of EmoBank on the scale 1 to 5, {record['rows']:,} sentences, levels 1/6 to 5/6, cross-fitted "
        "(`python -m studies qrm_real --arms five_quantiles`). The sentences are picked by predictions alone: at the 10 %, 50 % and "
        "90 % point of the point estimates, the narrowest and the widest prediction among sentences of 30 to 90 letters."
    )
    return (
        f"{text}\n\n{table(['', 'CRPS, points of the scale', 'five quantiles minus this'], rows)}\n\n"
        f"Five quantiles have flat tails beyond 1/6 and 5/6, which CRPS counts against them.{nineteen} The central two thirds hold {interval(numbers['coverage_two_thirds'], 3)} of the ratings (nominal 0.667); levels "
        f"crossed in {100 * numbers['crossing']['estimate']:.1f} % of neighbours. In the tenth of the sentences with the "
        f"narrowest prediction the five ratings have a standard deviation of {interval(spread['narrowest_tenth'], 3)}, in the "
        f"tenth with the widest {interval(spread['widest_tenth'], 3)}; the rank correlation of predicted width and standard "
        f"deviation is {numbers['spearman_width_with_spread_of_ratings']:.2f}."
    )


def _verbosity() -> str | None:
    rows: Rows = []
    shares = []
    for name in ("summeval_op", "ukpconvarg"):
        record = run_of("verbosity", data=name)
        if record is None:
            continue
        for way, found in record["ways"].items():
            plain = way == "as it is"
            shares += [f"{100 * found['shorter_won']:.0f} % of the pairs of {name}"] if plain else []
            rows.append(
                [
                    f"{name}, {way if plain else f'debiased: {way}'}",
                    interval(found["spearman_with_length"]["value"], 3),
                    interval(found["accuracy"]["value"], 3),
                    "" if plain else interval(found["accuracy"]["difference"], 3),
                    interval(found["accuracy_where_the_shorter_won"]["value"], 3),
                    "" if plain else interval(found["accuracy_where_the_shorter_won"]["difference"], 3),
                ]
            )
    if not rows:
        return None
    text = (
        "### Verbosity\n\nQuantile models, cross-fitted, as they are and debiased (`python -m studies qrm_real --arms verbosity`). The "
        "correlation is Spearman's, of score and characters over the held-out responses of one group, averaged over groups. "
        f"The shorter response won in {' and '.join(shares)}."
    )
    head = [
        "",
        "correlation with length",
        "accuracy",
        "minus as it is",
        "accuracy where the shorter won",
        "minus as it is",
    ]
    return f"{text}\n\n{table(head, rows)}"
