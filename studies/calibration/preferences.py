"""Probabilities of preferences before and after a temperature, on held-out groups of real votes.

In: a set of votes and a family. Out: log loss and Brier score of the votes before and after, with the paired
difference over groups, and the temperatures of the five folds.

`categorical` predicts a, tie and b; `bradley_terry` and `quantile` which side is preferred, a tie as half a
vote. `quantile` is fitted on the votes as ratings of each side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import pluralign as pl
from pluralign.data import conversation
from pluralign.evaluation import difference_interval, mean_interval
from studies.calibration.folds import rotations
from studies.shared_data import shared_data

SETS = {"qa_feedback": "qa_feedback/comparisons.jsonl.gz", "pandalm": "pandalm/comparisons.jsonl.gz"}
CONFIGS: dict[str, dict[str, Any]] = {
    "categorical": {"l2": 0.03, "steps": 60, "baselines": False},
    "bradley_terry": {"l2": 0.03},
    "quantile": {"l1": 0.01, "levels": (0.1, 0.3, 0.5, 0.7, 0.9), "baselines": False},
}
RUNS = [{"data": data, "family": family} for data in SETS for family in CONFIGS]


def run(data: str, family: str, seed: int) -> dict[str, Any]:
    """Five fits, each with a temperature and evaluated on groups of its own."""
    votes = pl.load_comparisons(shared_data() / SETS[data])
    votes = votes.filter(lambda row: row["response_a"] != row["response_b"])
    backbone = pl.backbones.load("minilm")
    groups: list[str] = []
    losses: dict[str, list[Any]] = {
        f"{when}_{loss}": [] for when in ("before", "after") for loss in ("log", "brier")
    }
    temperatures = []
    for fit, calibrate, test in rotations(votes):
        given = {"ratings": pl.data.ratings_from_votes(fit)} if family == "quantile" else {"votes": fit}
        model = pl.fit(family, **given, backbone=backbone, config=CONFIGS[family])
        calibrated = model.calibrate(votes=calibrate)
        assert calibrated.temperature is not None
        temperatures.append(calibrated.temperature.value)
        groups += test["group"]
        for when, one in (("before", model), ("after", calibrated)):
            log, brier = _losses(one, test)
            losses[f"{when}_log"].append(log)
            losses[f"{when}_brier"].append(brier)
    joined = {name: np.concatenate(parts) for name, parts in losses.items()}
    return {
        "rows": len(votes),
        "groups": len(set(groups)),
        "outcomes": 3 if family == "categorical" else 2,
        "temperatures": temperatures,
        **{name: mean_interval(values, groups).to_dict() for name, values in joined.items()},
        "difference": {
            loss: difference_interval(joined[f"after_{loss}"], joined[f"before_{loss}"], groups).to_dict()
            for loss in ("log", "brier")
        },
    }


def _losses(model: pl.RewardModel, test: Any) -> tuple[Any, Any]:
    """Log loss and Brier score of each comparison, averaged over its votes."""
    first, second = (
        [conversation(row["prompt"], row[side]) for row in test] for side in ("response_a", "response_b")
    )
    shares = np.array([[row["votes"].count(v) / len(row["votes"]) for v in (1, 0, -1)] for row in test])
    if model.head.predicts_ties:
        probs = model.vote_probabilities(first, second).double().numpy()
    else:
        chosen = model.preference_probability(first, second).double().numpy()
        probs = np.stack([chosen, 1 - chosen], 1)
        shares = np.stack([shares[:, 0] + shares[:, 1] / 2, shares[:, 2] + shares[:, 1] / 2], 1)
    log = -(shares * np.log(probs.clip(1e-6))).sum(1)
    return log, np.square(probs - shares).sum(1)
