"""PPO in the lab's language: tables of the gold reward of trained policies."""

from __future__ import annotations

import statistics
from typing import Any

from pluralign.lab import PERSONAS
from studies import findings, records
from studies.ppo_lab import section_changes
from studies.ppo_lab.training import AUTOMATIC, COMMON, CRITICS, EQUAL, METHODS, PRESSED, PRESSURE
from studies.ppo_lab.world import JUDGED, LEARNED, PAIRS, RATED, RATERS
from studies.tables import Rows, over_seeds, table

FAMILIES = {
    "bradley_terry": "Bradley-Terry",
    "gaussian_ensemble": "5 Gaussian heads",
    "quantile": "quantile",
    "categorical": "categorical",
}
METHOD_NAMES = {
    "gae": "PPO, `gae`",
    "rloo": "PPO, `rloo`",
    "grpo": "PPO, `grpo`",
    "qrpo": "QRPO",
    "dpo": "DPO",
    "rebel": "REBEL",
}
COLUMNS = (
    ("gold", "gold", 1.0, 2),
    ("worst 5 % of people", "tail", 1.0, 2),
    ("harm, %", "harm", 100.0, 1),
    ("KL, nats", "kl_k3", 1.0, 1),
    ("words", "words", 1.0, 0),
    ("broken, %", "broken", 100.0, 0),
)

Run = dict[str, Any]


def section() -> str | None:
    """All tables; None where nothing has been run."""
    if not records.results("ppo_lab", "before"):
        return None
    return "\n\n".join(
        [
            "## PPO in the lab",
            _intro(),
            *filter(
                None, (part() for part in (_samples, _pressure, _people, _critic, *section_changes.PARTS))
            ),
        ]
    )


def _intro() -> str:
    return (
        f"The lab's language model is trained by `PPOTrainer` for {EQUAL['steps']} steps of {COMMON['prompts_per_step']} prompts with "
        f"{COMMON['completions']} answers, 1,024 in all (`python -m studies ppo_lab`). Reward models see its frozen states; they were "
        f"fitted on {RATED:,} texts of the behaviour policy with {RATERS} raters each, or on {PAIRS:,} pairs of such texts. Rewards are normalised as they "
        "come, so that beta is in standard deviations of the reward. Gold is the crowd's exact mean judgement of "
        f"{JUDGED} answers to each of 128 held-out prompts, never trained on; broken answers have words outside any clause. A seed draws prompts, "
        "data, reward model and answers. Two values in brackets are the two seeds; of three and more the bracket is a Student t "
        "interval. The settings of PPO were not searched."
    )


def _samples() -> str:
    found = [
        (name, _runs("samples", method=method)) for method, name in METHOD_NAMES.items() if method in METHODS
    ]
    rows = [("the language model before", records.results("ppo_lab", "before")), *found]
    return (
        "### At equal samples\n\n"
        + findings.section("ppo_lab", "Equal samples")
        + f"\n\nOne Bradley-Terry reward, beta {EQUAL['beta']:g}. Offline methods learn once from {LEARNED} answers of the language model "
        "to each of 256 prompts, 1,024 too, with the best settings of the policy study's grids.\n\n"
        + _table("", rows)
    )


def _pressure() -> str:
    rows = [(f"{FAMILIES[family]}, `{risk}`", _fixed(family, risk)) for family, risk in PRESSED]
    rows.append((f"{FAMILIES[AUTOMATIC['reward']]}, w from disagreement", _runs("pressure", **AUTOMATIC)))
    return (
        "### Under pressure\n\n"
        + findings.section("ppo_lab", "Pressure")
        + f"\n\nThe same number of answers with beta {PRESSURE['beta']:g} and learning rate {PRESSURE['learning_rate']:g} "
        f"instead of {COMMON['learning_rate']:g}; `gae`.\n\n" + _table("model, measure", rows)
    )


def _fixed(family: str, risk: str) -> list[Run]:
    """Runs of a measure whose w, if it has one, is fixed."""
    return [
        record["results"]
        for record in records.read("ppo_lab", "pressure", reward=family, risk=risk)
        if "robust_weight" not in record["settings"]
    ]


def _people() -> str:
    runs = _runs("people")
    if not runs:
        return ""
    pairs = (
        ("categorical against the language model", "against_vanilla"),
        ("Bradley-Terry against the language model", "rival_against_vanilla"),
        ("categorical against Bradley-Terry", "against_rival"),
    )
    rows: Rows = []
    for name, key in pairs:
        cells = [
            " : ".join(
                f"{100 * statistics.mean(r[key][side][place] for r in runs):.0f}" for side in ("won", "lost")
            )
            for place in range(len(PERSONAS))
        ]
        rows.append([name, *cells])
    head = ["won : lost, % of pairs", *(persona.name for persona in PERSONAS)]
    return (
        "### Win rates under each persona\n\n"
        + findings.section("ppo_lab", "People")
        + "\n\n`gae` with the mean of a categorical model (DPRM's reward; transport loss), and with Bradley-Terry's. A pair of "
        "answers to one prompt is won if the persona would give it the higher rating, noise left out; the rest are ties. "
        f"{len(runs)} seed{'s' if len(runs) > 1 else ''}.\n\n"
        + table(head, rows)
        + "\n\n"
        + _table("", [("categorical", runs), ("Bradley-Terry", [{"outcome": run["rival"]} for run in runs])])
    )


def _critic() -> str:
    names = ("one value", "16 quantiles, their mean", "16 quantiles, `cvar:0.25` of them")
    rows = []
    for name, settings in zip(names, CRITICS, strict=True):
        exact = [
            record["results"]
            for record in records.read("ppo_lab", "critic", **settings)
            if record["settings"].keys() - {"seed"} == settings.keys()
        ]
        rows.append((name, exact))
    return (
        "### Scalar and distributional critic\n\n"
        + findings.section("ppo_lab", "Critic")
        + "\n\n`gae` with the mean of a quantile model.\n\n"
        + _table("baseline", rows)
    )


def _runs(arm: str, **settings: Any) -> list[Run]:
    return records.results("ppo_lab", arm, **settings)


def _table(first: str, rows: list[tuple[str, list[Run]]]) -> str:
    body: Rows = []
    for name, runs in rows:
        if runs:
            cells = [
                _cell([scale * run["outcome"][key] for run in runs], digits)
                for _, key, scale, digits in COLUMNS
            ]
            body.append([name, str(len(runs)), *cells])
    return table([first, "seeds", *(name for name, *_ in COLUMNS)], body)


def _cell(values: list[float], digits: int) -> str:
    if len(values) == 2:
        ends = ", ".join(f"{value:.{digits}f}" for value in sorted(values))
        return f"{statistics.mean(values):.{digits}f} [{ends}]"
    return over_seeds(values, digits)
