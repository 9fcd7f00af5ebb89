"""Verbosity on real people: how far a score follows length, before and after debiasing, and what that costs.

    python benchmarks/qrm_verbosity.py [--sets summeval_op ukpconvarg]

A quantile model is cross-fitted (5 folds of groups) as it is and debiased: against the number of
characters, and on summeval_op also against the rated attribute that follows length most, aspect coverage,
in both couplings. (Against a length `shift` and `parity` are one: the same number comes off every level.)
The penalty is fixed, since only debiasing is to differ: for summeval_op near what the search of qrm_real.py
chose, for ukpconvarg at .01 without a search.
Correlations are Spearman's, of the held-out responses of one group; their intervals, and those of accuracy,
are over groups. One JSON per set; what is there already is skipped.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import pluralign as pl
from pluralign.data import conversation, folds, pairs_from_ratings, ratings_from_votes, weighted_pairs
from pluralign.evaluation.metrics import spearman
from pluralign.evaluation.rows import pair_rows
from qrm_real import DATA, FOLDS, RESULTS, SEED, provenance, save

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


def run(chosen: Set) -> dict[str, Any]:
    """Cross-fits every way on the same folds; correlations and accuracies, with paired differences."""
    load = pl.load_ratings if chosen.kind == "ratings" else pl.load_comparisons
    table = load(DATA / chosen.file)
    backbone = pl.backbones.load("minilm")
    started = time.perf_counter()
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in chosen.ways}
    fitted: dict[str, list[Any]] = {way: [] for way in chosen.ways}
    for number, (train, test) in enumerate(folds(table, FOLDS, seed=SEED), 1):
        for way, config in chosen.ways.items():
            print(f"  fold {number} of {FOLDS}, {way}", file=sys.stderr)
            settings = {"l1": chosen.l1, "baselines": False} | config
            model = pl.fit("quantile", **{chosen.kind: train}, backbone=backbone, config=settings)
            found[way].append(_judged(model, chosen.kind, test))
            fitted[way].append(model.fitted.get("debias"))
    joined = {way: _joined(parts) for way, parts in found.items()}
    return {
        "source": {"file": chosen.file, "l1": chosen.l1},
        "seconds": round(time.perf_counter() - started, 1),
        **provenance(len(table)),
        "ways": {way: _summary(joined[way], joined["as it is"]) for way in chosen.ways},
        "debias": fitted,
    }


def _judged(model: Any, kind: str, test: Any) -> dict[str, Any]:
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
    judged = pair_rows(model, pairs)
    chosen, rejected = (np.array([len(text) for text in pairs[side]]) for side in ("chosen", "rejected"))
    return {
        "group": np.unique(group),
        "spearman": np.array(
            [spearman(score[group == g], length[group == g]) for g in np.unique(group)], float
        ),
        "pair_group": np.array(judged["group"]),
        "right": (judged["model_outcome"] > 0).astype(float),
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


def main() -> None:
    """Runs the sets that were asked for and are not there yet."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS), metavar="SET")
    parser.add_argument("--force", action="store_true", help="run again what is there already")
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data at {DATA}: set SHARED_DATA to the folder that holds summeval_op/ and others")
    for name in options.sets:
        target = RESULTS / f"verbosity-{name}.json"
        if target.exists() and not options.force:
            print(f"{name}: {target} is there already")
            continue
        print(f"{name} ...", flush=True)
        save(target, {"set": name, "study": "verbosity"} | run(SETS[name]))
        print(f"{name}: {target}")


if __name__ == "__main__":
    main()
