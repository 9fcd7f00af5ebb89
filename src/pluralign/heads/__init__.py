"""Heads: embeddings in, a `RewardDistribution` out. One file per family.

A new family is one file here, a recipe and an entry in `pluralign.families`. `published` loads the weights of
other projects into these heads.
"""

from __future__ import annotations

from collections.abc import Mapping

from pluralign.families import HEADS
from pluralign.heads.base import Attribute, Head, HeadInputs, Reference
from pluralign.heads.bradley_terry import BradleyTerryHead
from pluralign.heads.categorical import CategoricalHead
from pluralign.heads.categories import CATEGORIES, CATEGORY_REWARDS, Categories
from pluralign.heads.debias import Debias
from pluralign.heads.ensemble import EnsembleHead
from pluralign.heads.gate import Gate, GateShape
from pluralign.heads.gaussian_ensemble import GaussianEnsembleHead
from pluralign.heads.linearity import LinearForm, Linearity, linear_form
from pluralign.heads.mixed import MixedHead
from pluralign.heads.population import PopulationUpdater, vote_likelihoods
from pluralign.heads.quantile import QuantileHead
from pluralign.heads.regression import RegressionHead
from pluralign.heads.scaling import ColumnScaling
from pluralign.heads.steering import Steering
from pluralign.heads.updater import PreferenceUpdater

__all__ = [
    "CATEGORIES",
    "CATEGORY_REWARDS",
    "FAMILIES",
    "Attribute",
    "BradleyTerryHead",
    "CategoricalHead",
    "Categories",
    "ColumnScaling",
    "Debias",
    "EnsembleHead",
    "Gate",
    "GateShape",
    "GaussianEnsembleHead",
    "Head",
    "HeadInputs",
    "LinearForm",
    "Linearity",
    "MixedHead",
    "PopulationUpdater",
    "PreferenceUpdater",
    "QuantileHead",
    "Reference",
    "RegressionHead",
    "Steering",
    "linear_form",
    "vote_likelihoods",
]

FAMILIES: Mapping[str, type[Head]] = HEADS
"""Head classes by family: a column of the table in `pluralign.families`."""
