"""The lab's policy study: the part of docs/results.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from pluralign.evaluation import difference_interval, mean_interval
from pluralign.lab.personas import BROKEN
from pluralign.losses.partition import optimum_kl
from studies.lab_policy.runs import Run
from studies.records import read
from studies.tables import Headline, Rows, interval, table

Record = dict[str, Any]
Arms = dict[str, dict[str, dict[int, Record]]]  # arm -> label -> seed -> record

_NAMES = {"qrpo": "QRPO", "rebel": "REBEL", "dpo": "DPO", "simpo": "SimPO"}
_WHY = {
    "rank-differences": "differences of ranks (REBEL's loss, QRPO's rewards)",
    "reward-levels": "levels of normal scores (QRPO's loss, rewards as steep as REBEL's)",
    "qrpo-winner": "QRPO given only the winner of each pair",
    "rebel-winner": "REBEL given only the winner of each pair",
}
_COLUMNS: tuple[tuple[str, Callable[[Record], float | None], int], ...] = (
    ("gold", lambda r: measure(r, "gold"), 3),
    ("worst 5 % of people", lambda r: measure(r, "tail"), 3),
    ("harm, %", lambda r: 100 * measure(r, "harm"), 2),
    ("KL, nats", lambda r: r["outcome"]["measures"].get("kl", {"estimate": 0.0})["estimate"], 2),
    ("proxy", lambda r: measure(r, "proxy"), 2),
    ("broken, %", lambda r: 100 * measure(r, "broken"), 1),
    ("gold lost to them", lambda r: BROKEN * (1 - measure(r, "fluency")), 2),
    ("words", lambda r: measure(r, "words"), 1),
    ("length correlation", lambda r: r["outcome"]["length_correlation"], 2),
)
_WITH_INTERVAL = ("gold", "worst 5 % of people", "KL, nats")
_HEAD = [name for name, *_ in _COLUMNS]


def headlines() -> list[Headline]:
    """What QRPO gains over the language model, and its gold minus that of the others."""
    arms, before = runs_by_arm()
    methods = arms.get("methods", {})
    if set(methods) != set(_NAMES):
        return []
    found = [
        Headline("QRPO in the lab, gold minus the language model's", difference(methods["qrpo"], before))
    ]
    for rival in ("dpo", "rebel", "simpo"):
        found.append(
            Headline(f"QRPO's gold minus {_NAMES[rival]}'s", difference(methods["qrpo"], methods[rival]))
        )
    return found


def runs_by_arm() -> tuple[Arms, dict[int, Record]]:
    """The runs by arm, and the language model itself by seed."""
    before: dict[int, Record] = {}
    arms: Arms = {}
    for record in read("lab_policy"):
        arm, settings = record["arm"], record["settings"]
        if arm == "before":
            before[settings["seed"]] = record["results"]
        else:
            run = Run(arm, **settings)
            arms.setdefault(arm, {}).setdefault(run.label, {})[run.seed] = {"run": run, **record["results"]}
    arms = {
        arm: {name: dict(sorted(labels[name].items())) for name in sorted(labels)}
        for arm, labels in arms.items()
    }
    return arms, before


def section() -> str | None:
    """What offline policy methods do to the lab's crowd."""
    arms, before = runs_by_arm()
    if "methods" not in arms:
        return None
    methods = arms["methods"]
    parts = [
        _INTRODUCTION,
        _methods(methods, before, "mean", "With a learned proxy"),
        _methods(arms.get("gold", {}), before, "gold", "With the gold reward itself as the proxy"),
        _methods(arms.get("double", {}), before, "mean", "The same settings on twice the data"),
        _why(arms),
        _betas(arms, before),
        _references(arms),
        _risks(arms),
        _offline(arms),
    ]
    return "\n\n".join(part for part in parts if part)


