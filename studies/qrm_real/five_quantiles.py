"""The first experiment with QRM: five quantiles of one attribute beside a point estimate.

Reader's valence in EmoBank, five readers per sentence, cross-fitted: what five quantiles show that one
number does not, in numbers and as docs/images/five_quantiles.svg. The sentences of the picture
are picked by predictions alone: at a low, a middle and a high point estimate, of the sentences of nearly
that estimate the one with the narrowest and the one with the widest prediction.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pluralign as pl
from pluralign.data import conversation, folds
from pluralign.evaluation.metrics import central_coverage, spearman
from pluralign.evaluation.rows import rating_rows
from pluralign.report.figures import distributions_figure
from studies.qrm_real.models import FOLDS, Source
from studies.records import ROOT

ATTRIBUTE = "reader_valence"
SOURCE = Source("emobank/ratings.jsonl.gz", subset="reader", share=0.5)
LEVELS = tuple(k / 6 for k in range(1, 6))
HEADS = ("model", "gaussian", "constant", "point")
PICTURE = ROOT / "docs" / "images" / "five_quantiles"
ANCHORS = (0.1, 0.5, 0.9)  # levels of the point estimates at which sentences are picked
NEAR = 0.05  # points of the scale
READABLE = (30, 90)  # letters


def run(seed: int) -> dict[str, Any]:
    """Fits on four folds, predicts the fifth, in turn; means by group and the sentences of the picture."""
    table = SOURCE.ratings(seed)
    table = table.select(np.flatnonzero(np.array(table["attribute"]) == ATTRIBUTE))
    backbone = pl.backbones.load("minilm")
    parts: list[dict[str, Any]] = []
    sentences: list[dict[str, Any]] = []
    for train, test in folds(table, FOLDS, seed=seed):
        model = pl.fit("quantile", ratings=train, backbone=backbone, config={"levels": LEVELS})
        heads = {"constant": model.baselines["constant"]}
        for residual in ("point", "gaussian"):
            config = {"residual": residual, "baselines": False}
            heads[residual] = pl.fit("regression", ratings=train, backbone=backbone, config=config).head
        fitted = pl.RewardModel(backbone, model.head, baselines=heads, cache=model.cache)
        parts.append(rating_rows(fitted, test, seed=seed))
        sentences += _predictions(fitted, test)
    rows = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return {
        "source": {"attribute": ATTRIBUTE} | asdict(SOURCE),
        "levels": LEVELS,
        "rows": len(table),
        "folds": FOLDS,
        "numbers": _numbers(rows, sentences),
        "sentences": _picked(sentences),
    }


@torch.inference_mode()
def _predictions(model: Any, test: Any) -> list[dict[str, Any]]:
    inputs = model.read([conversation(row["prompt"], row["response"]) for row in test])
    distribution = model.head.attribute_distributions(inputs.response)[ATTRIBUTE]
    point = model.baselines["point"].attribute_distributions(inputs.response)[ATTRIBUTE].mean()
    return [
        {"text": row["response"], "ratings": row["ratings"], "quantiles": quantiles, "point": estimate}
        for row, quantiles, estimate in zip(test, distribution.values.tolist(), point.tolist(), strict=True)
    ]


def _numbers(rows: dict[str, Any], sentences: list[dict[str, Any]]) -> dict[str, Any]:
    """Losses with paired differences, coverage of the central two thirds, and what the width predicts."""
    groups = rows["group"].tolist()
    mean, difference = pl.evaluation.mean_interval, pl.evaluation.difference_interval
    pit = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row, dtype=torch.float64) for row in rows["model_pit"]],
        batch_first=True,
        padding_value=float("nan"),
    )
    width = np.array([s["quantiles"][-1] - s["quantiles"][0] for s in sentences])
    spread = np.array([np.std(s["ratings"], ddof=1) for s in sentences])
    order = np.argsort(width, kind="stable")
    tenth = len(order) // 10
    narrow, wide = order[:tenth], order[-tenth:]
    return {
        "crps": {head: mean(rows[f"{head}_crps"], groups).to_dict() for head in HEADS},
        "crps_difference": {
            head: difference(rows["model_crps"], rows[f"{head}_crps"], groups).to_dict() for head in HEADS[1:]
        },
        "coverage_two_thirds": mean(central_coverage(pit, LEVELS[-1] - LEVELS[0]), groups).to_dict(),
        "crossing": mean(rows["model_crossing"], groups).to_dict(),
        "spearman_width_with_spread_of_ratings": spearman(width, spread),
        "spread_of_ratings": {
            name: mean(spread[part], rows["group"][part].tolist()).to_dict()
            for name, part in (("narrowest_tenth", narrow), ("widest_tenth", wide))
        },
    }


def _picked(sentences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per anchor the sentence with the narrowest and the one with the widest prediction."""
    point = np.array([s["point"] for s in sentences])
    width = np.array([s["quantiles"][-1] - s["quantiles"][0] for s in sentences])
    readable = np.array([READABLE[0] <= len(s["text"]) <= READABLE[1] for s in sentences])
    chosen = []
    for level in ANCHORS:
        near = np.flatnonzero(readable & (np.abs(point - np.quantile(point, level)) < NEAR))
        chosen += [sentences[near[width[near].argmin()]], sentences[near[width[near].argmax()]]]
    return chosen


def draw(record: dict[str, Any]) -> Path:
    """The picture from a record; a page shows the SVG alone."""
    sentences = record["sentences"]
    svg, png = distributions_figure(
        PICTURE,
        record["levels"],
        [s["quantiles"] for s in sentences],
        [s["text"] for s in sentences],
        (1, 5),
        observed=[s["ratings"] for s in sentences],
        points=[s["point"] for s in sentences],
        ranges=True,
        title="Five quantiles beside one number, on sentences not seen before",
        axis="how pleasant readers find it, 1 to 5 (EmoBank)",
    )
    png.unlink()
    return svg
