"""Cross-fits of real ratings and votes: held-out people.

In: the name of a set. Out: the results of the package's own evaluation. Every set has few groups (21 to
100), so each is cross-fitted over 5 folds of groups and intervals are over groups. The same from the
command line, for one set:

    pluralign evaluate --folds 5 --family quantile --ratings emobank/ratings.jsonl.gz
"""

from __future__ import annotations

from typing import Any

import pluralign as pl
from studies.shared_data import shared_data

# name -> family, kind of table, file, rows to take
SETS: dict[str, tuple[str, str, str, dict[str, str] | None]] = {
    "emobank": ("quantile", "ratings", "emobank/ratings.jsonl.gz", None),
    "summeval-expert": ("quantile", "ratings", "summeval/ratings.jsonl.gz", {"subset": "expert"}),
    "summeval-crowd": ("quantile", "ratings", "summeval/ratings.jsonl.gz", {"subset": "crowd"}),
    "wmt_mqm23": ("quantile", "ratings", "wmt_mqm23/ratings.jsonl.gz", None),
    "ukpconvarg": ("bradley_terry", "votes", "ukpconvarg/comparisons.jsonl.gz", None),
}
# The same with more columns beside the embedding: the response's length, and its surface.
COLUMNS: dict[str, dict[str, Any]] = {
    " + length": {"length": True},
    " + length, surface": {"length": True, "surface": True},
}
SETS |= {
    name + more: SETS[name] for more in COLUMNS for name in ("summeval-expert", "summeval-crowd", "wmt_mqm23")
}
FOLDS = 5


def run(data: str, seed: int) -> dict[str, Any]:
    """Cross-fits one set."""
    family, kind, file, where = SETS[data]
    load = pl.load_ratings if kind == "ratings" else pl.load_comparisons
    table = load(shared_data() / file, where=where)
    results = pl.evaluation.cross_fit(
        family,
        **{kind: table},
        num_folds=FOLDS,
        backbone=pl.backbones.load("minilm", **next((v for k, v in COLUMNS.items() if data.endswith(k)), {})),
        seed=seed,
    )
    return {"source": {"file": file, "where": where}, "evaluation": _without_curves(results)}


def _without_curves(results: dict[str, Any]) -> dict[str, Any]:
    """What a table shows; binned curves belong to reports."""
    for part in results["pairs"].values():
        part.pop("reliability", None)
        part.pop("subsets", None)
    return results