_INTRODUCTION = (
    "## Policies in the lab\n\nA language model of 0.4 million weights, trained from scratch on the behaviour policy's "
    "texts, is fitted offline to a proxy: a quantile model on 2,000 rated texts, on the frozen language model. "
    "256 prompts with 4 sampled responses each, one epoch; evaluated on 4 samples to each of 128 other prompts by the crowd's exact reward (`python -m studies lab_policy`). Each method has the best of its grid of beta and "
    "learning rate by gold, on a seed of its own; rewards are in standard deviations over the "
    "model's responses. Numbers are means over seeds with 95 % t intervals. `broken` is the share of responses with "
    "words outside any clause of the lab's world, which cost everybody's judgement 4 points times their share of the text. The attainable gold at a KL is the mean gold of the language "
    "model's own 16 responses to each held-out prompt, reweighted by exp(proxy / b) to the same KL, where 16 are enough."
)


def _methods(labels: dict[str, dict[int, Record]], before: dict[int, Record], proxy: str, title: str) -> str:
    """A row per method, and QRPO's gold minus the others'."""
    if not labels:
        return ""
    start = {seed: before[seed] for seeds in labels.values() for seed in seeds if seed in before}
    rows = [["language model", "", *_cells(start.values()), ""]]
    for name, seeds in labels.items():
        run = next(iter(seeds.values()))["run"]
        settings = f"{run.beta:g}, {run.learning_rate:g}"
        rows.append([_name(name, seeds), settings, *_cells(seeds.values()), _ceiling(seeds, before, proxy)])
    text = f"### {title}\n\n" + table(["", "beta, rate", *_HEAD, "gold attainable at this KL"], rows)
    differences = [
        f"{_NAMES[name]} {difference(labels['qrpo'], seeds)}"
        for name, seeds in labels.items()
        if name != "qrpo" and "qrpo" in labels
    ]
    return text + ("\n\nQRPO's gold minus that of " + ", ".join(differences) + "." if differences else "")


def _why(arms: Arms) -> str:
    if "why" not in arms:
        return ""
    rows: Rows = []
    for name in ("qrpo", "rebel"):
        seeds = arms["methods"].get(name, {})
        rows.append([_name(name, seeds), *_cells(seeds.values()), ""])
    for label, words in _WHY.items():
        if label in arms["why"]:
            seeds = arms["why"][label]
            less = difference(seeds, arms["methods"]["qrpo"])
            rows.append([f"{words}, {_count(seeds)}", *_cells(seeds.values()), less])
    return (
        "### What distinguishes QRPO from REBEL\n\nQRPO regresses the level of the log-ratio on ranks, REBEL differences of "
        "log-ratios on differences of rewards. Each is changed alone, with the settings of the method whose target "
        "it keeps; the last column is gold minus QRPO's. Normal scores over beta 0.3 ask for an optimum at a KL of "
        "1/(2 beta^2) = 5.6 nats, QRPO's ranks over beta 0.3 for 0.36.\n\n"
        + table(["", *_HEAD, "minus QRPO"], rows)
    )


def _betas(arms: Arms, before: dict[int, Record]) -> str:
    """Other betas at each method's learning rate, the best one among them."""
    if "beta" not in arms:
        return ""
    labels = dict(arms["beta"])
    for method in ("qrpo", "rebel"):
        seeds = arms["methods"].get(method, {})
        for record in list(seeds.values())[:1]:
            labels[f"{method}-b{record['run'].beta:g}"] = seeds
    rows: Rows = []
    for label in sorted(labels, key=_by_method_and_beta):
        method, beta = label.split("-b")
        seeds = labels[label]
        optimum = f"{optimum_kl(float(beta)):.2f}" if method == "qrpo" else ""
        name = f"{_NAMES[method]}, beta {beta}, {_count(seeds)}"
        rows.append([name, *_cells(seeds.values()), optimum, _ceiling(seeds, before, "mean")])
    return (
        "### Gold at equal distance\n\nOther betas at each method's learning rate. The KL of QRPO's optimum is known beforehand; a policy with a larger KL has learned something else.\n\n"
        + table(["", *_HEAD, "KL of the optimum", "gold attainable at this KL"], rows)
    )


def _by_method_and_beta(label: str) -> tuple[str, float]:
    method, beta = label.split("-b")
    return method, float(beta)


