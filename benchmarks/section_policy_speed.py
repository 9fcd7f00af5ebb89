"""The part of docs/results.md on the speed and memory of policy training."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from tables import read_folder, table

_NAMES = {"dpo": "`dpo`, the same pairs", "qrpo": "`qrpo`, the same responses unpaired"}


def section() -> str | None:
    """Medians over rounds, and ratios within rounds; None where nothing was measured."""
    rounds: dict[int, dict[str, Any]] = defaultdict(dict)
    for record in read_folder("policy_speed"):
        rounds[record["round"]][record["case"]] = record
    whole = [cases for cases in rounds.values() if {"trl_dpo", *_NAMES} <= set(cases)]
    if not whole:
        return None
    peer = [cases["trl_dpo"] for cases in whole]
    rows = [["TRL `DPOTrainer`", _median(peer, "tokens_per_cpu_second"), "", _median(peer, "grown_mib"), ""]]
    for case, name in _NAMES.items():
        ours = [cases[case] for cases in whole]
        faster = [
            o["tokens_per_cpu_second"] / p["tokens_per_cpu_second"] for o, p in zip(ours, peer, strict=True)
        ]
        smaller = [o["grown_mib"] / p["grown_mib"] for o, p in zip(ours, peer, strict=True)]
        rows.append(
            [
                name,
                _median(ours, "tokens_per_cpu_second"),
                f"{statistics.median(faster):.1f} [{min(faster):.1f}, {max(faster):.1f}]",
                _median(ours, "grown_mib"),
                f"{statistics.median(smaller):.2f} [{min(smaller):.2f}, {max(smaller):.2f}]",
            ]
        )
    head = ["", "tokens per CPU second", "times TRL", "MiB above the loaded model", "of TRL's"]
    versions = peer[0]["versions"]
    return (
        "## Policy training: speed and memory\n\n"
        f"One step of 16 sequences (8 pairs, to 512 tokens), 4 layers, width 256, vocabulary 32,000, random "
        f"weights, float32, one thread; TRL {versions['trl']} with precomputed reference log-probabilities. Median "
        f"of {len(whole)} rounds, the range in brackets.\n\n{table(head, rows)}"
    )


def _median(records: list[dict[str, Any]], key: str) -> str:
    return f"{statistics.median(record[key] for record in records):,.0f}"
