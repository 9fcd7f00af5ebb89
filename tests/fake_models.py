"""A small model of every family, fitted in a moment on `FakeBackbone`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows

CONFIGS: dict[str, dict[str, Any]] = {
    "bradley_terry": {"l2": 0.01},
    "categorical": {"l2": 0.003, "steps": 20},
    "gaussian_ensemble": {"l2": 0.1, "std_l2": 0.1, "heads": 3, "steps": 20},
    "quantile": {"l1": 0.003, "levels": [0.05, 0.5, 0.95]},
    "regression": {"l2": 0.1, "residual": "gaussian"},
}


def mixed_model(levels: Sequence[float]) -> pl.RewardModel:
    """Quantiles of two attributes with a gate between them.

    Args:
        levels: of the quantiles.
    """
    return pl.fit(
        "quantile",
        ratings=pl.load_ratings(ratings_rows(attributes=2)),
        pairs=pl.load_pairs(pairs_rows()),
        backbone=FakeBackbone(),
        config={"l1": 0.003, "levels": list(levels), "gate_steps": 20, "baselines": False},
        cache=None,
        progress=False,
    )


def fake_model(family: str, **config: Any) -> pl.RewardModel:
    """A model of two attributes, or of pairs for Bradley-Terry.

    Args:
        family: its name.
        config: options instead of those of `CONFIGS`.
    """
    data: dict[str, Any] = {"ratings": pl.load_ratings(ratings_rows(attributes=2))}
    if family == "bradley_terry":
        data = {"pairs": pl.load_pairs(pairs_rows())}
    return pl.fit(family, **data, backbone=FakeBackbone(), config=CONFIGS[family] | config, cache=None)
