"""The table of families: where each one's head, recipe and config are, and how people read its name.

A family is one entry here and the files that the entry names; no other file names it. What callers must know
of a head or of its distributions they ask those (`heads.Head`, `distributions.RewardDistribution`). Parts are
written as `module:name` and imported when they are first asked for, so the table is light and lies below all
that it names. An entry that is added while a program runs may hold the objects themselves:

    FAMILIES["mine"] = Family("mine", "a sentence", ("ratings",), MyHead, my_recipe, MyConfig)

`docs/extending.md` walks through a whole family.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

__all__ = [
    "CONFIGS",
    "DEFAULT",
    "FAMILIES",
    "HEADS",
    "RECIPES",
    "TUNING",
    "Family",
    "families_for",
    "title_of",
]


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        title: its name in prose, as reports print it.
        advice: when to take it; what `pluralign fit --help` says.
        data: the tables from each of which alone it can be fitted: ratings, pairs, votes.
        head: a `heads.Head` whose `family` is the name of this entry.
        recipe: `recipe(inputs, config)`, a `fitting.Inputs` to a `fitting.Fitted`.
        config: a frozen dataclass whose fields all have defaults; its documentation is the help of its flags,
            and its module imports nothing heavy.
        tuning: a `fitting.tuning.problem.TuningRecipe`, for training the backbone with the head; empty where
            the family has none.
    """

    title: str
    advice: str
    data: tuple[str, ...]
    head: str | type[Any]
    recipe: str | Callable[[Any, Any], Any]
    config: str | type[Any]
    tuning: str | Any = ""


FAMILIES: dict[str, Family] = {
    "bradley_terry": Family(
        "Bradley-Terry",
        "pairs; one score, the baseline of the others",
        ("ratings", "pairs", "votes"),
        "pluralign.heads.bradley_terry:BradleyTerryHead",
        "pluralign.fitting.linear.bradley_terry:fit",
        "pluralign.fitting.linear.config:BradleyTerryConfig",
        "pluralign.fitting.linear.tuning:BRADLEY_TERRY",
    ),
    "categorical": Family(
        "categorical",
        "DPRM: ratings in a few categories, by cross-entropy unless some twenty people rated each response; "
        "votes with ties",
        ("ratings", "votes"),
        "pluralign.heads.categorical:CategoricalHead",
        "pluralign.fitting.categorical.recipe:fit",
        "pluralign.fitting.categorical.config:CategoricalConfig",
        "pluralign.fitting.categorical.tuning:CATEGORICAL",
    ),
    "gaussian_ensemble": Family(
        "Gaussian ensemble",
        "BRME: several heads, for the minimum over them; pairs too",
        ("ratings", "pairs", "votes"),
        "pluralign.heads.gaussian_ensemble:GaussianEnsembleHead",
        "pluralign.fitting.ensemble.recipe:fit",
        "pluralign.fitting.ensemble.config:GaussianEnsembleConfig",
        "pluralign.fitting.ensemble.tuning:GAUSSIAN_ENSEMBLE",
    ),
    "quantile": Family(
        "quantile",
        "QRM: ratings, also of several attributes, whose gate learns from pairs",
        ("ratings", "votes"),
        "pluralign.heads.quantile:QuantileHead",
        "pluralign.fitting.linear.quantile:fit",
        "pluralign.fitting.linear.config:QuantileConfig",
        "pluralign.fitting.linear.tuning:QUANTILE",
    ),
    "regression": Family(
        "regression",
        "ArmoRM: one number for each attribute, else as quantile",
        ("ratings", "votes"),
        "pluralign.heads.regression:RegressionHead",
        "pluralign.fitting.linear.regression:fit",
        "pluralign.fitting.linear.config:RegressionConfig",
        "pluralign.fitting.linear.tuning:REGRESSION",
    ),
}

DEFAULT = "quantile"
"""What `pluralign fit` takes where no family is named."""


def families_for(table: str) -> tuple[str, ...]:
    """Names of the families that can be fitted on a table alone: `ratings`, `pairs` or `votes`."""
    return tuple(name for name, family in FAMILIES.items() if table in family.data)


def title_of(name: str) -> str:
    """A family's name in prose; of a name that is not in the table, as old files may have, its words."""
    return FAMILIES[name].title if name in FAMILIES else name.replace("_", " ")


@final
class _Parts(Mapping[str, Any]):
    """One column of the table, by family; a part is imported when it is read."""

    def __init__(self, column: str) -> None:
        self._column = column

    def __getitem__(self, name: str) -> Any:
        part = getattr(FAMILIES[name], self._column)
        if not isinstance(part, str):
            return part
        module, _, attribute = part.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(FAMILIES)

    def __len__(self) -> int:
        return len(FAMILIES)

    def __contains__(self, name: object) -> bool:
        return name in FAMILIES


HEADS: Mapping[str, type[Any]] = _Parts("head")
RECIPES: Mapping[str, Callable[[Any, Any], Any]] = _Parts("recipe")
CONFIGS: Mapping[str, type[Any]] = _Parts("config")
TUNING: Mapping[str, Any] = _Parts("tuning")
