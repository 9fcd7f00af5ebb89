"""QRM on real people: raw ratings against their mean and majority, quantiles against a Gaussian residual.

    python benchmarks/qrm_real.py [--runs summeval_op-raw ...]

One cross-fit (5 folds of groups) per set and variant, all on the same folds, pairs and spread ratings, so
that any two of them can be compared row by row. One JSON per run; a run that is there already is skipped
unless --force is given. It keeps means and row counts by group: all that a paired interval over groups
needs.

The data lies beside the project (SHARED_DATA, or ../shared/data); without it the script says so and stops.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import pluralign as pl
import study_runs
from tables import write

DATA = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
RESULTS = Path(__file__).parent / "results" / "qrm_real"
FOLDS = 5
SEED = 0


@dataclass(frozen=True)
class Source:
    """A table of ratings.

    Attributes:
        file: below DATA.
        subset: the only pool of raters to take, or None.
        share: of the groups, by hash under SEED; below 1 where all of them would take many minutes.
        length: whether the backbone adds the length column.
    """

    file: str
    subset: str | None = None
    share: float = 1.0
    length: bool = False

    def ratings(self) -> Any:
        """The rows."""
        table = pl.load_ratings(DATA / self.file, where={"subset": self.subset} if self.subset else None)
        return table if self.share == 1 else pl.split(table, test_share=self.share, seed=SEED)[1]


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


def run(source: Source, family: str, config: dict[str, Any]) -> dict[str, Any]:
    """Cross-fits one variant and returns its results, and its means by group."""
    ratings = source.ratings()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        results = pl.evaluation.cross_fit(
            family,
            ratings=ratings,
            num_folds=FOLDS,
            backbone=pl.backbones.load("minilm", length=source.length),
            config=config,
            seed=SEED,
            out=folder,
            report=lambda line: print(f"  {line}", file=sys.stderr),
        )
        rows = pq.read_table(Path(folder) / "scores.parquet").to_pandas()
    return {
        "source": asdict(source),
        "family": family,
        "config": config,
        "seconds": round(time.perf_counter() - started, 1),
        **provenance(len(ratings)),
        "by_group": dict(_by_group(rows)),
        "results": _short(results),
    }


def _by_group(rows: Any) -> Iterator[tuple[str, Any]]:
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
        "mean": {name: [float(f"{x:.7g}") for x in grouped[name].mean()] for name in columns},
    }


def _short(results: dict[str, Any]) -> dict[str, Any]:
    """What `by_group` does not tell: correlations, crossing, calibration of probabilities."""
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
        raise ValueError(f"{part}: the two runs judged different rows")
    interval = pl.evaluation.difference_interval(
        np.array(a["mean"][ours]), np.array(b["mean"][other]), a["groups"], weights=a["count"], method="t"
    )
    return interval.to_dict()


def provenance(rows: int) -> dict[str, Any]:
    """What every record says of how it came about."""
    return {
        "rows": rows,
        "folds": FOLDS,
        "seed": SEED,
        **study_runs.provenance(),
    }


def save(target: Path, record: dict[str, Any]) -> None:
    """The record as one JSON file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target, record, indent=None)


def main() -> None:
    """Makes the runs that were asked for and are not there yet."""
    names = [f"{source}-{variant}" for source in SOURCES for variant in VARIANTS]
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--runs", nargs="*", default=names, choices=names, metavar="RUN")
    parser.add_argument("--force", action="store_true", help="run again what is there already")
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data at {DATA}: set SHARED_DATA to the folder that holds emobank/, summeval/, ...")
    for name in options.runs:
        target = RESULTS / f"{name}.json"
        if target.exists() and not options.force:
            print(f"{name}: {target} is there already")
            continue
        print(f"{name} ...", flush=True)
        source, variant = name.rsplit("-", 1)
        record = {"set": source, "variant": variant} | run(SOURCES[source], *VARIANTS[variant])
        save(target, record)
        print(f"{name}: {record['seconds']} s, {target}")


if __name__ == "__main__":
    main()
