"""`pluralign evaluate`: a model on held-out data, or a family by cross-fitting, against its baselines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pluralign.cli.console import Console
from pluralign.cli.evaluate_suite import run as run_suite
from pluralign.cli.evaluation_place import beside
from pluralign.cli.evaluation_tables import print_results
from pluralign.cli.flags import BackboneFlags, DataFlags, PlaceFlags, flags_of_other_families
from pluralign.cli.held_out import groups_of, overlap_with_fit, unseen
from pluralign.cli.objects import cache_from, load_backbone, load_model, load_tables
from pluralign.cli.parsing import UsageError, choice_from, early_value, parse
from pluralign.cli.run_folder import RunFolder, default_name, digest
from pluralign.cli.tuning_flags import TuningFlags, training_settings, tuning_from
from pluralign.families import CONFIGS, DEFAULT
from pluralign.files import write_json
from pluralign.fitting.config import saved_settings
from pluralign.report.evaluations import evaluated_on
from pluralign.run_layout import model_folder

__all__ = ["run"]


@dataclass(frozen=True)
class FoldFlags:
    """How every fold is fitted, besides what the family's own flags say.

    Attributes:
        ensemble: Number of heads of the model of each fold, each on its own resample of its groups; 1 for one
            head on all groups.
        tune: lora trains an adapter of the backbone together with the head in every fold, full all of its
            weights, by the flags that begin with tune_; null leaves the backbone as it is.
    """

    ensemble: int = 1
    tune: Literal["lora", "full"] | None = None


@dataclass(frozen=True)
class EvaluateFlags:
    """What to evaluate and where to write the results.

    Attributes:
        model: Model folder, or the run folder of a fit; null with folds.
        folds: Cross-fit with this many folds of groups instead of evaluating a model; for data with few
            groups.
        family: Family to cross-fit.
        part: test evaluates on the groups that were not in the fit, all on every row.
        risk: Risk measure for comparing responses.
        seed: Seed for everything random in the evaluation.
        out: Run folder; null for MODEL-evaluate-DIGEST beside the model, or runs/evaluate-DIGEST for folds;
            the same for the same command.
        json: Print the results as JSON.
    """

    model: str | None = None
    folds: int = 0
    family: str = DEFAULT
    part: Literal["test", "all"] = "test"
    risk: str = "mean"
    seed: int = 0
    out: str | None = None
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, evaluates and prints the tables."""
    named = any(word.partition("=")[0] == "--suite" for word in arguments)
    if named or early_value(arguments, "suite", ""):
        run_suite(arguments)
        return
    family = choice_from(arguments, "family", CONFIGS, default=DEFAULT)
    crossed = early_value(arguments, "folds", "0") != "0"
    # A saved model knows its backbone and its family; only cross-fitting needs flags for them.
    of_folds = (BackboneFlags, CONFIGS[family], FoldFlags, TuningFlags)
    kinds: tuple[type, ...] = of_folds if crossed else (PlaceFlags,)
    purpose = (
        "Evaluate a model on held-out data, against the constant model, Bradley-Terry and length. "
        "With --folds, also every flag of `pluralign fit` that says how to fit. With --suite NAME MODEL, a "
        "published suite by its own rule: see `pluralign evaluate --suite rewardbench --help`."
    )
    elsewhere = flags_of_other_families(family) if crossed else _only_with_folds()
    flags, data, *others = parse(
        "evaluate", purpose, arguments, EvaluateFlags, DataFlags, *kinds, elsewhere=elsewhere
    )
    if not data.sources:
        raise UsageError("no data: name a file with --ratings, --pairs or --votes")
    if (flags.model is None) == (flags.folds == 0):
        raise UsageError("pass either --model, or --folds and --family to cross-fit")
    if flags.folds < 0 or flags.folds == 1:
        raise UsageError(f"--folds: received {flags.folds}; allowed: 2 or more, or 0 for none")
    training: dict[str, Any] = {}
    place, *fitted = others  # the backbone's flags where it is fitted, else only the device
    if crossed:
        config, folds, stated = fitted
        tuning = tuning_from(stated, folds.tune, folds.ensemble)
        training = training_settings(folds.tune, folds.ensemble, tuning)
    console = Console(flags.json)
    decisive = {
        k: v
        for part in (flags, data, place, *fitted[:1])
        for k, v in saved_settings(part).items()
        if k not in {"out", "json", "cache", "device"}
    } | training
    inputs = data.digests() | ({"model": digest(str(model_folder(flags.model)))} if flags.model else {})
    name = default_name(decisive, inputs)
    with RunFolder(flags.out or beside(flags.model, name), "evaluate", decisive, inputs) as folder:
        results_file = folder.path / "results.json"
        if not folder.finished:
            if crossed:
                results = _cross_fit(console, folder, flags, data, place, config, training)
            else:
                results = _evaluate(console, folder, flags, data, place)
            write_json(results_file, results)
            folder.finish("results.json")
        else:
            console.say(f"{folder.path} already holds this run")
        results = json.loads(results_file.read_text(encoding="utf-8"))
        console.say(f"evaluated on: {evaluated_on(results)}")
        for warning in results["fitted"].get("warnings", ()):
            console.say(f"the fit warned: {warning}")
        print_results(console, results)
        console.result(results, str(results_file))


