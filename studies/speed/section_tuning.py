"""The part of docs/results.md on the speed and memory of tuning a reward model."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from studies.records import read
from studies.tables import Headline, table

_SHAPES = {"minilm": "MiniLM's shape", "smollm2": "SmolLM2's shape"}
_NAMES = {
    "bradley_terry": "ours, Bradley-Terry",
    "gaussian": "five Gaussian heads",
    "quantile": "19 quantiles of 4 attributes",
}

Cases = dict[str, dict[str, Any]]


def headlines() -> list[Headline]:
    """Pairs per second and memory against TRL's, for each shape."""
    found = []
    for shape, rounds in _rounds().items():
        faster = _ratios(rounds, "bradley_terry", "pairs_per_cpu_second")
        smaller = _ratios(rounds, "bradley_terry", "grown_mib")
        claim = f"tuning a reward model, pairs per second times TRL's `RewardTrainer` ({_SHAPES[shape]})"
        found.append(Headline(claim, _spread(faster), "1.5", statistics.median(faster) >= 1.5))
        claim = f"memory above the loaded model, of TRL's ({_SHAPES[shape]})"
        found.append(Headline(claim, _spread(smaller), "at most 1", statistics.median(smaller) <= 1))
    return found


def section() -> str | None:
    """Medians over rounds, and ratios within rounds; None where nothing was measured."""
    rows, versions, gap = [], "", 0.0
    for shape, rounds in _rounds().items():
        versions = rounds[0]["trl"]["versions"]["trl"]
        for cases in rounds:
            pairs = zip(cases["trl"]["losses"], cases["bradley_terry"]["losses"], strict=True)
            gap = max(gap, *(abs(one - other) for one, other in pairs))
        for case in ("trl", *_NAMES):
            if not all(case in cases for cases in rounds):
                continue
            own = [cases[case] for cases in rounds]
            ours = case != "trl"
            rows.append(
                [
                    f"{_SHAPES[shape]}: {_NAMES.get(case, 'TRL `RewardTrainer`')}",
                    f"{statistics.median(one['pairs_per_cpu_second'] for one in own):.2f}",
                    _spread(_ratios(rounds, case, "pairs_per_cpu_second")) if ours else "",
                    f"{statistics.median(one['grown_mib'] for one in own):,.0f}",
                    _spread(_ratios(rounds, case, "grown_mib")) if ours else "",
                ]
            )
    if not rows:
        return None
    head = ["", "pairs per CPU second", "times TRL", "MiB above the loaded model", "of TRL's"]
    return (
        "## Tuning a reward model: speed and memory\n\nAll weights of a decoder with random weights and one score on its last token, "
        "pairs of conversations of up to 256 tokens (responses of log-normal length, median 60), float32, one thread, fused AdamW for both, "
        f"no gradient checkpointing (`python -m studies speed --arms tuning`). TRL {versions}. The same pairs come in the same order: the losses of the "
        f"steps differ by at most {gap:.0e}. Heads of other families run on the same texts as ratings. What is saved is padding: a batch is run in parts "
        f"of like length. Median over rounds, the range in brackets.\n\n{table(head, rows)}"
    )


def _rounds() -> dict[str, list[Cases]]:
    """By shape, the records of each round that has both sides, by case."""
    found: dict[str, dict[int, Cases]] = defaultdict(lambda: defaultdict(dict))
    for record in read("speed", "tuning"):
        settings = record["settings"]
        own = {"versions": record["versions"], **record["results"]}
        found[settings["shape"]][settings["seed"]][settings["case"]] = own
    whole = {
        shape: [cases for cases in found[shape].values() if {"trl", "bradley_terry"} <= set(cases)]
        for shape in _SHAPES
        if shape in found
    }
    return {shape: rounds for shape, rounds in whole.items() if rounds}


def _ratios(rounds: list[Cases], case: str, key: str) -> list[float]:
    """Ours over the peer's, round by round."""
    return [cases[case][key] / cases["trl"][key] for cases in rounds]


def _spread(values: list[float]) -> str:
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.2f}, {max(values):.2f}]"
