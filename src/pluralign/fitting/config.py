"""The configuration of each family, by its name. Imports nothing heavy."""

from __future__ import annotations

from pluralign.fitting.categorical.config import CategoricalConfig
from pluralign.fitting.ensemble.config import GaussianEnsembleConfig
from pluralign.fitting.linear.config import BradleyTerryConfig, QuantileConfig, RegressionConfig

__all__ = [
    "BradleyTerryConfig",
    "CategoricalConfig",
    "GaussianEnsembleConfig",
    "QuantileConfig",
    "RegressionConfig",
]
