"""The lab: how near a tuned model comes to the true distribution of ratings, beside a frozen one.

In: how many ratings, five to a text, how the backbone is trained, and for how many passes. Out: W1 to the
exact distribution of a rating and the other errors of the recovery study (`studies.qrm_lab.recovery`), on its
data, its texts and its held-out prompts, so that the numbers stand beside its frozen MiniLM and the crowd's
own traits.
"""

from __future__ import annotations

from typing import Any

import torch

import pluralign as pl
from studies.qrm_lab import recovery, world
from studies.study import Settings
from studies.tuning.real import BACKBONE, TUNING

SIZES = recovery.SIZES
# A model of sentences has to learn a language of 188 words: more passes than people's ratings need.
EPOCHS, MOST_EPOCHS = 5, 15


def grid(seed: int) -> list[Settings]:
    """The runs of a seed, the longest first."""
    runs = [("full", SIZES[-1], MOST_EPOCHS)]
    runs += [(tune, ratings, EPOCHS) for ratings in SIZES for tune in ("lora", "full")]
    return [
        {"ratings": ratings, "tune": tune, "epochs": epochs, "seed": seed} for tune, ratings, epochs in runs
    ]


def run(ratings: int, tune: str, epochs: int, seed: int) -> dict[str, Any]:
    """Fits on so many ratings and compares with the truth."""
    model = pl.fit(
        "quantile",
        ratings=recovery.ratings_of(seed, ratings),
        backbone=pl.backbones.load("minilm", **BACKBONE),
        config={"baselines": False, "seed": seed},
        tune=tune,
        tuning={**TUNING, "epochs": float(epochs)},
        progress=False,
    )
    found: dict[str, Any] = {"tuning": model.fitted["tuning"]}
    for part in ("objects", "tasks"):
        texts = world.rated(recovery.OVERALL)[part].conversations
        with torch.no_grad():
            values = model.head.values(model.backbone.embed(texts, progress=False).response)
        found[part] = recovery.errors(values[:, 0].double(), recovery.QRM_LEVELS, part)
    return found
