"""The lab's policy study: the part of docs/results.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from pluralign.evaluation import difference_interval, mean_interval
from pluralign.lab.personas import BROKEN
from tables import Rows, interval, read_folder, table

Record = dict[str, Any]
Arms = dict[str, dict[str, dict[int, Record]]]  # arm -> label -> seed -> record

_NAMES = {"qrpo": "QRPO", "rebel": "REBEL", "dpo": "DPO", "simpo": "SimPO"}
_WHY = {
    "rank-differences": "differences of ranks (REBEL's loss, QRPO's rewards)",
    "reward-levels": "levels of normal scores (QRPO's loss, rewards as steep as REBEL's)",
    "qrpo-winner": "QRPO told only who won each pair",
    "rebel-winner": "REBEL told only who won each pair",
}
_COLUMNS: tuple[tuple[str, Callable[[Record], float | None], int], ...] = (
    ("gold", lambda r: _measure(r, "gold"), 3),
    ("worst 5 % of people", lambda r: _measure(r, "tail"), 3),
    ("harm, %", lambda r: 100 * _measure(r, "harm"), 2),
    ("broken, %", lambda r: 100 * _measure(r, "broken"), 1),
    ("gold lost to them", lambda r: BROKEN * (1 - _measure(r, "fluency")), 3),
    ("proxy", lambda r: _measure(r, "proxy"), 3),
    ("KL, nats", lambda r: r["outcome"]["measures"].get("kl", {"estimate": 0.0})["estimate"], 2),
    ("words", lambda r: _measure(r, "words"), 1),
    ("length correlation", lambda r: r["outcome"]["length_correlation"], 2),
)


def section() -> str | None:
    """What offline policy methods do to the lab's crowd."""
    before: dict[int, Record] = {}
    arms: Arms = {}
    for record in read_folder("lab_policy"):
        if "run" in record:
            run = record["run"]
            arms.setdefault(run["arm"], {}).setdefault(run["label"], {})[run["seed"]] = record
        else:
            before[record["seed"]] = record
    if "methods" not in arms:
        return None
    parts = [
        _INTRODUCTION,
        _methods(arms["methods"], before, "With a learned proxy"),
        _methods(arms.get("gold", {}), before, "With the gold reward itself as the proxy"),
        _why(arms, before),
        _frontier(arms, before),
        _references(arms),
        _plain(
            arms.get("risk", {}),
            "QRPO on risk measures of the same proxy, same references",
            reference=("mean", arms["methods"].get("qrpo", {})),
        ),
        _plain(
            {_NAMES[name]: seeds for name, seeds in arms.get("offline", {}).items()},
            "Offline: trained on the behaviour policy's texts instead of the model's own",
        ),
    ]
    return "\n\n".join(part for part in parts if part)


_INTRODUCTION = (
    "## Policies in the lab\n\nA language model of 0.4 million weights, trained from scratch on the behaviour policy's "
    "texts, is fitted offline to a proxy: a quantile model on 2,000 rated texts, on the frozen language model. "
    "256 prompts with 4 sampled responses each, one epoch; judged on 4 samples to each of 128 other prompts by the "
    "crowd's exact truth (`python benchmarks/lab_policy.py`). Each method has the best of its grid of beta and "
    "learning rate by gold, on a seed of its own; rewards are in standard deviations over the "
    "model's responses. Numbers are means over seeds with 95 % t intervals. `broken` is the share of responses with "
    "words outside any clause of the lab's world, which cost everybody's judgement 4 points times their share of the text."
)


def _methods(labels: dict[str, dict[int, Record]], before: dict[int, Record], title: str) -> str:
    if not labels:
        return ""
    rows = [["language model", "", *_cells(before.values())]]
    for name, seeds in labels.items():
        run = next(iter(seeds.values()))["run"]
        settings = f"{run['beta']:g}, {run['learning_rate']:g}"
        rows.append([f"{_NAMES[name]}, {len(seeds)} seeds", settings, *_cells(seeds.values())])
    text = f"### {title}\n\n" + table(["", "beta, rate", *(name for name, *_ in _COLUMNS)], rows)
    others = [name for name in labels if name != "qrpo"] if "qrpo" in labels else []
    differences = [
        f"{_NAMES[name]} {_difference(labels['qrpo'], labels[name])}"
        for name in others
        if len(set(labels["qrpo"]) & set(labels[name])) > 1
    ]
    return text + ("\n\nQRPO's gold minus that of " + ", ".join(differences) + "." if differences else "")


