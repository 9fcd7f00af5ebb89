"""Over-optimisation in the lab: the part of docs/results.md, and its picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from pluralign.evaluation import mean_interval
from studies import records as kept
from studies.line_chart import Line, line_chart
from studies.tables import Headline, Rows, difference_over_seeds, over_seeds, table

NAMES = {"policy": "the language model's own states", "minilm": "MiniLM"}
LABELS = {
    "bradley_terry/mean": "Bradley-Terry",
    "bradley_terry, 5 heads/mean": "5 Bradley-Terry heads, mean",
    "bradley_terry, 5 heads/worst_case": "5 Bradley-Terry heads, worst case",
    "bradley_terry, 5 heads/uwo:1": "5 Bradley-Terry heads, uwo:1",
    "regression/mean": "ridge, mean",
    "regression/cvar:0.25": "ridge with a Gaussian residual, cvar:.25",
    "quantile/mean": "quantile, mean",
    "quantile/quantile:0.1": "quantile, quantile:.1",
    "quantile/cvar:0.25": "quantile, cvar:.25",
    "quantile/entropic:1": "quantile, entropic:1",
    "categorical/mean": "categorical (transport), mean",
    "categorical/cvar:0.25": "categorical (transport), cvar:.25",
    "categorical/entropic:1": "categorical (transport), entropic:1",
    "gaussian_ensemble/mean": "5 Gaussian heads, mean",
    "gaussian_ensemble/nominal": "5 Gaussian heads, nominal",
    "gaussian_ensemble/worst_case": "5 Gaussian heads, worst case",
    "gaussian_ensemble/uwo:1": "5 Gaussian heads, uwo:1",
    "gaussian_ensemble/robust:0.4": "5 Gaussian heads, robust:.4",
}
DRAWN = {
    "bradley_terry/mean": "Bradley-Terry (BT)",
    "bradley_terry, 5 heads/worst_case": "BT heads, worst case",
    "quantile/mean": "quantile, mean",
    "quantile/cvar:0.25": "quantile, cvar:.25",
    "gaussian_ensemble/mean": "Gaussian heads, mean",
    "gaussian_ensemble/worst_case": "Gaussian heads, worst case",
}
SHOWN = (4, 16, 64, 256, 1024)  # sizes in the table

Records = list[dict[str, Any]]


def headlines() -> list[Headline]:
    """Gold of the best of 1,024 by two risk measures, minus that by the mean of the same model."""
    found = []
    for features, records in _by_features().items():
        for model, risk in (("quantile", "cvar:0.25"), ("gaussian_ensemble", "worst_case")):
            ends = ([_gold(r, f"{model}/{which}")[-1] for r in records] for which in (risk, "mean"))
            claim = f"best of 1,024 by {LABELS[f'{model}/{risk}']}, gold minus that by its mean ({NAMES[features]})"
            found.append(Headline(claim, difference_over_seeds(*ends, 2)))
    return found


def section() -> str | None:
    """A table and a panel per kind of features; None where nothing has been run."""
    groups = _by_features()
    if not groups:
        return None
    first = next(iter(groups.values()))[0]
    amounts, average = first["amounts"], first["average"]
    text = (
        "## Over-optimisation\n\nA language model of the lab answers each of "
        f"{amounts['prompts']} prompts {amounts['answers']:,} times; reward models choose the best of n, and the crowd's exact reward measures the choice (`python -m studies over_optimisation`). They were fitted on {amounts['rated']:,} other texts rated by "
        f"{amounts['raters']} people each, or on {amounts['pairs']:,} pairs, by people who are the same crowd. A random answer has gold "
        f"{average['gold']:.2f}, harm {100 * average['harm']:.1f} %, {average['words']:.1f} words, and {100 * average['broken']:.1f} % have "
        f"words outside any clause; the best of {amounts['answers']:,} has {first['best'][-1]:.2f}. Best of n has a KL of at most "
        "log n - (n - 1)/n. Prompts and answers are the same in all seeds; a seed draws texts, raters and pairs. "
        "Intervals are Student t over seeds; with Gaussian residual every text has the same spread, so its measures choose alike. `against its mean` is the gold of the best of 1,024 minus that by the mean of the same "
        "model.\n\n![Gold reward of the best of n](images/over_optimisation.svg)"
    )
    for features, records in groups.items():
        text += f"\n\n**Reward models on {NAMES[features]}** ({len(records)} seeds)\n\n" + _table(records)
    return text


def pictures() -> None:
    """docs/images/over_optimisation.svg."""
    line_chart(
        "over_optimisation",
        "The best of n answers, by what the crowd truly thinks of it",
        {f"reward models on {NAMES[f]}": _lines(records) for f, records in _by_features().items()},
        x_label="n",
        y_label="gold reward",
        base=2,
    )


def _by_features() -> dict[str, Records]:
    groups = {f: kept.results("over_optimisation", "best_of_n", features=f) for f in NAMES}
    return {features: found for features, found in groups.items() if len(found) > 1}


def _gold(record: dict[str, Any], key: str) -> list[float]:
    return record["curves"][key]["gold"]  # type: ignore[no-any-return]


def _lines(records: Records) -> dict[str, Line]:
    lines = {}
    for key, label in DRAWN.items():
        runs = np.array([_gold(r, key) for r in records])
        ends = [mean_interval(column, method="t").to_dict() for column in runs.T]
        lines[label] = Line(
            records[0]["sizes"], runs.mean(0), [e["low"] for e in ends], [e["high"] for e in ends]
        )
    return lines


def _table(records: Records) -> str:
    sizes = records[0]["sizes"]
    rows: Rows = []
    for key, label in LABELS.items():
        runs = np.array([_gold(r, key) for r in records])
        cells = [over_seeds(runs[:, sizes.index(n)], 2) for n in SHOWN]
        top = sizes[int(runs.mean(0).argmax())]
        base = np.array([_gold(r, f"{key.split('/')[0]}/mean") for r in records])
        gain = "" if key.endswith("/mean") else difference_over_seeds(runs[:, -1], base[:, -1], 2)
        last = [[r["curves"][key][m][-1] for r in records] for m in ("harm", "broken", "words")]
        harm, broken, words = (sum(values) / len(values) for values in last)
        rows.append(
            [label, *cells, f"{top:,}", gain, f"{100 * harm:.1f}", f"{100 * broken:.0f}", f"{words:.1f}"]
        )
    head = ["gold of the best of", *(f"{n:,}" for n in SHOWN), "highest at n", "against its mean"]
    return table([*head, "harm, % at 1,024", "broken, %", "words"], rows)
