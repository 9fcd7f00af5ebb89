"""The configuration of each family, and its settings as they are saved. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pluralign.fitting.categorical.config import CategoricalConfig
from pluralign.fitting.ensemble.config import GaussianEnsembleConfig
from pluralign.fitting.linear.config import BradleyTerryConfig, QuantileConfig, RegressionConfig

__all__ = [
    "BradleyTerryConfig",
    "CategoricalConfig",
    "GaussianEnsembleConfig",
    "QuantileConfig",
    "RegressionConfig",
    "saved_settings",
]

# Names of settings in saved files: those that they had when the first files were written.
_SAVED_AS = {"gate_eval_every": "gate_judge_every"}


def saved_settings(config: Any) -> dict[str, Any]:
    """The fields of a configuration under the names that saved files have for them."""
    values = asdict(config)
    kept = {key: value for key, value in values.items() if key not in _SAVED_AS.values()}
    return {_SAVED_AS.get(key, key): value for key, value in kept.items()}
