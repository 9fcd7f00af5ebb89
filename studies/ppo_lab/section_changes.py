"""PPO in the lab: tables of what changes after the reward was fitted, and worked cases of steering."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from pluralign.lab import PERSONAS
from studies import findings, records
from studies.ppo_lab.changes import HEARD, LEFT_OUT, NEW
from studies.ppo_lab.steering import ANSWERS, CAUTIOUS, TESTED
from studies.tables import Rows, over_seeds, table

Run = dict[str, Any]
SHARES = {
    "old": "the old crowd's shares",
    "updated": f"shares after {HEARD} ratings by the new crowd",
    "new": "the new crowd's true shares",
}


def shift() -> str:
    """A crowd that changes: shares, gold and win rates under the new crowd."""
    runs = records.results("ppo_lab", "shift")
    if not runs:
        return ""
    rows: Rows = [["the language model before", *["–"] * len(NEW), _mean(runs, "gold", "before"), "–", "–"]]
    for key, name in SHARES.items():
        shares = [f"{100 * statistics.mean(run['shares'][key][who] for run in runs):.0f}" for who in NEW]
        rows.append(
            [
                name,
                *shares,
                _mean(runs, "gold", key),
                _rates(runs, "against_before", key),
                "–" if key == "old" else _rates(runs, "against_old", key),
            ]
        )
    head = [
        "reward: mean of six personas' models, weighted by",
        *(f"{persona.name}, %" for persona in PERSONAS if persona.name in NEW),
        "gold of the new crowd",
        "won : lost against the language model, %",
        "against the old policy",
    ]
    return (
        "### A crowd that changes\n\n"
        + findings.section("ppo_lab", "A crowd that changes")
        + "\n\nHalf scientists and half teachers become 60 % teenagers and 40 % artists. `PopulationUpdater` receives ratings of other "
        f"texts by {HEARD} people of the new crowd, whose personas it does not know. `gae`, as at equal samples. "
        f"{_seeds(runs)}.\n\n" + table(head, rows)
    )


def unseen() -> str:
    """Tasks that were left out."""
    runs = records.results("ppo_lab", "unseen")
    if not runs:
        return ""
    rows: Rows = [
        [
            name,
            f"{statistics.mean(run[key]['prompts'] for run in runs):.0f}",
            *(over_seeds([run[key][when] for run in runs], 2) for when in ("before", "after")),
            over_seeds([run[key]["after"] - run[key]["before"] for run in runs], 2),
        ]
        for key, name in (("seen", "seen in training"), ("left_out", "left out"))
    ]
    return (
        "### Tasks left out of training\n\n"
        + findings.section("ppo_lab", "Tasks left out")
        + f"\n\nThe tasks {', '.join(LEFT_OUT)} are left out, of the pairs that the Bradley-Terry reward is fitted on and of the prompts "
        f"that the policy is trained on; the language model has seen them. `gae`, as at equal samples. {_seeds(runs)}.\n\n"
        + table(["tasks", "held-out prompts", "gold before", "after", "difference"], rows)
    )


def steering() -> str:
    """Every lambda on one axis, and the worked cases of the first seed."""
    runs = records.results("ppo_lab", "steering")
    if not runs:
        return ""
    kinds: tuple[tuple[str, str, float, int], ...] = (
        ("accuracy on pairs, %", "accuracy", 100, 1),
        ("gold", "gold", 1, 2),
        ("worst 5 % of people", "worst 5 %", 1, 2),
        ("worst 10 %", "worst 10 %", 1, 2),
        ("harm, %", "harm", 100, 1),
    )
    rows: Rows = [
        [
            f"`{risk}`",
            *(
                over_seeds([scale * run["measures"][risk][key] for run in runs], digits)
                for _, key, scale, digits in kinds
            ),
        ]
        for risk in runs[0]["measures"]
    ]
    differ = 100 * statistics.mean(run["differ"] for run in runs)
    return (
        "### Steering\n\n"
        + findings.section("ppo_lab", "Steering")
        + f"\n\nThe same quantile model, and for every measure: its accuracy on {TESTED:,} pairs, each decided by one person, and what people "
        f"think of the best of {ANSWERS} answers of the language model to each of 128 held-out prompts. {_seeds(runs)}.\n\n"
        + table(["measure", *(name for name, *_ in kinds)], rows)
        + f"\n\n`{CAUTIOUS}` chooses another answer than the mean for {differ:.0f} % of prompts. The first of them, in the order of seed "
        "0:\n\n" + "\n\n".join(_case(case) for case in runs[0]["cases"])
    )


def _case(case: Run) -> str:
    rows: Rows = []
    for risk, chosen in case["chosen"].items():
        seen, people = chosen["predicted"], chosen["people"]
        rows.append(
            [
                f"`{risk}`",
                chosen["text"] or "(empty)",
                f"{seen['mean']:.2f}, {seen['worst 10 %']:.2f}",
                f"{people['gold']:.2f}, {people['worst 10 %']:.2f}",
                f"{100 * people['harm']:.0f}",
            ]
        )
    head = ["measure", "answer", "predicted mean, worst 10 %", "people's mean, worst 10 %", "harm, %"]
    return f"*{case['prompt']}*\n\n" + table(head, rows)


def _mean(runs: list[Run], key: str, name: str) -> str:
    return over_seeds([run[key][name] for run in runs], 2)


def _rates(runs: list[Run], key: str, name: str) -> str:
    return " : ".join(
        f"{100 * statistics.mean(run[key][name][side] for run in runs):.0f}" for side in ("won", "lost")
    )


def _seeds(runs: list[Run]) -> str:
    return "One seed" if len(runs) == 1 else f"{len(runs)} seeds"


PARTS: tuple[Callable[[], str], ...] = (shift, unseen, steering)
