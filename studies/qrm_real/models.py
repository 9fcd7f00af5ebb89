"""QRM on real people: raw ratings against their mean and majority, quantiles against a Gaussian residual.

In: a set of ratings and a variant. Out: means and row counts by group, all that a paired interval over
groups needs.

One cross-fit (5 folds of groups) per set and variant, all on the same folds, pairs and spread ratings, so
that any two of them can be compared row by row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import pluralign as pl
from studies.shared_data import shared_data

FOLDS = 5


@dataclass(frozen=True)
class Source:
    """A table of ratings.

    Attributes:
        file: below the folder of shared data.
        subset: the only pool of raters to take, or None.
        share: of the groups, by hash; below 1 where all of them would take many minutes.
        length: whether the backbone adds the length column.
    """

    file: str
    subset: str | None = None
    share: float = 1.0
    length: bool = False

    def ratings(self, seed: int) -> Any:
        """The rows."""
        table = pl.load_ratings(
            shared_data() / self.file, where={"subset": self.subset} if self.subset else None
        )
        return table if self.share == 1 else pl.split(table, test_share=self.share, seed=seed)[1]


SOURCES = {
    "emobank-reader": Source("emobank/ratings.jsonl.gz", subset="reader", share=0.5),
    "summeval-expert": Source("summeval/ratings.jsonl.gz", subset="expert"),
    "summeval-crowd": Source("summeval/ratings.jsonl.gz", subset="crowd"),
    "summeval_op": Source("summeval_op/ratings.jsonl.gz"),
    "wmt_mqm23": Source("wmt_mqm23/ratings.jsonl.gz", share=0.4),
    "wmt_mqm23+length": Source("wmt_mqm23/ratings.jsonl.gz", share=0.4, length=True),
}
# Bradley-Terry and the constant model are the baselines of `raw`; regression on raw ratings is that on means.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "raw": ("quantile", {"raters": "raw"}),
    "mean": ("quantile", {"raters": "mean", "baselines": False}),
    "majority": ("quantile", {"raters": "majority", "baselines": False}),
    "gaussian": ("regression", {"residual": "gaussian", "baselines": False}),
}
_LOSSES = ("pinball", "crps")


def run(data: str, variant: str, seed: int) -> dict[str, Any]:
    """Cross-fits one variant and returns its results, and its means by group."""
    source, (family, config) = SOURCES[data], VARIANTS[variant]
    ratings = source.ratings(seed)
    with tempfile.TemporaryDirectory() as folder:
        results = pl.evaluation.cross_fit(
            family,
            ratings=ratings,
            num_folds=FOLDS,
            backbone=pl.backbones.load("minilm", length=source.length),
            config=config,
            seed=seed,
            out=folder,
        )
        rows = pq.read_table(Path(folder) / "scores.parquet").to_pandas()
    return {
        "source": asdict(source),
        "family": family,
        "config": config,
        "rows": len(ratings),
        "folds": FOLDS,
        "by_group": dict(by_group(rows)),
        "results": _short(results),
    }


def by_group(rows: Any) -> Iterator[tuple[str, Any]]:
    """`ratings:ATTRIBUTE` and `pairs:ATTRIBUTE`: group names, rows per group, and means per group by column.

    `all` takes the attributes together, with losses in shares of their scales.
    """
    ratings = rows[rows["table"] == "ratings"]
    heads = [head for head in ("model", "constant") if f"{head}_pinball" in rows]
    losses = [f"{head}_{loss}" for head in heads for loss in _LOSSES]
    shares = [f"{head}_coverage" for head in heads]
    scaled = ratings.assign(**{name: ratings[name] / ratings["span"] for name in losses})
    yield "ratings:all", _means(scaled, losses + shares)
    for attribute, part in ratings.groupby("attribute", sort=False):
        yield f"ratings:{attribute}", _means(part, losses + shares)
    pairs = rows[rows["table"] == "pairs_from_ratings"]
    outcomes = [name for name in rows.columns if name.endswith("_outcome")]
    wins = pairs.assign(**{name: (pairs[name] > 0).astype(float) for name in outcomes})
    yield "pairs:all", _means(wins, outcomes)
    for attribute, part in wins.groupby("attribute", sort=False):
        yield f"pairs:{attribute}", _means(part, outcomes)


def _means(rows: Any, columns: list[str]) -> dict[str, Any]:
    grouped = rows.groupby("group")
    return {
        "groups": list(grouped.groups),
        "count": grouped.size().tolist(),
        "mean": {name: grouped[name].mean().tolist() for name in columns},
    }


def _short(results: dict[str, Any]) -> dict[str, Any]:
    """What `by_group` does not cover: correlations, crossing, calibration of probabilities."""
    kept = (
        "rows",
        "groups",
        "unit",
        "closed_coverage",
        "crossing",
        "peaked",
        "spearman_mean",
        "spearman_std_error",
    )
    pairs = results["pairs"]["pairs_from_ratings"]
    return {
        "ratings": {name: {k: part[k] for k in kept} for name, part in results["ratings"].items()},
        "pairs": {k: pairs[k] for k in ("rows", "groups", "ties", "brier", "expected_calibration_error")},
    }


def compare(
    first: dict[str, Any], second: dict[str, Any], part: str, ours: str, other: str
) -> dict[str, Any]:
    """The paired difference of two columns, of one record or of two on the same rows, over groups.

    Raises:
        ValueError: the records are not of the same rows.
    """
    a, b = first["by_group"][part], second["by_group"][part]
    if (a["groups"], a["count"]) != (b["groups"], b["count"]):
        raise ValueError(f"{part}: the two runs have different rows")
    interval = pl.evaluation.difference_interval(
        np.array(a["mean"][ours]), np.array(b["mean"][other]), a["groups"], weights=a["count"], method="t"
    )
    return interval.to_dict()