def _why(arms: Arms, before: dict[int, Record]) -> str:
    if "why" not in arms:
        return ""
    rows: Rows = []
    for name in ("qrpo", "rebel"):
        rows.append([_NAMES[name], *_cells(arms["methods"].get(name, {}).values()), ""])
    for label, words in _WHY.items():
        if label in arms["why"]:
            seeds = arms["why"][label]
            difference = _difference(seeds, arms["methods"]["qrpo"])
            rows.append([words, *_cells(seeds.values()), difference])
    return (
        "### What tells QRPO from REBEL\n\nQRPO regresses the level of the log-ratio on ranks, REBEL differences of "
        "log-ratios on differences of rewards. Each is changed alone, with the settings of the method whose target "
        "it keeps; the last column is gold minus QRPO's.\n\n"
        + table(["", *(name for name, *_ in _COLUMNS), "minus QRPO"], rows)
    )


def _frontier(arms: Arms, before: dict[int, Record]) -> str:
    """Gold at the KL that was paid, and what reweighting the model's own responses would give for it."""
    if not before:
        return ""
    rows: Rows = []
    for label in sorted(arms.get("beta", {}), key=_by_method_and_beta):
        seeds = arms["beta"][label]
        ceilings = [
            _at(before[s]["ideal"]["mean"][way], _kl(r), "gold") if s in before else None
            for way in ("rank", "reward")
            for s, r in seeds.items()
        ]
        half = len(seeds)
        found = [_mean(ceilings[:half]), _mean(ceilings[half:])]
        method, beta = label.split("-b")
        rows.append([f"{_NAMES[method]}, beta {beta}", *_cells(seeds.values()), *(_shown(v) for v in found)])
    if not rows:
        return ""
    return (
        "### Gold at equal distance\n\nOther betas at each method's learning rate. The last columns say what the "
        "KL that was paid could buy: the mean gold of the model's own 16 responses to each held-out prompt, "
        "reweighted by exp(rank / b) or exp(reward / b) with b such that the KL is the same (at most log 16).\n\n"
        + table(
            ["", *(name for name, *_ in _COLUMNS), "gold, ranks reweighted", "gold, rewards reweighted"], rows
        )
    )


def _by_method_and_beta(label: str) -> tuple[str, float]:
    method, beta = label.split("-b")
    return method, float(beta)


def _references(arms: Arms) -> str:
    if "references" not in arms:
        return ""
    labels = arms["references"]
    rows = [
        [
            label.split("-")[0],
            "left out" if "without" in label else "counted (published)",
            str(len(labels[label])),
            *_cells(labels[label].values()),
        ]
        for label in sorted(labels, key=lambda label: (int(label.split("-")[0]), label))
    ]
    return (
        "### How many references, and whether the response itself is one\n\nQRPO; each training response is one "
        "of its n references. Counted: the inclusive estimate, whose mean is (n + 1)/(2n). Left out: mid-ranks "
        "among the n - 1 others.\n\n"
        + table(["n", "itself", "seeds", *(name for name, *_ in _COLUMNS)], rows)
    )


def _plain(
    labels: dict[str, dict[int, Record]],
    title: str,
    reference: tuple[str, dict[int, Record]] | None = None,
) -> str:
    if not labels:
        return ""
    shown = ({reference[0]: reference[1]} if reference else {}) | labels
    rows = [[f"{label}, {len(seeds)} seeds", *_cells(seeds.values())] for label, seeds in shown.items()]
    return f"### {title}\n\n" + table(["", *(name for name, *_ in _COLUMNS)], rows)


def _measure(record: Record, name: str) -> float:
    return float(record["outcome"]["measures"][name]["estimate"])


def _kl(record: Record) -> float:
    return _measure(record, "kl")


def _cells(records: Iterable[Record]) -> list[str]:
    found = list(records)
    cells = []
    for _, read, digits in _COLUMNS:
        values = [value for record in found if (value := read(record)) is not None]
        cells.append(interval(mean_interval(values, method="t").to_dict(), digits) if values else "")
    return cells


def _difference(a: dict[int, Record], b: dict[int, Record]) -> str:
    """Gold of a minus gold of b, over the seeds that both have."""
    both = sorted(set(a) & set(b))
    if not both:
        return ""
    values = ([_measure(side[seed], "gold") for seed in both] for side in (a, b))
    return interval(difference_interval(*values, method="t").to_dict(), 3)


def _at(points: Sequence[dict[str, float]], kl: float, name: str) -> float | None:
    """Linear between the points of a frontier; None beyond its end."""
    path = sorted([(point["kl"], point[name]) for point in points])
    for (x0, y0), (x1, y1) in pairwise(path):
        if x0 <= kl <= x1:
            return y0 + (y1 - y0) * (kl - x0) / (x1 - x0)
    return None


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present and len(present) == len(values) else None


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
