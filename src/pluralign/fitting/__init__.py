"""Fitting: data and a backbone in, a `RewardModel` out. One recipe file per family.

A new family is a recipe, a config, a head and an entry in `pluralign.families`; its recipe is built from
`Inputs`, `Fitted`, `rated_table` and `rating_targets` (`docs/extending.md`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pluralign.checks import check_plain_types, is_whole
from pluralign.data.given import check_table
from pluralign.data.leaks import join_groups
from pluralign.errors import ArgumentError, ConfigError, did_you_mean
from pluralign.families import CONFIGS, FAMILIES, HEADS, RECIPES, TUNING
from pluralign.fitting.config import (
    BradleyTerryConfig,
    CategoricalConfig,
    GaussianEnsembleConfig,
    QuantileConfig,
    RegressionConfig,
    saved_settings,
)
from pluralign.fitting.tuning.config import TUNE, TuningConfig

if TYPE_CHECKING:
    import datasets

    from pluralign.backbones import Backbone, EmbeddingCache
    from pluralign.fitting.tables.inputs import Fitted, Inputs
    from pluralign.fitting.tables.targets import rated_table, rating_targets
    from pluralign.model import RewardModel

__all__ = [
    "CONFIGS",
    "BradleyTerryConfig",
    "CategoricalConfig",
    "FamilyConfig",
    "Fitted",
    "GaussianEnsembleConfig",
    "Inputs",
    "QuantileConfig",
    "RegressionConfig",
    "TuningConfig",
    "fit",
    "rated_table",
    "rating_targets",
]

# For authors of recipes; imported on first use, since they need torch.
_NAMES = {
    "Fitted": "tables.inputs",
    "Inputs": "tables.inputs",
    "rated_table": "tables.targets",
    "rating_targets": "tables.targets",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"pluralign.fitting.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'pluralign.fitting' has no attribute {name!r}")


class FamilyConfig(Protocol):
    """The settings of one family: a frozen dataclass whose fields all have defaults."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def fit(
    family: str,
    *,
    ratings: datasets.Dataset | None = None,
    pairs: datasets.Dataset | None = None,
    votes: datasets.Dataset | None = None,
    backbone: str | Backbone = "minilm",
    config: FamilyConfig | Mapping[str, Any] | None = None,
    tune: str | None = None,
    tuning: TuningConfig | Mapping[str, Any] | None = None,
    ensemble: int = 1,
    cache: EmbeddingCache | str | None = "default",
    journal: Path | None = None,
    progress: bool | None = None,
    report: Callable[[str], None] | None = None,
) -> RewardModel:
    """Fits a reward model: a head on a frozen backbone, or backbone and head together.

    Args:
        family: a name in `pluralign.families.FAMILIES`, which says what each is for.
        ratings: rows from `load_ratings`. Bradley-Terry derives pairs from them if no pairs are given.
        pairs: rows from `load_pairs`. Together with ratings of several attributes they train the gate of
            families that have one.
        votes: comparisons from `load_comparisons`; a divided vote is a weighted pair in both orders. Without
            ratings, families of ratings rate each side of a comparison by the votes it received, and a family
            made for comparisons predicts a, tie or b.
        backbone: a name for `pluralign.backbones.load`, or a loaded backbone.
        config: the family's config, or a mapping of its fields.
        tune: None leaves the backbone as it is; `lora` trains an adapter of it and `full` all of its weights,
            together with the head, from the head's fit on the frozen backbone. The given backbone is not
            changed.
        tuning: settings of that training, or a mapping of them.
        ensemble: number of heads, each fitted on its own resample of the groups: how far they differ shows
            what the model does not know, for measures such as `worst_case(cvar:0.1)`. 1 for one head on all
            groups. A family that has several heads by itself takes their number from its config. Not
            together with `tune`.
        cache: an `EmbeddingCache`, None for none, or `default` for the one under `PLURALIGN_CACHE`.
        journal: a JSON Lines file that stores finished steps of the search, so that an interrupted fit does
            not repeat them; one file per set of arguments.
        progress: True or False for progress bars or none; None for bars if stderr is a terminal.
        report: called with one line of text per stage.

    Returns:
        A model with its baselines (the constant model and Bradley-Terry).

    Raises:
        ArgumentError: the family does not exist, or no data was given.
        ConfigError: an unknown field or an invalid value.
        DataError: the data is not suitable for this family.
        RunError: a loss is not finite, or a checkpoint beside the journal is of another tuning.
    """
    if not isinstance(family, str) or family not in FAMILIES:
        raise ArgumentError(
            f"unknown family {family!r}{did_you_mean(family, FAMILIES)}; allowed: {', '.join(FAMILIES)}"
        )
    if ratings is None and pairs is None and votes is None:
        raise ArgumentError("received no data: pass ratings, pairs or votes")
    for name, table in (("ratings", ratings), ("pairs", pairs), ("votes", votes)):
        if table is not None:
            check_table(name, table)
    settings = _made(family, CONFIGS[family], config)
    check_plain_types(settings)
    training = _tuning(family, tune, tuning)
    _check_ensemble(family, ensemble, tune)

    from pluralign import backbones
    from pluralign.fitting.table_warnings import warn_about_tables
    from pluralign.fitting.tables.inputs import Inputs
    from pluralign.fitting.train.journal import Journal
    from pluralign.fitting.warning_record import recorded_warnings
    from pluralign.model import RewardModel

    if not isinstance(backbone, str) and not hasattr(backbone, "embed"):
        raise ArgumentError(
            f"backbone: received {backbone!r}; allowed: a name, a folder or a loaded backbone"
        )
    if cache not in (None, "default") and not isinstance(cache, backbones.EmbeddingCache):
        raise ArgumentError(f"cache: received {cache!r}; allowed: an EmbeddingCache, None or 'default'")
    given_backbone = backbones.load(backbone) if isinstance(backbone, str) else backbone
    store = backbones.EmbeddingCache() if isinstance(cache, str) else cache
    memory = Journal(journal)
    given = {"ratings": ratings, "pairs": pairs, "votes": votes}
    # Groups that share texts are held out together when penalties are chosen.
    joined = join_groups({name: table for name, table in given.items() if table is not None})

    def embedder(of: Backbone) -> Callable[[Any], Any]:
        known = store if of is given_backbone or of.fingerprint is not None else None
        return lambda conversations: of.embed(conversations, cache=known, progress=progress)

    embed = embedder(given_backbone)
    if ensemble > 1:
        from pluralign.fitting.bootstrap import EmbeddedTexts, fit_ensemble

        embed = EmbeddedTexts(embed)
    inputs = Inputs(
        ratings=joined.get("ratings"),
        pairs=joined.get("pairs"),
        votes=joined.get("votes"),
        embed=embed,
        journal=memory,
        report=report or (lambda line: None),
    )
    with recorded_warnings() as warned:
        warn_about_tables(family, inputs)
        if tune is None:
            final, result = given_backbone, RECIPES[family](inputs, settings)
            if ensemble > 1:
                result = fit_ensemble(RECIPES[family], inputs, settings, result, ensemble)
        else:
            from pluralign.fitting.tuning import run

            final, result = run.tune(
                inputs,
                TUNING[family],
                settings,
                backbone=given_backbone,
                kind=tune,
                config=training,
                embedder=embedder,
                progress=progress,
            )
    memory.finish()
    return RewardModel(
        final,
        result.head,
        baselines=result.baselines,
        fitted={"config": saved_settings(settings)}
        | result.summary
        | ({"warnings": warned} if warned else {}),
        cache=store if final is given_backbone or final.fingerprint is not None else None,
    )


