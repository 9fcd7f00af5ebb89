"""Votes for the six categories in the lab: what the cost of transport and the table of rewards change.

In:  features, seed. Out: numbers by loss, cost and table.

The same votes are fitted with each cost and table, and compared with the exact probabilities of the
categories. A table's rewards are mapped to [0, 1], so that errors under different tables have one unit: the
difference between the best and the worst category.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from pluralign.evaluation.metrics import spearman
from pluralign.fitting.categorical import recipe as categorical
from pluralign.heads.categories import CATEGORY_REWARDS
from studies.families_lab import world
from studies.qrm_lab import world as qrm_world

RESPONSES, RATERS = 1000, 20
# name -> the rewards of the six categories in their order
TABLES = {
    "paper": CATEGORY_REWARDS,
    "equal steps": (5.0, 4.0, 3.0, 2.0, 1.0, 0.0),
    "harm counts double": (1.0, 0.5, -1.0, -3.0, -3.5, -5.0),
}
L2_GRID = (0.0003, 0.003, 0.03)
ONLY_WHETHER = 100.0  # a floor beside which differences of rewards, at most 1, hardly count
# cost -> options of a transport fit
COSTS: dict[str, dict[str, Any]] = {
    **{f"rewards, floor {floor:g}": {"floor": floor} for floor in (0.0, 0.1, 0.5)},
    **{f"two axes, floor {floor:g}": {"cost": "two_axis", "floor": floor} for floor in (0.0, 0.1, 0.5)},
    "0 or 1": {"floor": ONLY_WHETHER, "l2_grid": tuple(ONLY_WHETHER * l2 for l2 in L2_GRID)},
}


def grid(seed: int) -> list[dict[str, Any]]:
    """The runs of a seed."""
    return [{"features": f, "seed": seed} for f in ("traits", "minilm")]


def run(features: str, seed: int) -> dict[str, Any]:
    """Every cost under the paper's table, every table with its own cost, beside cross-entropy."""
    jobs: dict[str, tuple[str, dict[str, Any]]] = {
        f"transport, {name}": ("transport", cost) for name, cost in COSTS.items()
    }
    jobs |= {"rps, paper": ("rps", {}), "cross_entropy": ("cross_entropy", {})}
    for name, rewards in list(TABLES.items())[1:]:
        own = {"rewards": {str(i): reward for i, reward in enumerate(rewards)}}
        jobs |= {f"{loss}, {name}": (loss, own) for loss in ("transport", "rps")}
    table = votes(qrm_world.crowd(), seed)
    result = {"constant": errors(average(table))}
    for name, (loss, options) in jobs.items():
        started = time.process_time()
        config = world.categorical(loss, RESPONSES, seed, **{"l2_grid": L2_GRID} | options)
        distribution, fitted = world.fitted_distribution(categorical.fit, config, features, table)
        seconds = time.process_time() - started
        facts = {"l2": fitted.summary["l2"]["category"], "cpu_seconds": round(seconds, 2)}
        result[name] = {**errors(distribution.probs), **facts}
    return result


def votes(crowd: pl.lab.Crowd, seed: int) -> Any:
    """Votes of a crowd, as a table to fit on."""
    conversations = world.rows_of(RESPONSES, seed)
    drawn = world.drawn(crowd.category_truth(conversations), RATERS, seed)
    return world.table(conversations, drawn, "category", [0.0, 5.0])


def average(table: Any) -> Tensor:
    """The share of each category among all votes, for every held-out text, [N, 6]."""
    chosen = torch.tensor(table["ratings"]).long().flatten()
    shares = torch.bincount(chosen, minlength=6).double() / len(chosen)
    return shares.expand(len(world.held_out()), -1)


def errors(probs: Tensor, crowd: pl.lab.Crowd | None = None) -> dict[str, Any]:
    """Probabilities [N, 6] against the truth of a crowd, and what each table makes of them."""
    truth = _truth() if crowd is None else crowd.category_truth(world.held_out())
    result: dict[str, Any] = {
        "total_variation": float((probs - truth).abs().sum(-1).mean()) / 2,
        "harm_error": float((probs - truth)[:, 3:].sum(-1).abs().mean()),
        "harm_said": float(probs[:, 3:].sum(-1).mean()),
        "harm": float(truth[:, 3:].sum(-1).mean()),
    }
    for name, rewards in TABLES.items():
        values = torch.tensor(rewards, dtype=torch.float64)
        atoms = (values - values.min()) / (values.max() - values.min())
        said, true = (pl.Categorical(p, atoms) for p in (probs, truth))
        result[name] = {
            "w1": float(said.wasserstein(true).mean()),
            "mean_error": float((said.mean() - true.mean()).abs().mean()),
            "mean_bias": float((said.mean() - true.mean()).mean()),
            "spearman": spearman(said.mean(), true.mean()) or 0.0,  # the average distribution does not vary
        }
    return result


@functools.cache
def _truth() -> Tensor:
    return qrm_world.crowd().category_truth(world.held_out())
