"""The part of docs/results.md on the speed and memory of PPO."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from studies.records import read
from studies.speed.ppo import SHAPES
from studies.tables import Headline, table

_NAMES = {
    "trl": "TRL `PPOTrainer`: a value model and a reference of their own, as always",
    "alike": "ours with `critic_model` and `ref_model`: like for like",
    "ours": "ours as it is: value head on the policy, its first weights as reference",
}
_GOAL = 1.5

Round = dict[str, dict[str, Any]]


def headlines() -> list[Headline]:
    """Speed like for like, against the goal; as it is, beside it."""
    found = []
    for shape, what in SHAPES.items():
        rounds = _rounds(shape)
        if not rounds:
            continue
        alike, ours = (_ratios(rounds, case, "samples_per_cpu_second") for case in ("alike", "ours"))
        found.append(
            Headline(
                f"PPO, answers per second, times TRL 1.12's ({what.name}), like for like",
                _spread(alike, 2),
                f"{_GOAL:g}",
                statistics.median(alike) >= _GOAL,
            )
        )
        found.append(
            Headline(f"the same, ours without a second and third model ({what.name})", _spread(ours, 2))
        )
    return found


def section() -> str | None:
    """A table for each shape; None where nothing was measured."""
    tables = [text for shape in SHAPES if (text := _table(shape))]
    if not tables:
        return None
    versions = next(iter(_rounds(next(s for s in SHAPES if _rounds(s)))))["trl"]["versions"]
    return (
        "## PPO: speed and memory\n\n"
        f"A step beside TRL {versions['trl']}'s `PPOTrainer`, its last, in an environment of its own with transformers "
        f"{versions['transformers']} (`PPO_PEER_PYTHON=... python -m studies speed --arms ppo`): random weights, prompts of 16 to "
        "64 tokens, answers of full length, GAE, AdamW, one small reward model for all, float32, one thread. Answers per second of "
        "CPU time; shares of wall time; memory is the highest resident set above all loaded models (policy, reward, and where "
        "there are any, value model and reference), and above none. Median over rounds, the range in brackets. In the first round `alike`, and `ours` of the small model, ran before our trainer took the fused AdamW that TRL has.\n\n"
        + "\n\n".join(tables)
    )


def _table(shape: str) -> str | None:
    rounds, what = _rounds(shape), SHAPES[shape]
    if not rounds:
        return None
    rows = []
    for case, name in _NAMES.items():
        runs = [one[case] for one in rounds]
        shares = [
            f"{100 * statistics.median(run['shares'][part] for run in runs):.0f}"
            for part in ("generation", "reward", "update")
        ]
        times = "" if case == "trl" else _spread(_ratios(rounds, case, "samples_per_cpu_second"), 2)
        rows.append(
            [
                name,
                f"{statistics.median(run['samples_per_cpu_second'] for run in runs):.2f}",
                times,
                " / ".join(shares),
                *(
                    f"{statistics.median(run[key] for run in runs):,.0f}"
                    for key in ("grown_mib", "whole_mib")
                ),
            ]
        )
    head = ["", "answers per second", "times TRL", "generation / reward / update, %"]
    count = len(rounds)
    return (
        f"**{what.name}** (vocabulary {what.vocabulary:,}; {what.steps} steps of {what.batch} answers of {what.new_tokens} tokens, "
        f"{what.epochs} epochs; {count} round{'' if count == 1 else 's'})\n\n"
        + table([*head, "MiB above loaded models", "MiB in all"], rows)
    )


def _rounds(shape: str) -> list[Round]:
    """The results of each whole round, by case."""
    rounds: dict[int, Round] = defaultdict(dict)
    for record in read("speed", "ppo", shape=shape):
        rounds[record["settings"]["seed"]][record["settings"]["case"]] = record["results"]
    return [one for one in rounds.values() if set(one) == set(_NAMES)]


def _ratios(rounds: list[Round], case: str, key: str) -> list[float]:
    return [one[case][key] / one["trl"][key] for one in rounds]


def _spread(values: list[float], digits: int) -> str:
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.{digits}f}, {max(values):.{digits}f}]"
