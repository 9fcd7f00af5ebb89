"""Tuning: the part of docs/results.md. It computes nothing but means, intervals over groups and ratios."""

from __future__ import annotations

from typing import Any

import numpy as np

from pluralign.evaluation import mean_interval
from pluralign.evaluation.within import chance_verdict
from studies import findings
from studies.cells import PARTS
from studies.qrm_real.models import compare
from studies.records import file_of, read, results
from studies.tables import Headline, Rows, interval, table
from studies.tuning.real import FAMILIES, SETS, TUNES

NAMES = {"none": "frozen", "full": "all weights", "lora": "LoRA"}
_LOSS, _WITHIN = "ratings:all", "pairs:all"

Run = dict[str, Any]


def section() -> str | None:
    """The runs that have been done; None where there are none."""
    parts = [text for text in (_real(), _lab()) if text]
    if not parts:
        return None
    intro = (
        "## Tuning the backbone\n\nMiniLM trained together with the head, from the frozen fit (`python -m studies tuning`), by the package's "
        "defaults: 2 passes over the data, the backbone's own dropout, early stopping on a tenth of the groups; in bfloat16."
    )
    return "\n\n".join([intro, *parts, findings.section("tuning", "Findings")])


def run_of(data: str, family: str, tune: str) -> Run | None:
    """The results of a run on real people, or None where it has not been done."""
    found: list[Run] = results("tuning", "real", data=data, family=family, tune=tune, seed=0)
    return found[0] if found else None


def gain(data: str, family: str, tune: str) -> float | None:
    """By how much a model's pinball loss is below the constant model's, as a share of that."""
    frozen, own = run_of(data, family, "none"), run_of(data, family, tune)
    if frozen is None or own is None or "constant_pinball" not in frozen["by_group"][_LOSS]["mean"]:
        return None
    constant = mean_of(frozen, _LOSS, "constant_pinball")["estimate"]
    return float(1 - mean_of(own, _LOSS, "model_pinball")["estimate"] / constant)


def lab_w1(run: Run) -> float:
    """W1 to the truth, the mean over both kinds of unseen prompts."""
    return float(np.mean([run[part]["w1"] for part in PARTS]))


def headlines() -> list[Headline]:
    """The gain on emobank against the frozen one, and W1 to the truth with the most ratings."""
    found = []
    frozen = gain("emobank", "quantile", "none")
    for tune in TUNES[1:]:
        own = gain("emobank", "quantile", tune)
        if frozen is not None and own is not None:
            claim = f"quantile with tuned MiniLM ({NAMES[tune]}), pinball loss on unseen people below the constant model's: emobank"
            told = f"{100 * own:.1f} %; frozen {100 * frozen:.1f} %"
            found.append(Headline(claim, told, "twice the frozen one's", own >= 2 * frozen))
    runs = read("tuning", "lab")
    if runs:
        most = max(runs, key=lambda run: (run["settings"]["ratings"], -lab_w1(run["results"])))
        count, w1 = most["settings"]["ratings"], lab_w1(most["results"])
        claim = f"quantile with tuned MiniLM in the lab, {count:,} ratings, W1 to the truth (one seed)"
        goal = "at most 0.25 with 30,000 ratings" if count == 30_000 else ""
        found.append(Headline(claim, f"{w1:.3f}", goal, w1 <= 0.25 if goal else None))
    return found


# -- real people -----------------------------------------------------------------------------------


def _real() -> str | None:
    rows: Rows = []
    for data in SETS:
        for family in FAMILIES:
            runs = {tune: run_of(data, family, tune) for tune in TUNES}
            frozen = runs["none"]
            for tune, run in runs.items():
                if frozen is not None and run is not None:
                    rows.append(
                        [f"{data}, {family}, {NAMES[tune]}", *_cells(data, family, tune, frozen, run)]
                    )
            if frozen is not None and family == "quantile":
                rows.append([f"{data}, the constant model", *_constant(frozen)])
    if not rows:
        return None
    text = (
        "### Real people\n\nOne split by group, the same for every model: a fifth of the groups are evaluated on. Losses are over all attributes, "
        "in shares of the rating scale, on ratings spread over their grid step; `gain` is how far the pinball loss is below the constant "
        "model's. `minus frozen` is paired, with intervals over groups: below 0 tuning is better in a loss, above 0 in accuracy. Accuracy is "
        "on pairs of responses to one prompt whose mean ratings differ. Arguments of ukpconvarg are rated by the votes that they received."
    )
    less = "minus frozen"
    head = [
        "",
        "groups",
        "pinball",
        less,
        "gain",
        "CRPS",
        less,
        "coverage of 5-95 %",
        "accuracy within a prompt",
        less,
        "which is",
    ]
    return f"{text}\n\n{table(head, rows)}"