def _references(arms: Arms) -> str:
    if "references" not in arms:
        return ""
    labels = arms["references"]
    rows: Rows = []
    for label in sorted(labels, key=lambda label: (int(label.split("-")[0]), label)):
        count, how, _ = label.split("-")
        counted = labels.get(f"{count}-with-itself", {})
        left_out = how == "without"
        rows.append(
            [
                count,
                "left out" if left_out else "counted (published)",
                _count(labels[label]),
                *_cells(labels[label].values()),
                difference(labels[label], counted) if left_out else "",
            ]
        )
    return (
        "### How many references, and whether the response itself is one\n\nQRPO; each training response is one "
        "of its n references. Counted: the inclusive estimate, whose mean is (n + 1)/(2n). Left out: mid-ranks "
        "among the n - 1 others. The last column is gold minus that of counting it.\n\n"
        + table(["n", "itself", "", *_HEAD, "minus counted"], rows)
    )


def _risks(arms: Arms) -> str:
    if "risk" not in arms:
        return ""
    usual = arms["methods"].get("qrpo", {})
    rows = [["mean", _count(usual), *_cells(usual.values()), ""]]
    for label, seeds in arms["risk"].items():
        rows.append([label, _count(seeds), *_cells(seeds.values()), difference(seeds, usual, "tail")])
    return (
        "### QRPO on risk measures of the same proxy, same references\n\nThe last column is the mean judgement of the "
        "worst 5 % of people minus that under `mean`.\n\n"
        + table(["risk", "", *_HEAD, "worst 5 %, minus mean's"], rows)
    )


def _offline(arms: Arms) -> str:
    if "offline" not in arms:
        return ""
    rows: Rows = []
    for method, seeds in arms["offline"].items():
        less = difference(seeds, arms["methods"].get(method, {}))
        rows.append([_name(method, seeds), *_cells(seeds.values()), less])
    return (
        "### Offline: trained on the behaviour policy's texts instead of the model's own\n\nThe same prompts, four "
        "texts each, all of which parse. The last column is gold minus that of the same method on the model's own "
        "samples.\n\n" + table(["", *_HEAD, "minus own samples"], rows)
    )


def _name(method: str, seeds: dict[int, Record]) -> str:
    return f"{_NAMES[method]}, {_count(seeds)}"


def _count(seeds: dict[int, Record]) -> str:
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def measure(record: Record, name: str) -> float:
    return float(record["outcome"]["measures"][name]["estimate"])


def _cells(records: Iterable[Record]) -> list[str]:
    """Means over seeds, with intervals where differences matter most."""
    found = list(records)
    cells = []
    for name, number, digits in _COLUMNS:
        values = [value for record in found if (value := number(record)) is not None]
        mean = mean_interval(values, method="t").to_dict() if values else None
        if mean is not None and name not in _WITH_INTERVAL:
            mean |= {"low": None}
        cells.append(interval(mean, digits))
    return cells


def difference(a: dict[int, Record], b: dict[int, Record], name: str = "gold") -> str:
    """A measure of a minus that of b, over the seeds that both have."""
    both = sorted(set(a) & set(b))
    if not both:
        return ""
    values = ([measure(side[seed], name) for seed in both] for side in (a, b))
    return interval(difference_interval(*values, method="t").to_dict(), 3)


def _at(points: Sequence[dict[str, float]], kl: float, name: str) -> float | None:
    """Linear between the points of a frontier; None beyond its end."""
    path = sorted([(point["kl"], point[name]) for point in points])
    for (x0, y0), (x1, y1) in pairwise(path):
        if x0 <= kl <= x1:
            return y0 + (y1 - y0) * (kl - x0) / (x1 - x0)
    return None


def _ceiling(seeds: dict[int, Record], before: dict[int, Record], proxy: str) -> str:
    """Gold of the language model's own responses, reweighted towards the proxy to the KL that was paid."""
    found = [
        _at(before[seed]["ideal"][proxy]["reward"], measure(record, "kl"), "gold")
        for seed, record in seeds.items()
        if seed in before
    ]
    present = [value for value in found if value is not None]
    return f"{sum(present) / len(present):.3f}" if present and len(present) == len(found) else ""