def _tuning(family: str, tune: str | None, tuning: Any) -> TuningConfig:
    """The settings of the training of the backbone, checked.

    Raises:
        ArgumentError: there is no such training, or settings are given and nothing is tuned.
        ConfigError: an unknown field or an invalid value.
    """
    if tune is not None and tune not in TUNE:
        raise ArgumentError(f"tune: received {tune!r}{did_you_mean(tune, TUNE)}; allowed: lora, full, None")
    if tune is None and tuning is not None:
        raise ArgumentError("tuning was given, but tune is None: pass tune='lora' or tune='full'")
    if tune is not None and not FAMILIES[family].tuning:
        able = ", ".join(name for name, one in FAMILIES.items() if one.tuning)
        raise ArgumentError(f"tune: the family {family} cannot be tuned with its backbone; allowed: {able}")
    made: TuningConfig = _made("tuning", TuningConfig, tuning)
    check_plain_types(made)
    return made


def _check_ensemble(family: str, ensemble: Any, tune: str | None) -> None:
    if not is_whole(ensemble, 1):
        raise ArgumentError(f"ensemble: received {ensemble!r}; allowed: a whole number of heads, at least 1")
    if ensemble > 1 and HEADS[family].own_ensemble:
        counts = [f.name for f in fields(CONFIGS[family]) if f.name == "heads"]
        instead = f"; set {counts[0]} in its config instead" if counts else ""
        raise ArgumentError(f"ensemble: {family} has several heads by itself{instead}")
    if ensemble > 1 and tune is not None:
        raise ArgumentError(
            "ensemble and tune: received both, and members are heads on one frozen backbone. Tune first, "
            "then fit the ensemble on the tuned backbone (backbone=model.backbone). It was tuned on all "
            "groups, so the differences between the members understate what the model does not know"
        )


def _made(of: str, kind: Any, config: Any) -> Any:
    """A config of a kind, from one, a mapping of its fields, or None for the defaults."""
    if config is None:
        return kind()
    if isinstance(config, kind):
        return config
    if not isinstance(config, Mapping):
        raise ConfigError(f"config is a {type(config).__name__}; {of} takes a {kind.__name__} or a mapping")
    known = {f.name for f in fields(kind)}
    for key in config:
        if key not in known:
            raise ConfigError(
                f"unknown key {key!r}{did_you_mean(key, known)}; {of} has: {', '.join(sorted(known))}"
            )
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})
    except TypeError as error:  # a comparison in the checks got a text or a null
        raise ConfigError(f"a value of {dict(config)} is of the wrong type: {error}") from error
