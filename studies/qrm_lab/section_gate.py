"""The gate in the lab: its tables, for the section "QRM in the lab"."""

from __future__ import annotations

import statistics
from typing import Any

from studies.cells import NAMES, PARTS, Records, Value, keys, mean, of, where
from studies.tables import Rows, table


def gate(records: Records) -> str | None:
    if not records:
        return None
    usual = {"shape": "small", "start": "constant", "pairs": 5000}
    parts = [
        "### The gate\n\nHeads on 2,000 rated texts (4 attributes, 5 raters each); 5,000 pairs, decided by one person "
        "each, train the gate: one hidden layer of 64, batches of 256, unless stated otherwise. Weights are identified up "
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
        for (features,) in keys(records, "features"):
            runs = where(records, features=features, temperature=10.0, **usual)
            shown = ("equal", "one", "gate", "named", "best", "bradley_terry")
            for name in shown if features != "crossed" else ("gate",):  # the rest is that of traits
                rows.append(
                    [
                        f"{NAMES[features]}: {name.replace('bradley_terry', 'Bradley-Terry')}",
                        mean(runs, of(part, name, "loss"), 4),
                        mean(runs, _minus_one(part, name, "loss"), 4),
                        mean(runs, of(part, name, "accuracy"), 4),
                        mean(runs, of(part, name, "gold"), 3),
                    ]
                )
        first = where(records, **usual)[0][part]["exact"]
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
    parts.append(_gate_weights(where(records, features="minilm", temperature=10.0, **usual)))
    return "\n\n".join(parts)


def _gate_table(records: Records, settings: list[dict[str, Any]]) -> str:
    rows: Rows = []
    for features in NAMES:
        for setting in settings:
            runs = where(records, features=features, **setting)
            if not runs:
                continue
            row = [
                f"{NAMES[features]}, {_described(setting)}",
                f"{statistics.mean(r['gate']['best_step'] for r in runs):.0f}",
            ]
            for part in PARTS:
                row += [
                    mean(runs, _minus_one(part, "gate", "loss"), 4),
                    mean(runs, lambda r, p=part: r[p]["weights"]["best"]["tv"], 3),
                    mean(runs, lambda r, p=part: r[p]["weights"]["best"]["specific"], 2),
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


def _minus_one(part: str, name: str, key: str) -> Value:
    return lambda r: r[part][name][key] - r[part]["one"][key]
