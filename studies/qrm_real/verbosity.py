"""Verbosity on real people: how far a score follows length, before and after debiasing, and what that costs.

A quantile model is cross-fitted (5 folds of groups) as it is and debiased: against the number of
characters, and on summeval_op also against the rated attribute that follows length most, aspect coverage,
in both couplings. (Against a length `shift` and `parity` are one: the same number comes off every level.)
The penalty is fixed, since only debiasing is to differ: for summeval_op near what the search of `models`
chose, for ukpconvarg at .01 without a search.
Correlations are Spearman's, of the held-out responses of one group; their intervals, and those of accuracy,
are over groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import pluralign as pl
from pluralign.data import conversation, folds, pairs_from_ratings, ratings_from_votes, weighted_pairs
from pluralign.evaluation.metrics import spearman
from pluralign.evaluation.rows import pair_rows
from studies.qrm_real.models import FOLDS
from studies.shared_data import shared_data

MAX_PAIRS = 500  # per group, as in the evaluation
LENGTH: dict[str, Any] = {"debias": "characters"}


@dataclass(frozen=True)
class Set:
    """Where the data is, the penalty, and the ways of debiasing."""

    file: str
    kind: str
    l1: float
    ways: dict[str, dict[str, Any]]


SETS = {
    "summeval_op": Set(
        "summeval_op/ratings.jsonl.gz",
        "ratings",
        0.02,
        {
            "as it is": {},
            "length": LENGTH,
            "aspect coverage, shift": {"debias": "aspect_coverage"},
            "aspect coverage, parity": {"debias": "aspect_coverage", "debias_coupling": "parity"},
        },
    ),
    "ukpconvarg": Set("ukpconvarg/comparisons.jsonl.gz", "votes", 0.01, {"as it is": {}, "length": LENGTH}),
}


def run(data: str, seed: int) -> dict[str, Any]:
    """Cross-fits every way on the same folds; correlations and accuracies, with paired differences."""
    chosen = SETS[data]
    load = pl.load_ratings if chosen.kind == "ratings" else pl.load_comparisons
    table = load(shared_data() / chosen.file)
    backbone = pl.backbones.load("minilm")
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in chosen.ways}
    fitted: dict[str, list[Any]] = {way: [] for way in chosen.ways}
    for train, test in folds(table, FOLDS, seed=seed):
        for way, config in chosen.ways.items():
            settings = {"l1": chosen.l1, "baselines": False} | config
            model = pl.fit("quantile", **{chosen.kind: train}, backbone=backbone, config=settings)
            found[way].append(_evaluated(model, chosen.kind, test))
            fitted[way].append(model.fitted.get("debias"))
    joined = {way: _joined(parts) for way, parts in found.items()}
    return {
        "source": {"file": chosen.file, "l1": chosen.l1},
        "rows": len(table),
        "folds": FOLDS,
        "ways": {way: _summary(joined[way], joined["as it is"]) for way in chosen.ways},
        "debias": fitted,
    }


def _evaluated(model: Any, kind: str, test: Any) -> dict[str, Any]:
    """Held-out rows of one fold: correlation per group, outcome and lengths per pair."""
    if kind == "ratings":
        responses, pairs = test, pairs_from_ratings(test, max_pairs_per_group=MAX_PAIRS)
    else:
        responses, pairs = ratings_from_votes(test), weighted_pairs(test)
        pairs = pairs.select(np.flatnonzero(np.asarray(pairs["weight"]) > 0.5))
    texts = {
        (row["group"], row["response"]): conversation(row["prompt"], row["response"]) for row in responses
    }
    score = model.score(list(texts.values())).numpy()
    length = np.array([len(text) for _, text in texts])
    group = np.array([name for name, _ in texts])
    rows = pair_rows(model, pairs)
    chosen, rejected = (np.array([len(text) for text in pairs[side]]) for side in ("chosen", "rejected"))
    return {
        "group": np.unique(group),
        "spearman": np.array(
            [spearman(score[group == g], length[group == g]) for g in np.unique(group)], float
        ),
        "pair_group": np.array(rows["group"]),
        "right": (rows["model_outcome"] > 0).astype(float),
        "shorter_won": chosen < rejected,
    }


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _summary(ours: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """Values of one way, and their paired differences from the model as it is."""

    def beside(key: str, groups: str, rows: Any = slice(None)) -> dict[str, Any]:
        mean, difference = pl.evaluation.mean_interval, pl.evaluation.difference_interval
        names = ours[groups][rows].tolist()
        return {
            "value": mean(ours[key][rows], names).to_dict(),
            "difference": difference(ours[key][rows], plain[key][rows], names).to_dict(),
        }

    shorter = ours["shorter_won"]
    return {
        "spearman_with_length": beside("spearman", "group"),
        "accuracy": beside("right", "pair_group"),
        "accuracy_where_the_shorter_won": beside("right", "pair_group", shorter),
        "accuracy_where_it_did_not": beside("right", "pair_group", ~shorter),
        "pairs": len(shorter),
        "shorter_won": float(shorter.mean()),
    }
