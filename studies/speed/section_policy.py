"""The part of docs/results.md on the speed and memory of policy training."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from studies.records import read
from studies.tables import Headline, table

_NAMES = {"dpo": "`dpo`, the same pairs", "qrpo": "`qrpo`, the same responses unpaired"}


def headlines() -> list[Headline]:
    """Speed and memory of a step of `dpo` against TRL's."""
    whole = _rounds()
    if not whole:
        return []
    faster, smaller = _ratios(whole, "dpo", "tokens_per_cpu_second"), _ratios(whole, "dpo", "grown_mib")
    return [
        Headline(
            "training a policy by `dpo`, tokens per second, times TRL's (head-heavy: 4 layers of width 256, 32,000 tokens)",
            _spread(faster, 1),
            "3",
            statistics.median(faster) >= 3,
        ),
        Headline(
            "memory above the loaded model, of TRL's (the same shape)",
            _spread(smaller, 2),
            "at most .33",
            statistics.median(smaller) <= 1 / 3,
        ),
    ]


def section() -> str | None:
    """Medians over rounds, and ratios within rounds; None where nothing was measured."""
    whole = _rounds()
    if not whole:
        return None
    peer = [cases["trl_dpo"] for cases in whole]
    rows = [["TRL `DPOTrainer`", _median(peer, "tokens_per_cpu_second"), "", _median(peer, "grown_mib"), ""]]
    for case, name in _NAMES.items():
        ours = [cases[case] for cases in whole]
        rows.append(
            [
                name,
                _median(ours, "tokens_per_cpu_second"),
                _spread(_ratios(whole, case, "tokens_per_cpu_second"), 1),
                _median(ours, "grown_mib"),
                _spread(_ratios(whole, case, "grown_mib"), 2),
            ]
        )
    head = ["", "tokens per CPU second", "times TRL", "MiB above the loaded model", "of TRL's"]
    versions = peer[0]["versions"]
    return (
        "## Policy training: speed and memory\n\n"
        f"One step of 16 sequences (8 pairs, to 512 tokens), 4 layers, width 256, vocabulary 32,000, random "
        "weights, float32, one thread. The shape is head-heavy: 8.2 of the 11.4 million weights that are multiplied are the "
        "output head, whose logits are what is saved here; in a model whose layers outweigh its head the factors are closer to 1 "
        f"(not measured). TRL {versions['trl']} with precomputed reference log-probabilities. Median "
        f"of {len(whole)} rounds, the range in brackets.\n\n{table(head, rows)}"
    )


def _rounds() -> list[dict[str, Any]]:
    """The records of each whole round, by case."""
    rounds: dict[int, dict[str, Any]] = defaultdict(dict)
    for record in read("speed", "policy"):
        settings = record["settings"]
        rounds[settings["seed"]][settings["case"]] = {"versions": record["versions"], **record["results"]}
    return [cases for cases in rounds.values() if {"trl_dpo", *_NAMES} <= set(cases)]


def _ratios(rounds: list[dict[str, Any]], case: str, key: str) -> list[float]:
    """Ours over the peer's, round by round."""
    return [cases[case][key] / cases["trl_dpo"][key] for cases in rounds]


def _spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def _median(records: list[dict[str, Any]], key: str) -> str:
    return f"{statistics.median(record[key] for record in records):,.0f}"
