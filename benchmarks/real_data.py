"""Real ratings and votes, held-out people: the numbers of docs/results.md, section "Real data".

Every set has few groups (21 to 100), so each is cross-fitted over 5 folds of groups and intervals are over
groups. The same from the command line, for one set:

    pluralign evaluate --folds 5 --family quantile --ratings emobank/ratings.jsonl.gz

The data lies beside the project (SHARED_DATA, or ../shared/data); without it the script says so and stops.
One JSON per set; sets that are there already are skipped unless --force is given.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import pluralign as pl
from study_runs import provenance
from tables import write

DATA = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
RESULTS = Path(__file__).parent / "results" / "real_data"

# name -> family, kind of table, file, rows to take
SETS: dict[str, tuple[str, str, str, dict[str, str] | None]] = {
    "emobank": ("quantile", "ratings", "emobank/ratings.jsonl.gz", None),
    "summeval-expert": ("quantile", "ratings", "summeval/ratings.jsonl.gz", {"subset": "expert"}),
    "summeval-crowd": ("quantile", "ratings", "summeval/ratings.jsonl.gz", {"subset": "crowd"}),
    "wmt_mqm23": ("quantile", "ratings", "wmt_mqm23/ratings.jsonl.gz", None),
    "ukpconvarg": ("bradley_terry", "votes", "ukpconvarg/comparisons.jsonl.gz", None),
}
# The same with more columns beside the embedding: the response's length, and its surface.
COLUMNS: dict[str, dict[str, bool]] = {
    " + length": {"length": True},
    " + length, surface": {"length": True, "surface": True},
}
SETS |= {
    name + more: SETS[name] for more in COLUMNS for name in ("summeval-expert", "summeval-crowd", "wmt_mqm23")
}
FOLDS = 5


def run(name: str) -> dict[str, Any]:
    """Cross-fits one set and returns its results with how they came about."""
    family, kind, file, where = SETS[name]
    load = pl.load_ratings if kind == "ratings" else pl.load_comparisons
    table = load(DATA / file, where=where)
    started = time.perf_counter()
    results = pl.evaluation.cross_fit(
        family,
        **{kind: table},
        num_folds=FOLDS,
        backbone=pl.backbones.load("minilm", **next((v for k, v in COLUMNS.items() if name.endswith(k)), {})),
        report=lambda line: print(f"  {line}", file=sys.stderr),
    )
    return {
        "set": name,
        "file": file,
        "where": where,
        "seconds": round(time.perf_counter() - started, 1),
        **provenance(),
        "results": _without_curves(results),
    }


def _without_curves(results: dict[str, Any]) -> dict[str, Any]:
    """What a table shows; binned curves belong to reports."""
    for part in results["pairs"].values():
        part.pop("reliability", None)
        part.pop("subsets", None)
    return results


def main() -> None:
    """Runs the sets that were asked for and are not there yet."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS), metavar="SET")
    parser.add_argument("--force", action="store_true", help="run again what is there already")
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data at {DATA}: set SHARED_DATA to the folder that holds emobank/, summeval/, ...")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        target = RESULTS / f"{name.replace(' + ', '-').replace(', ', '-')}.json"
        if target.exists() and not options.force:
            print(f"{name}: {target} is there already")
            continue
        print(f"{name} ...", flush=True)
        record = run(name)
        write(target, record)
        print(f"{name}: {record['seconds']} s, {target}")


if __name__ == "__main__":
    main()