def _only_with_folds() -> dict[str, str]:
    """Flags of fitting, which only cross-fitting has, with the flag that they need."""
    return {field.name: "--folds" for kind in (FoldFlags, TuningFlags) for field in fields(kind)}


def _evaluate(
    console: Console, folder: RunFolder, flags: EvaluateFlags, data: DataFlags, place: PlaceFlags
) -> dict[str, Any]:
    from pluralign import evaluation
    from pluralign.data import split_tables
    from pluralign.model.combination_folder import is_combination

    if is_combination(str(flags.model)):
        raise UsageError(
            f"{flags.model} is a combination, whose rewards are not on a rating scale; evaluate takes one "
            f"model, such as {Path(str(flags.model)) / 'source-0'}. `pluralign score` takes combinations"
        )
    tables = load_tables(data, console, folder.path)
    model = load_model(str(flags.model), place.device, place.cache)
    whole, split = tables, model.fitted.get("split")
    if flags.part == "test":
        apart = unseen(model_folder(str(flags.model)).parent, tables)
        if apart is None and split:  # the model alone, without the run folder of its fit
            _, apart = split_tables(tables, **split)
        if apart is None:
            raise UsageError(
                f"what {flags.model} was fitted on is not recorded, so what was held out is not known; pass "
                "--part all to evaluate on every row"
            )
        if not apart:
            raise UsageError(
                "every group of this data was in the fit, none was held out; fit with --test_share, evaluate "
                "on other data, or pass --part all"
            )
        tables = apart
    scope = f"{_part(tables, whole)}; {_overlap(flags, data, tables, model.fitted)}"
    given: dict[str, Any] = tables
    results = evaluation.evaluate(model, **given, risk=flags.risk, seed=flags.seed, out=folder.path)
    return results | {"part": flags.part, "evaluated_on": scope}


def _part(tables: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """How many of the rows were evaluated."""
    count, total = (sum(map(len, of.values())) for of in (tables, whole))
    if count == total:
        return f"all {total:,} rows" if total > 1 else "one row"
    groups, of = groups_of(tables), groups_of(whole)
    share = 100 * count / total
    return f"{count:,} of {total:,} rows ({share:.0f} %), in {len(groups):,} of {len(of):,} groups"


def _overlap(
    flags: EvaluateFlags, data: DataFlags, tables: Mapping[str, Any], fitted: Mapping[str, Any]
) -> str:
    """How much of the evaluation data was in the fit, with a warning if any was."""
    overlap = overlap_with_fit(model_folder(str(flags.model)).parent, tables)
    if overlap is not None:
        return overlap
    if flags.part == "all" and set(data.digests().values()) & set(fitted.get("data", {}).values()):
        return "WARNING: the model was fitted on this file, so this is not a held-out result"
    return f"{len(groups_of(tables)):,} groups"


def _cross_fit(
    console: Console,
    folder: RunFolder,
    flags: EvaluateFlags,
    data: DataFlags,
    backbone: BackboneFlags,
    config: Any,
    training: Mapping[str, Any],
) -> dict[str, Any]:
    from pluralign import evaluation
    from pluralign.data import shared_texts

    given: dict[str, Any] = load_tables(data, console, folder.path)
    results = evaluation.cross_fit(
        flags.family,
        **given,
        num_folds=flags.folds,
        backbone=load_backbone(backbone),
        config=config,
        **training,
        cache=cache_from(backbone.cache),
        risk=flags.risk,
        seed=flags.seed,
        journal=folder.path,
        out=folder.path,
        report=console.say,
    )
    scope = f"every row, by one of {flags.folds} models that has not seen its group"
    if shared := str(shared_texts(given)):
        scope += f"; {shared}"
    return results | {"part": "all", "evaluated_on": scope}
