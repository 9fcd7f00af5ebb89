"""The lab: how near a tuned model comes to the true distribution of ratings, beside a frozen one.

In: how many ratings, five to a text, and how the backbone is trained. Out: W1 to the exact distribution of a
rating and the other errors of the recovery study (`studies.qrm_lab.recovery`), on its data, its texts and its
held-out prompts, so that the numbers stand beside its frozen MiniLM and the crowd's own traits.
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
LAB_TUNING = {**TUNING, "epochs": 5.0}


def grid(seed: int) -> list[Settings]:
    """The runs of a seed."""
    return [{"ratings": n, "tune": tune, "seed": seed} for n in SIZES for tune in ("lora", "full")]


def run(ratings: int, tune: str, seed: int) -> dict[str, Any]:
    """Fits on so many ratings and compares with the truth."""
    model = pl.fit(
        "quantile",
        ratings=recovery.ratings_of(seed, ratings),
        backbone=pl.backbones.load("minilm", **BACKBONE),
        config={"baselines": False, "seed": seed},
        tune=tune,
        tuning=LAB_TUNING,
        progress=False,
    )
    found: dict[str, Any] = {"tuning": model.fitted["tuning"]}
    for part in ("objects", "tasks"):
        texts = world.rated(recovery.OVERALL)[part].conversations
        with torch.no_grad():
            values = model.head.values(model.backbone.embed(texts, progress=False).response)
        found[part] = recovery.errors(values[:, 0].double(), recovery.QRM_LEVELS, part)
    return found
