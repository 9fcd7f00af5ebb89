"""PPO in the lab's bandit: the part of docs/results.md."""

from __future__ import annotations

from statistics import mean

from studies import findings, records
from studies.brme.world import PROMPTS
from studies.ppo_lab import biases, curves
from studies.ppo_lab.bandit import ANSWERS
from studies.ppo_lab.optima import MEASURES
from studies.tables import Rows, over_seeds, table

NAMES = {"gaussian_ensemble": "5 Gaussian heads", "quantile": "quantile"}
DISTANCES = (0.25, 0.5, 1.0, 2.0)


def section() -> str | None:
    """Tables of what measures choose, and of heads that are wrong on purpose; None where nothing has been run."""
    runs = records.results("ppo_lab", "optimum")
    if not runs:
        return None
    start = runs[0]["start"]
    return (
        "## PPO in a bandit of the lab\n\n"
        f"{PROMPTS} prompts with {ANSWERS} responses each, 8 of them of styles that the rated texts hardly hold and one of them "
        "empty; a policy of two layers chooses one (`python -m studies ppo_lab`). Reward models on MiniLM were fitted on 1,200 "
        "other texts. So one token decides, and what the crowd thinks of a policy, its KL and the optimum of E[u] - beta KL "
        f"are exact. The policy before has gold {start['gold']:.2f}, the worst 5 % of people {start['tail']:.2f}, and chooses "
        f"an unusual response in {100 * start['unusual']:.0f} %; the best responses have {runs[0]['best']:.2f}. "
        f"{_seeds(len(runs))} of texts, raters and reward models.\n\n"
        + findings.section("ppo_lab", "Optimum")
        + "\n\n**Gold of the optimum at a distance**, whatever beta brings it there; a dash where no beta of the study did. The "
        "worst 5 % of people and the share of unusual responses at 1 nat.\n\n" + _optima() + _biases()
    )


def _seeds(count: int) -> str:
    return "One seed" if count == 1 else f"{count} seeds"


def _optima() -> str:
    keys = ["gold", *(f"{family}/{measure}" for family, measures in MEASURES.items() for measure in measures)]
    rows: Rows = [
        [
            _label(key),
            *(_cell(curves.values_at(key, kl)) for kl in DISTANCES),
            _cell(curves.values_at(key, 1.0, "tail")),
            _cell([100 * value for value in curves.values_at(key, 1.0, "unusual")], 0),
        ]
        for key in keys
    ]
    head = [*(f"gold at {kl:g}" for kl in DISTANCES), "worst 5 % at 1", "unusual at 1, %"]
    return table(["model, measure", *head], rows)


def _cell(values: list[float], digits: int = 2) -> str:
    return over_seeds(values, digits) if values else "–"


def _label(key: str) -> str:
    family, _, measure = key.partition("/")
    return f"{NAMES[family]}, `{measure}`" if measure else "the gold reward itself"


def _biases() -> str:
    runs = records.results("ppo_lab", "biases")
    if not runs:
        return ""
    kinds = {
        "over": "{} of 5 heads too high on a random tenth",
        "under": "{} of 5 heads too low on a random tenth",
        "apart": "heads {} times as far apart",
    }
    rows: Rows = []
    for kind, label in kinds.items():
        for step in runs[0][kind]:
            values = [[run[kind][step][measure] for run in runs] for measure in biases.MEASURES]
            name = label.format(step)
            if kind == "apart":
                name += f" (correlation {mean(run['correlation'][step] for run in runs):.2f})"
            cells = [f"{mean(one):.2f}" if None not in one else "–" for one in values]
            rows.append([name, *cells])
    return (
        "\n\n### Heads that are wrong on purpose\n\n"
        + findings.section("ppo_lab", "Biases")
        + f"\n\nGold of the optimum at {biases.DISTANCE:g} nat, mean of {len(runs)} seeds, after {biases.SHIFT:g} standard deviations were "
        "added to (or taken from) what k of five fitted heads say of a random tenth of the responses, or after what they say "
        "beyond their common mean was multiplied.\n\n"
        + table(["", *(f"`{measure}`" for measure in biases.MEASURES)], rows)
    )