def _cells(data: str, family: str, tune: str, frozen: Run, run: Run) -> list[str]:
    """Empty where a family predicts no distribution, or no two responses share a prompt."""
    cells = [f"{run['groups']['test']}"]
    for column, part, digits in (
        ("pinball", _LOSS, 4),
        ("crps", _LOSS, 4),
        ("coverage", _LOSS, 3),
        ("outcome", _WITHIN, 3),
    ):
        there = f"model_{column}" in run["by_group"][part]["mean"]
        cells.append(interval(mean_of(run, part, f"model_{column}"), digits) if there else "")
        if column != "coverage":
            other = there and run is not frozen
            name = f"model_{column}"
            cells.append(
                interval(compare(run, frozen, part, name, name), digits + (column != "outcome"))
                if other
                else ""
            )
        if column == "pinball":
            own = gain(data, family, tune)
            cells.append("" if own is None or not there else f"{100 * own:.1f} %")
    return [*cells, _verdict(run)]


def _constant(frozen: Run) -> list[str]:
    losses = {c: interval(mean_of(frozen, _LOSS, f"constant_{c}"), 4) for c in ("pinball", "crps")}
    covered = interval(mean_of(frozen, _LOSS, "constant_coverage"), 3)
    return [f"{frozen['groups']['test']}", losses["pinball"], "", "", losses["crps"], "", covered, "", "", ""]


def _verdict(run: Run) -> str:
    if run["pairs"] is None or "model_outcome" not in run["by_group"][_WITHIN]["mean"]:
        return ""
    chance = 0.5 * (1 - run["pairs"]["ties"]["model"] / run["pairs"]["rows"])
    return chance_verdict(mean_of(run, _WITHIN, "model_outcome"), chance)


def mean_of(run: Run, part: str, column: str) -> dict[str, Any]:
    """The mean of a column over rows, with an interval over groups."""
    found = run["by_group"][part]
    return mean_interval(
        np.array(found["mean"][column]), found["groups"], weights=found["count"], method="t"
    ).to_dict()


# -- the lab ---------------------------------------------------------------------------------------


def _lab() -> str | None:
    own = read("tuning", "lab", seed=0)
    rows: Rows = []
    for count, epochs in sorted({(run["settings"]["ratings"], run["settings"]["epochs"]) for run in own}):
        cells = [f"{count:,}", str(epochs)]
        for tune in TUNES[1:]:
            found = results("tuning", "lab", ratings=count, epochs=epochs, tune=tune, seed=0)
            cells.append(f"{lab_w1(found[0]):.3f}" if found else "")
        for features, who in (("minilm", "model"), ("traits", "model"), ("minilm", "constant")):
            run = results("qrm_lab", "recovery", features=features, ratings=count, seed=0)[0]
            cells.append(f"{np.mean([run[part][who]['w1'] for part in PARTS]):.3f}")
        rows.append(cells)
    if not rows or not file_of("qrm_lab").exists():
        return None
    text = (
        "### The lab\n\nW1 between the predicted and the true distribution of a rating of 1 to 5, five ratings to a text, on prompts that no fit has "
        'seen, as in "True quantiles, as ratings grow" and on the same ratings (one seed).'
    )
    head = [
        "ratings",
        "passes",
        *(f"MiniLM, {NAMES[tune]}" for tune in TUNES[1:]),
        "MiniLM, frozen",
        "the crowd's own traits",
        "the constant model",
    ]
    return f"{text}\n\n{table(head, rows)}"
