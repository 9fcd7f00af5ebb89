"""Gaussian ensembles: the part of docs/results.md. Computes nothing new but means.

Intervals are Student t over the 5 seeds; differences are of runs of the same seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from studies import findings
from studies.records import read
from studies.tables import Headline, Rows, over_seeds, table

Records = list[dict[str, Any]]
NAMES = {"minilm": "MiniLM", "traits": "exact traits"}
UNFAMILIAR = ("broken", "stuffed", "padded", "long")
SHOWN = {
    "one head": ("mean", "cvar:0.1"),
    "gaussian_nll": ("mean", "nominal", "worst_case", "best_case", "uwo:1", "robust:0.4", "cvar:0.1"),
    "reparameterized_mse": ("mean", "nominal", "worst_case", "robust:0.4"),
    "bradley_terry": ("mean", "worst_case", "uwo:1"),
}


def section() -> str | None:
    """The studies that have been run; None where there are none."""
    records = {arm: read("brme", arm) for arm in ("spread", "heads", "choice")}
    made = (_spread(records["spread"]), _heads(records["heads"]), _choice(records["choice"]), _cost(_costs()))
    parts = [text for text in made if text is not None]
    if not parts:
        return None
    intro = (
        "## Gaussian ensembles\n\nBRME's heads in the lab, where mean and spread of what people think are known exactly "
        "(`python -m studies brme`): 5 linear heads on 1,200 responses rated by 5 people each, on MiniLM and on features that hold everything the crowd responds to. Seeds draw other responses, raters, resamples and anchors; the evaluation texts stay the same. Penalties are fixed, and ratings are judgements before rounding. Intervals are Student t over 5 seeds."
    )
    return "\n\n".join([intro, *parts])


def headlines() -> list[Headline]:
    """The std against the true noise, the minimum over heads, and what five heads cost."""
    runs = {"spread": read("brme", "spread"), "choice": read("brme", "choice"), "cost": _costs()}
    found = []
    for features, each in _by_features(runs["spread"]):
        for loss in ("gaussian_nll", "reparameterized_mse"):
            last = max((k for k in each[0] if k.startswith(f"{loss}/")), key=lambda k: int(k.split("/")[1]))
            claim = f"Gaussian heads by `{loss}`, std over the true one ({NAMES[features]})"
            found.append(Headline(claim, _mean(each, lambda r, k=last: r[k]["ratio"], 2)))
    for features, each in _by_features(runs["choice"]):
        gain = lambda r: r["gaussian_nll/worst_case"]["gold"]["32"] - r["one head/mean"]["gold"]["32"]  # noqa: E731
        claim = f"best of 32 by the minimum over heads, gold minus that by one head ({NAMES[features]})"
        found.append(Headline(claim, _mean(each, gain, 2)))
    for record in runs["cost"]:
        for name, entry in record["results"].items():
            ratio = entry["ratio"]["of_cpu_time"]
            shown = f"{ratio['median']:.2f} [{ratio['min']:.2f}, {ratio['max']:.2f}]"
            found.append(
                Headline(
                    f"five Gaussian heads, time of one: {name}", shown, "below 1.5", ratio["median"] < 1.5
                )
            )
    return found


def _costs() -> Records:
    return read("speed", "heads")


def _spread(records: Records) -> str | None:
    if not records:
        return None
    rows: Rows = []
    for features, runs in _by_features(records):
        for loss in ("gaussian_nll", "beta_nll", "reparameterized_mse"):
            steps = [key.split("/")[1] for key in runs[0] if key.startswith(f"{loss}/")]
            for step in steps:
                key = f"{loss}/{step}"
                rows.append(
                    [
                        f"{NAMES[features]}, `{loss}`, {step}",
                        _mean(runs, lambda r, k=key: r[k]["ratio"], 2),
                        _mean(runs, lambda r, k=key: r[k]["rank"], 2),
                        _mean(runs, lambda r, k=key: r[k]["mean_error"], 3),
                    ]
                )
    return (
        "**Does the std learn the noise?** Mean std of the heads over the true one (1 is right), its rank correlation with the "
        "true one over 500 new responses, and the error of the mean, by loss and number of training steps. "
        + findings.section("brme", "Spread")
        + "\n\n"
        + table(["features, loss, steps", "std / true std", "rank correlation", "error of the mean"], rows)
    )


def _heads(records: Records) -> str | None:
    if not records:
        return None
    rows: Rows = []
    for features, runs in _by_features(records):
        for key in runs[0]:
            far = lambda r, k=key: sum(r[k][f"between_{s}"] for s in UNFAMILIAR) / len(UNFAMILIAR)  # noqa: E731
            rows.append(
                [
                    f"{NAMES[features]}, {key.replace('=True', ' on').replace('=False', ' off').replace(' anchor', ', anchor')}",
                    _mean(runs, lambda r, k=key: r[k]["correlation"], 4),
                    _mean(runs, lambda r, k=key: r[k]["between_behaviour"], 3),
                    _mean(runs, far, 3),
                    _mean(runs, lambda r, k=key: r[k]["between_broken"], 3),
                    _mean(runs, lambda r, k=key: r[k]["warns_all"], 2),
                    _mean(runs, lambda r, k=key: r[k]["minimum_takes_broken"], 3),
                ]
            )
    bias = [
        _mean(runs, lambda r: r["bootstrap=True anchor=True"]["bias_broken"], 2)
        for _, runs in _by_features(records)
    ]
    return (
        "**Are heads different?** Correlation between heads, and the standard deviation between them (in units of the reward's "
        "own) on familiar responses, on four styles that the data hardly holds, and on one of these, text that does not parse; "
        "rank correlation of that with the error over all of them; and how much the minimum lowers the reward of unparsable text. "
        + findings.section("brme", "Heads")
        + " "
        + findings.section("brme", "Minimum")
        + f" Unparsable text is rated too high by {' and '.join(bias)} points, where familiar responses lie between 1 and 5 "
        f"({' and '.join(NAMES[f] for f, _ in _by_features(records))}).\n\n"
        + table(
            [
                "",
                "correlation",
                "between, familiar",
                "between, 4 styles",
                "between, unparsable",
                "rank with error",
                "minimum takes off",
            ],
            rows,
        )
    )


def _choice(records: Records) -> str | None:
    if not records:
        return None
    rows: Rows = []
    for features, runs in _by_features(records):
        for key in [f"{model}/{measure}" for model, measures in SHOWN.items() for measure in measures]:
            model, measure = key.split("/")
            largest = lambda r, k=key: r[k]["gold"]["32"] - r["one head/mean"]["gold"]["32"]  # noqa: E731
            rows.append(
                [
                    f"{NAMES[features]}, {model}, `{measure}`",
                    _mean(runs, lambda r, k=key: r[k]["correlation"], 3),
                    _mean(runs, lambda r, k=key: r[k]["gold"]["4"], 2),
                    _mean(runs, lambda r, k=key: r[k]["gold"]["32"], 2),
                    "" if key == "one head/mean" else _mean(runs, largest, 2),
                    _mean(runs, lambda r, k=key: 100 * r[k]["unusual_chosen"], 0) + " %",
                ]
            )
    first = records[0]["results"]
    return (
        "**What do the measures choose?** Correlation of the utility with gold reward on familiar responses; gold of the best of "
        "4 and of all 32 responses by utility, where a quarter of the pool is of the four unfamiliar styles (a random one has "
        f"{first['random']:.2f}, the best {first['oracle']:.2f}); that of 32 against the mean of a single head; and how often the choice has an unfamiliar style.\n\n"
        + table(
            [
                "features, model, measure",
                "correlation",
                "best of 4",
                "best of 32",
                "against one head",
                "unfamiliar",
            ],
            rows,
        )
    )


def _cost(records: Records) -> str | None:
    if not records:
        return None
    rows = [
        [
            name,
            f"{entry['ratio']['of_cpu_time']['median']:.2f} [{entry['ratio']['of_cpu_time']['min']:.2f}, "
            f"{entry['ratio']['of_cpu_time']['max']:.2f}]",
            f"{entry['seconds']['1 heads']['median']:.2f} s",
            f"{entry['seconds']['5 heads']['median']:.2f} s",
        ]
        for name, entry in records[0]["results"].items()
    ]
    return (
        "**What do five heads cost?** Processor time of 5 heads over that of 1, pair by pair on one thread: median [smallest, "
        "largest]; wall time of each.\n\n" + table(["", "5 heads / 1 head", "1 head", "5 heads"], rows)
    )


def _by_features(records: Records) -> list[tuple[str, Records]]:
    """The results of each kind of feature, in the order of the seeds."""
    return [
        (features, runs)
        for features in NAMES
        if (runs := [r["results"] for r in records if r["settings"]["features"] == features])
    ]


def _mean(runs: Records, value: Callable[[dict[str, Any]], float], digits: int) -> str:
    return over_seeds([value(r) for r in runs], digits)
