"""Coverage of predicted intervals of ratings before and after calibration, on held-out groups.

In: a set and a family. Out: for both models the coverage of 50, 80, 90 and 95 % intervals with its interval
over groups, their width, CRPS, and Spearman's correlation of the predicted spread with the absolute error.

Ratings on a grid are spread over their step, as `pluralign evaluate` does, so a perfect model covers what it
says. Sets with fewer than 20 groups in two of five folds are not here: summeval_op has 25 groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import pluralign as pl
from pluralign.evaluation import difference_interval, mean_interval
from pluralign.evaluation.metrics import spearman
from pluralign.evaluation.rows import rating_rows
from studies.calibration.folds import rotations, thinned
from studies.shared_data import shared_data

LEVELS = (0.5, 0.8, 0.9, 0.95)
# name -> file, rows to take, texts of each group
SETS: dict[str, tuple[str, dict[str, str], int]] = {
    "emobank": ("emobank/ratings.jsonl.gz", {"subset": "reader"}, 30),
    "summeval-expert": ("summeval/ratings.jsonl.gz", {"subset": "expert"}, 1000),
    "summeval-crowd": ("summeval/ratings.jsonl.gz", {"subset": "crowd"}, 1000),
    "wmt_mqm23": ("wmt_mqm23/ratings.jsonl.gz", {"attribute": "mqm"}, 40),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "quantile": {"l1": 0.003, "baselines": False},
    "categorical": {"l2": 0.01, "steps": 60, "baselines": False},
    "gaussian_ensemble": {"l2": 0.1, "std_l2": 0.1, "heads": 2, "steps": 100, "baselines": False},
}
RUNS = [
    {"data": data, "family": family}
    for data in SETS
    for family in CONFIGS
    if (data, family) != ("wmt_mqm23", "categorical")  # penalties are no categories
]


def run(data: str, family: str, seed: int) -> dict[str, Any]:
    """Five fits, each calibrated and evaluated on groups of its own."""
    file, where, most = SETS[data]
    table = thinned(pl.load_ratings(shared_data() / file, where=where), most)
    backbone = pl.backbones.load("minilm")
    parts: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
    calibrated_on = []
    for fit, calibrate, test in rotations(table):
        model = pl.fit(family, ratings=fit, backbone=backbone, config=CONFIGS[family])
        calibrated = model.calibrate(calibrate, seed=seed)
        calibrated_on.append(min(part.groups for part in calibrated.calibration.values()))
        for name, one in (("before", model), ("after", calibrated)):
            parts[name].append(_rows(one, test, seed))
    joined = {
        name: {key: np.concatenate([part[key] for part in of]) for key in of[0]} for name, of in parts.items()
    }
    groups = joined["before"]["group"]
    return {
        "rows": len(table),
        "groups": len(set(table["group"])),
        "calibrated_on": min(calibrated_on),
        **{name: _summary(columns) for name, columns in joined.items()},
        "difference": {
            key: difference_interval(
                joined["after"][key], joined["before"][key], groups, weights=joined["before"]["raters"]
            ).to_dict()
            for key in ("crps", "width_0.9")
        },
    }


def _rows(model: pl.RewardModel, test: Any, seed: int) -> dict[str, Any]:
    """A row per response, attribute and pool: shares of ratings covered, widths in shares of the scale."""
    columns = rating_rows(model, test, seed=seed)
    pits = [np.asarray(pit, np.float64) for pit in columns["model_pit"]]
    texts, place = np.unique(np.asarray(test["response"], object), return_inverse=True)
    first = {text: row for row, text in reversed(list(enumerate(test["response"])))}
    talks = [[*test[int(first[text])]["prompt"], {"role": "assistant", "content": text}] for text in texts]
    predicted = model.attribute_distributions(talks)
    attribute = np.asarray(columns["attribute"], object)
    found = {
        "group": np.asarray(columns["group"], object),
        "raters": np.array([len(pit) for pit in pits], np.float64),
        "crps": columns["model_crps"] / columns["span"],
        "spread": columns["model_std"],
        "error": np.abs(columns["model_mean"] - columns["observed_mean"]),
        "attribute": attribute,
    }
    for level in LEVELS:
        low, high = (1 - level) / 2, (1 + level) / 2
        found[f"covered_{level}"] = np.array([((pit >= low) & (pit <= high)).mean() for pit in pits])
        width = np.empty(len(pits))
        for name, distribution in predicted.items():
            ends = distribution.quantile(torch.tensor([low, high])).double().numpy()
            of_name = attribute == name
            width[of_name] = (ends[:, 1] - ends[:, 0])[place[of_name]]
        found[f"width_{level}"] = width / columns["span"]
    return found


def _summary(columns: dict[str, Any]) -> dict[str, Any]:
    groups, raters = columns["group"], columns["raters"]

    def mean(key: str, bounds: tuple[float, float] | None = None) -> dict[str, Any]:
        return mean_interval(columns[key], groups, weights=raters, bounds=bounds).to_dict()

    ranked = [
        spearman(columns["spread"][own], columns["error"][own])
        for name in dict.fromkeys(columns["attribute"])
        if (own := columns["attribute"] == name).sum() > 1
    ]
    known = [value for value in ranked if value is not None]
    return {
        "covered": {str(level): mean(f"covered_{level}", (0.0, 1.0)) for level in LEVELS},
        "width": {str(level): mean(f"width_{level}")["estimate"] for level in LEVELS},
        "crps": mean("crps"),
        "spearman_std_error": float(np.mean(known)) if known else None,
    }
