"""The configuration of each family, by its name. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from pluralign.fitting.categorical.config import CategoricalConfig
from pluralign.fitting.ensemble.config import GaussianEnsembleConfig
from pluralign.fitting.linear.config import BradleyTerryConfig, QuantileConfig, RegressionConfig

__all__ = [
    "CONFIGS",
    "BradleyTerryConfig",
    "CategoricalConfig",
    "GaussianEnsembleConfig",
    "QuantileConfig",
    "RegressionConfig",
]

CONFIGS: dict[str, Any] = {
    "bradley_terry": BradleyTerryConfig,
    "categorical": CategoricalConfig,
    "gaussian_ensemble": GaussianEnsembleConfig,
    "quantile": QuantileConfig,
    "regression": RegressionConfig,
}
