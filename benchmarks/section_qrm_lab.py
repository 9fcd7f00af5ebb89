"""QRM in the lab: the part of docs/results.md. Reads the result files of `qrm_lab.py`, computes nothing new but means.

Intervals are Student t over the 5 seeds; differences are of runs of the same seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from pluralign.evaluation.intervals import student_t_quantile
from tables import Rows, interval, read_folder, table

Records = list[dict[str, Any]]
Value = Callable[[dict[str, Any]], float]
PARTS = ("objects", "tasks")
NAMES = {
    "minilm": "MiniLM",
    "traits": "the crowd's own traits",
    "crossed": "traits, MiniLM's prompts",
}


def section() -> str | None:
    """The studies that have been run; None where there are none."""
    records = list(read_folder("qrm_lab"))
    parts = [
        text
        for study in (_recovery, _levels, _penalties, _gate, _length)
        if (text := study([r for r in records if r["study"] == study.__name__[1:]])) is not None
    ]
    if not parts:
        return None
    intro = (
        "## QRM in the lab\n\nThe lab's crowd has an exact law of reward (`python benchmarks/qrm_lab.py`). Nothing "
        "here is measured on drawn ratings or votes: errors, losses and accuracies are exact expectations on texts of "
        "prompts that no fit has seen, half with objects and half with tasks that training never names, unless said "
        "otherwise. Seeds share one pool of texts and differ in which texts are dealt to the fit, who rates them and "
        "who decides each pair; intervals are Student t over 5 seeds."
    )
    return "\n\n".join([intro, *parts])


def _recovery(records: Records) -> str | None:
    if not records:
        return None
    rows: Rows = []
    for features, count in _keys(records, "features", "ratings"):
        runs = _where(records, features=features, ratings=count)
        rows.append(
            [
                f"{NAMES[features]}, {count:,}",
                _mean(runs, _both("model", "w1"), 3),
                _mean(runs, lambda r: _both("model", "w1")(r) - _both("constant", "w1")(r), 3),
                *(_mean(runs, _error(k), 3) for k in (0, 9, 18)),
                _percent(runs, _both("model", "coverage")),
                _percent(runs, _both("model", "crossing")),
                f"{statistics.median(r['l1'] for r in runs):g}",
            ]
        )
    text = (
        "### True quantiles, as ratings grow\n\nW1 between the predicted and the true law of a rating of 1 to 5 (spread "
        "over its grid step), five ratings to a text. The constant model predicts the training ratings' quantiles for "
        f"every text. The true quantiles at the 19 levels, with flat tails, have W1 {_floor(records)}. `error` is the mean "
        "absolute error of one predicted quantile. Traits hold all that the crowd looks at, so what is left there is the "
        "estimator's error and what a linear head cannot say; the rest of MiniLM's error is what its features do not carry."
    )
    head = ["features, ratings", "W1", "minus constant", "error at .05", "at .5", "at .95"]
    return text + "\n\n" + table([*head, "true coverage of 5-95 %", "crossing", "median l1"], rows)


def _levels(records: Records) -> str | None:
    if not records:
        return None
    rows: Rows = []
    for (features,) in _keys(records, "features"):
        runs = _where(records, features=features)
        for count in ("1", "5", "9", "19", "39"):
            rows.append(
                [
                    f"{NAMES[features]}, K = {count}",
                    _mean(runs, _both(count, "w1"), 3),
                    _mean(runs, lambda r, k=count: _both(k, "crps")(r) - _both(k, "floor")(r), 4),
                    _mean(runs, lambda r, k=count: _both(k, "crps")(r) - _both("19", "crps")(r), 4),
                    _percent(runs, _both(count, "crossing")),
                ]
            )
    text = (
        "### How many levels\n\n10,000 ratings, the same l1 for every K, levels k/(K + 1). CRPS is expected under the true "
        "law, less that of the true law itself; K = 1 is the median alone."
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
                _percent(runs, _both(l1, "crossing")),
                _mean(runs, _both(l1, "pinball_as_fitted"), 4),
                _mean(runs, lambda r, k=l1: _both(k, "pinball")(r) - _both(k, "pinball_as_fitted")(r), 4),
                _mean(runs, _both(l1, "w1"), 3),
            ]
        )
    text = (
        "### l1 and crossing\n\nMiniLM, 10,000 ratings, 19 levels. Crossing is the share of neighbouring levels that are "
        "out of order before sorting; pinball loss is expected under the true law, on the scale of ratings."
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


def _gate(records: Records) -> str | None:
    if not records:
        return None
    usual = {"shape": "small", "start": "constant", "pairs": 5000}
    parts = [
        "### The gate\n\nHeads on 2,000 rated texts (4 attributes, 5 raters each); 5,000 pairs, decided by one person "
        "each, train the gate: one hidden layer of 64, batches of 256, unless said otherwise. Weights are identified up "
        "to their sum, which is the gate's scale, and not by a centre, which no pair shows. `best` are the weights by "
        "kind of prompt that minimise the exact expected loss on the training prompts, `one` the best single set for "
        "all prompts, `named` those of `Crowd.attribute_weights` (an average over people who also perceive differently, "
        "hence not the best mix of mean ratings). Distances are total variation to `best`, averaged over prompts."
    ]
    for part, words in (
        ("objects", "of known tasks, with objects never named"),
        ("tasks", "of tasks never named"),
    ):
        rows: Rows = []
        for (features,) in _keys(records, "features"):
            runs = _where(records, features=features, temperature=10.0, **usual)
            shown = ("equal", "one", "gate", "named", "best", "bradley_terry")
            for name in shown if features != "crossed" else ("gate",):  # the rest is that of traits
                rows.append(
                    [
                        f"{NAMES[features]}: {name.replace('bradley_terry', 'Bradley-Terry')}",
                        _mean(runs, _of(part, name, "loss"), 4),
                        _mean(runs, _minus_one(part, name, "loss"), 4),
                        _mean(runs, _of(part, name, "accuracy"), 4),
                        _mean(runs, _of(part, name, "gold"), 3),
                    ]
                )
        first = _where(records, **usual)[0][part]["exact"]
        parts.append(
            f"Prompts {words}, T = 10. The exact probabilities have loss {first['loss']:.4f} and accuracy "
            f"{first['accuracy']:.4f}; gold is agreement with the crowd's mean judgement.\n\n"
            + table(["", "loss", "minus one", "accuracy", "gold"], rows)
        )
    parts.append(
        "Temperature.\n\n"
        + _gate_table(records, [{**usual, "temperature": t} for t in (0.5, 1.0, 3.0, 5.0, 10.0)])
    )
    others = [{**usual, "temperature": 10.0, "pairs": n} for n in (500, 1500)]
    others += [{**usual, "temperature": 10.0, "start": "equal"}]
    others += [{**usual, "temperature": 10.0, "shape": "published"}]
    parts.append(
        "Fewer pairs; training from equal weights instead of the best single set; the published size (3 x 1024, batches "
        "of 1,024).\n\n" + _gate_table(records, others)
    )
    parts.append(_gate_weights(_where(records, features="minilm", temperature=10.0, **usual)))
    return "\n\n".join(parts)


def _gate_table(records: Records, settings: list[dict[str, Any]]) -> str:
    rows: Rows = []
    for features in NAMES:
        for setting in settings:
            runs = _where(records, features=features, **setting)
            if not runs:
                continue
            row = [
                f"{NAMES[features]}, {_described(setting)}",
                f"{statistics.mean(r['gate']['best_step'] for r in runs):.0f}",
            ]
            for part in PARTS:
                row += [
                    _mean(runs, _minus_one(part, "gate", "loss"), 4),
                    _mean(runs, lambda r, p=part: r[p]["weights"]["best"]["tv"], 3),
                    _mean(runs, lambda r, p=part: r[p]["weights"]["best"]["specific"], 2),
                ]
            rows.append(row)
    head = ["", "best step"]
    for part in PARTS:
        head += [f"unseen {part}: loss minus one", "distance", "correlation of what differs by kind"]
    runs = [r["results"] for r in records]
    equal, one = (
        statistics.mean(r["objects"]["weights"]["best"][k] for r in runs)
        for k in ("tv_of_equal", "tv_of_one")
    )
    return (
        table(head, rows)
        + f"\n\nEqual weights are at a distance of {equal:.3f}, one set for all prompts at {one:.3f}."
    )


def _described(setting: dict[str, Any]) -> str:
    words = [f"T = {setting['temperature']:g}"]
    if setting["pairs"] != 5000:
        words.append(f"{setting['pairs']:,} pairs")
    if setting["shape"] == "published":
        words.append("published size")
    if setting["start"] == "equal":
        words.append("from equal weights")
    return ", ".join(words)


def _gate_weights(runs: Records) -> str:
    """What MiniLM's gate gives each kind of prompt, beside the best and the named weights."""
    kinds, attributes = (
        ("care", "craft", "transport", "gift"),
        ("helpfulness", "safety", "courtesy", "conciseness"),
    )
    rows: Rows = []
    for k, kind in enumerate(kinds):
        rows.append(
            [
                kind,
                *(
                    " / ".join(
                        f"{statistics.mean(value(r)[k][a] for r in runs):.2f}"
                        for value in (
                            lambda r: r["objects"]["weights"]["by_kind"],
                            lambda r: r["tasks"]["weights"]["by_kind"],
                            lambda r: r["references"]["best"],
                            lambda r: r["references"]["named"],
                        )
                    )
                    for a in range(len(attributes))
                ),
            ]
        )
    return (
        "MiniLM's weights at T = 10, mean over seeds: the gate on unseen objects / on unseen tasks / best / named.\n\n"
        + table(["kind of prompt", *attributes], rows)
    )


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
    keys = ("spearman", "spearman_of_cvar", "voted", "fair", "gold")
    for (bias,) in _keys(records, "bias"):
        crowd = _where(records, bias=bias)[0]["crowd"]
        rows: Rows = []
        for (features,) in _keys([r for r in records if r["settings"]["bias"] == bias], "features"):
            runs = _where(records, bias=bias, features=features)
            for name in runs[0]:
                if name == "crowd":
                    continue
                changes = [
                    _mean(runs, lambda r, n=name, k=key: r[n][k] - r["none"][k], 3) if name != "none" else ""
                    for key in ("voted", "gold")
                ]
                row = [
                    f"{NAMES[features]}: {name}",
                    *(_mean(runs, _of(name, key), 3) for key in keys),
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


def _keys(records: Records, *names: str) -> list[tuple[Any, ...]]:
    found = {tuple(r["settings"][n] for n in names) for r in records}
    order = list(NAMES)
    return sorted(found, key=lambda key: [order.index(k) if k in order else k for k in key])


def _where(records: Records, **settings: Any) -> Records:
    """Results of the runs of these settings, by seed."""
    found = [r for r in records if all(r["settings"][k] == v for k, v in settings.items())]
    return [r["results"] for r in sorted(found, key=lambda r: r["settings"]["seed"])]


def _of(*path: str) -> Value:
    def value(result: dict[str, Any]) -> float:
        for key in path:
            result = result[key]
        return result  # type: ignore[return-value]

    return value


def _minus_one(part: str, name: str, key: str) -> Value:
    return lambda r: r[part][name][key] - r[part]["one"][key]


def _both(name: str, key: str) -> Value:
    """The mean over both kinds of unseen prompts; runs keep either part or setting on the outside."""
    return lambda r: statistics.mean((r[part][name] if part in r else r[name][part])[key] for part in PARTS)


def _error(level: int) -> Value:
    return lambda r: statistics.mean(r[part]["model"]["mae_by_level"][level] for part in PARTS)


def _floor(records: Records) -> str:
    return f"{_both('true', 'w1')(records[0]['results']):.3f}"


def _mean(runs: Iterable[dict[str, Any]], value: Value, digits: int) -> str:
    values = [value(r) for r in runs]
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = student_t_quantile(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    if half < 10**-digits / 10:  # the same in every seed
        return f"{mean:.{digits}f}"
    return interval({"estimate": mean, "low": mean - half, "high": mean + half}, digits)


def _percent(runs: Iterable[dict[str, Any]], value: Value) -> str:
    return f"{100 * statistics.mean(value(r) for r in runs):.1f} %"
