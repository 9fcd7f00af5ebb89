"""Frozen against LoRA against all weights, on ratings of real people.

In: a set, a family, and how the backbone is trained. Out: means by group on groups that no fit has seen, for
paired intervals, and the losses of the training.

One split by group for each set, the same for every model: 20 % of the groups are evaluated on. A tuned model
holds out a tenth of the others to stop early; the frozen one is fitted on all of them, and has the baselines.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import pluralign as pl
from studies.qrm_real.models import by_group
from studies.shared_data import shared_data
from studies.study import Settings

TUNES = ("none", "full", "lora")
# name -> file below the shared data, rows to take
SETS: dict[str, tuple[str, dict[str, str] | None]] = {
    "emobank": ("emobank/ratings.jsonl.gz", None),
    "ukpconvarg": ("ukpconvarg/comparisons.jsonl.gz", None),
    "summeval-expert": ("summeval/ratings.jsonl.gz", {"subset": "expert"}),
    "wmt_mqm23": ("wmt_mqm23/ratings.jsonl.gz", None),
}
# Config of each family, beside the package's defaults.
FAMILIES: dict[str, dict[str, Any]] = {
    "quantile": {},
    "regression": {"residual": "gaussian"},
    "categorical": {},
    "gaussian_ensemble": {},
    "bradley_terry": {},
}
TEST_SHARE = 0.2
# Attention as plain products, and bfloat16: a third of the time of the defaults on a processor with AMX.
BACKBONE = {"attn_implementation": "eager"}
TUNING = {"bf16": True}


def grid(seed: int) -> list[Settings]:
    """The runs, the most telling first."""
    quantile = [(name, "quantile", tune) for name in SETS for tune in TUNES]
    others = [
        ("emobank", family, tune) for family in FAMILIES if family != "quantile" for tune in ("none", "lora")
    ]
    return [
        {"data": data, "family": family, "tune": tune, "seed": seed}
        for data, family, tune in (*quantile, *others)
    ]


def ratings_of(data: str) -> Any:
    """The table of a set; votes on arguments rate both sides."""
    file, where = SETS[data]
    if data == "ukpconvarg":
        return pl.data.ratings_from_votes(pl.load_comparisons(shared_data() / file))
    return pl.load_ratings(shared_data() / file, where=where)


def run(data: str, family: str, tune: str, seed: int) -> dict[str, Any]:
    """Fits and evaluates one model."""
    frozen = tune == "none"
    config = (
        FAMILIES[family] if frozen or family == "bradley_terry" else {**FAMILIES[family], "baselines": False}
    )
    train, test = pl.split(ratings_of(data), test_share=TEST_SHARE, seed=seed)
    model = pl.fit(
        family,
        ratings=train,
        backbone=pl.backbones.load("minilm", **BACKBONE),
        config=config,
        **({} if frozen else {"tune": tune, "tuning": TUNING}),
        progress=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        results = pl.evaluation.evaluate(model, ratings=test, seed=seed, out=folder, progress=False)
        rows = pq.read_table(Path(folder) / "scores.parquet").to_pandas()
    pairs = results["pairs"].get("pairs_from_ratings")
    return {
        "rows": {"train": len(train), "test": len(test)},
        "groups": {"train": len(set(train["group"])), "test": len(set(test["group"]))},
        "tuning": model.fitted.get("tuning"),
        "by_group": dict(by_group(rows)),
        "pairs": pairs and {key: pairs[key] for key in ("rows", "groups", "ties")},
    }
