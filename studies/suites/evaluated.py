"""One model of each family, fitted on votes of four sets, on six.

In: the name of a family. Out: its scores on each set by the set's own rule, for the mean and for entropic
utilities from lambda = .1 to 10, beside length.

The models are fitted on the training part of hh_rlhf_harmless, qa_feedback, pandalm and ukpconvarg, up to
1,500 comparisons of each; pairs count as one vote. They are evaluated on what was held out of these, by
group, and on llmbar and rm_bench, which nobody trains on.
"""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np

import pluralign as pl
from pluralign.evaluation.suites import evaluate_suite
from pluralign.families import FAMILIES as TABLE
from pluralign.families import families_for
from studies.shared_data import shared_data

FAMILIES = tuple(name for name in TABLE if name in families_for("votes"))
LAMBDAS = (0.1, 0.3, 1.0, 3.0, 10.0)
SETS = {
    "hh_rlhf_harmless": ("hh", "pairs"),
    "qa_feedback": ("pairs", "comparisons"),
    "pandalm": ("pairs", "comparisons"),
    "ukpconvarg": ("pairs", "comparisons"),
    "llmbar": ("llmbar", "pairs"),
    "rm_bench": ("rm_bench", "pairs"),
}
TRAINED_ON = tuple(SETS)[:4]
MOST_TRAINED, MOST_EVALUATED = 1500, 2000
# Levels and steps of a fit that takes a minute; the question is what texts tell, not the last digit.
CONFIG: dict[str, dict[str, Any]] = {"quantile": {"levels": [0.1, 0.3, 0.5, 0.7, 0.9]}}


def run(family: str, seed: int) -> dict[str, Any]:
    """Fits one family and evaluates it on all sets."""
    train, test = _tables(seed)
    model = pl.fit(
        family, votes=train, backbone=pl.backbones.load("minilm"), config=CONFIG.get(family), progress=False
    )
    # A family that predicts one number has the same utility for every lambda.
    spread = not model.distribution([[{"role": "assistant", "content": "yes"}]]).is_point
    risk = ["mean", *(f"entropic:{one:g}" for one in LAMBDAS)] if spread else ["mean"]
    found: dict[str, Any] = {}
    for name, rows in test.items():
        results = evaluate_suite(model, rows, SETS[name][0], risk=risk, seed=seed)
        suite = results["suite"]
        found[name] = {
            "rows": suite["rows"],
            "groups": suite["groups"],
            "truncated": suite["truncated"],
            "scores": {
                rule: {"interval": part["interval"]["overall"], "sections": part["sections"]}
                for rule, part in suite["scores"].items()
                if "overall" in part["interval"]
            },
            "difference": suite["difference"],
            "missing": next(iter(suite["scores"].values()))["missing"],
        }
    return {"trained": len(train), "sets": found}


def _tables(seed: int) -> tuple[datasets.Dataset, dict[str, list[dict[str, Any]]]]:
    """Votes to fit on, and pairs to evaluate by set."""
    train: list[dict[str, Any]] = []
    test: dict[str, list[dict[str, Any]]] = {}
    draw = np.random.default_rng(seed)
    for name, (_, kind) in SETS.items():
        file = shared_data() / name / f"{kind}.jsonl.gz"
        table = pl.load_pairs(file) if kind == "pairs" else pl.load_comparisons(file)
        held_out = table
        if name in TRAINED_ON:
            fitted, held_out = pl.split(table, test_share=0.3, seed=seed)
            rows = _some(fitted, MOST_TRAINED, draw)
            train += [_vote(row, bool(draw.random() < 0.5), name) for row in rows]
        shown = list(held_out) if name in ("llmbar", "rm_bench") else _some(held_out, MOST_EVALUATED, draw)
        test[name] = shown if kind == "pairs" else [pair for row in shown if (pair := _majority(row))]
    return pl.load_comparisons(train), test


def _some(table: Any, count: int, draw: Any) -> list[dict[str, Any]]:
    rows = np.sort(draw.permutation(len(table))[:count])
    return list(table.select(rows.tolist()))


def _vote(row: dict[str, Any], swap: bool, name: str) -> dict[str, Any]:
    """A comparison with its votes; the sides of a pair in a random order."""
    base = {"prompt": row["prompt"], "group": f"{name}/{row['group']}", "id": f"{name}/{row['id']}"}
    if "votes" in row:
        sides = {key: row[key] for key in ("response_a", "response_b", "votes")}
        return base | sides
    first, second = (row["rejected"], row["chosen"]) if swap else (row["chosen"], row["rejected"])
    return base | {"response_a": first, "response_b": second, "votes": [-1 if swap else 1]}


def _majority(row: dict[str, Any]) -> dict[str, Any] | None:
    """The side that more raters preferred as chosen; None where votes are tied, or sides are one or empty."""
    total, both = sum(row["votes"]), [row["response_a"].strip(), row["response_b"].strip()]
    if total == 0 or row["response_a"] == row["response_b"] or not all(both):
        return None
    sides = (row["response_a"], row["response_b"]) if total > 0 else (row["response_b"], row["response_a"])
    same = {key: row[key] for key in ("id", "prompt", "group")}
    return same | {"chosen": sides[0], "rejected": sides[1], "subset": ""}
