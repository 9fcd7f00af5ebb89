"""`pluralign fit`: from data to a reward model in a run folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pluralign.cli.console import Console
from pluralign.cli.flags import BackboneFlags, DataFlags, flags_of_other_families
from pluralign.cli.held_out import held_out_counts, held_out_words, remember
from pluralign.cli.objects import cache_from, load_backbone, load_tables
from pluralign.cli.parsing import UsageError, choice_from, parse
from pluralign.cli.run_folder import RunFolder, default_name
from pluralign.cli.tuning_flags import TuningFlags, training_settings, tuning_from
from pluralign.families import CONFIGS, DEFAULT, FAMILIES
from pluralign.fitting.config import saved_settings
from pluralign.fitting.tuning.config import TuningConfig

__all__ = ["run"]

_FEW_GROUPS = 20  # held out; below, intervals are wide and rankings of models turn easily


@dataclass(frozen=True)
class FitFlags:
    """What to fit and where to write it.

    Attributes:
        family: One of the families above.
        ensemble: Number of heads, each on its own resample of the groups; how far they differ shows what the
            model does not know, for measures such as worst_case(cvar:0.1). 1 for one head on all groups.
        test_share: Share of the data that is held out for `evaluate`, by groups; 0 fits on everything.
        split_seed: Seed that selects the held-out groups.
        out: Run folder; null for runs/fit-FAMILY-DIGEST, the same for the same command.
        json: Print the result as JSON.
        tune: lora trains an adapter of the backbone together with the head, full all of its weights, by the
            flags that begin with tune_; null leaves the backbone as it is.
    """

    family: str = DEFAULT
    ensemble: int = 1
    test_share: float = 0.2
    split_seed: int = 0
    out: str | None = None
    json: bool = False
    tune: Literal["lora", "full"] | None = None


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, fits and saves."""
    family = choice_from(arguments, "family", CONFIGS, default=DEFAULT)
    flags, data, backbone, config, stated = parse(
        "fit",
        _purpose(),
        arguments,
        FitFlags,
        DataFlags,
        BackboneFlags,
        CONFIGS[family],
        TuningFlags,
        elsewhere=flags_of_other_families(family),
    )
    if not 0 <= flags.test_share < 1:
        raise UsageError(f"--test_share: received {flags.test_share}; allowed: at least 0 and below 1")
    if not data.sources:
        raise UsageError("no data: name a file with --ratings, --pairs or --votes")
    console = Console(flags.json)
    tuning = tuning_from(stated, flags.tune, flags.ensemble)
    decisive = _result_settings(flags, data, backbone, config, tuning)
    inputs = data.digests()
    name = default_name(decisive, inputs)
    out = flags.out or f"runs/fit-{family}-{name}"
    with RunFolder(out, "fit", decisive, inputs) as folder:
        if folder.finished:
            console.say(f"{folder.path} already holds this run; nothing to do")
            stored = folder.stored("fitted")
            for warning in stored.get("warnings", ()):
                console.say(f"the fit warned: {warning}")
            _finish(console, folder, family, data, stored)
            return
        sources = ", ".join(f"{kind} {source}" for kind, source in data.sources.items())
        how = "" if flags.tune is None else f", tuned ({flags.tune})"
        console.say(f"fit {family} on {sources}, backbone {backbone.backbone}{how}, into {folder.path}")
        _fit(console, folder, family, flags, data, backbone, config, tuning)


def _purpose() -> str:
    """The introduction of `--help`: what each family is for, and which tables it takes."""
    which = "; ".join(f"{name} ({', '.join(one.data)}): {one.advice}" for name, one in FAMILIES.items())
    return (
        "Fit a reward model: a head on a frozen backbone, or with --tune both together. The families, with "
        "the data that each can be fitted on: "
        f"{which}. docs/how-to/choosing.md says more, also about losses and risk measures."
    )


def _result_settings(
    flags: FitFlags, data: DataFlags, backbone: BackboneFlags, config: Any, tuning: TuningConfig | None
) -> dict[str, Any]:
    """The settings that determine the result, without output, printing and the embedding cache."""
    ignored = {"out", "json", "cache", "device", "tune", "ensemble"}
    merged = asdict(flags) | asdict(data) | asdict(backbone) | saved_settings(config)
    kept = {key: value for key, value in merged.items() if key not in ignored}
    return kept | training_settings(flags.tune, flags.ensemble, tuning)


def _fit(
    console: Console,
    folder: RunFolder,
    family: str,
    flags: FitFlags,
    data: DataFlags,
    backbone: BackboneFlags,
    config: Any,
    tuning: TuningConfig | None,
) -> None:
    from pluralign import data as tables_of
    from pluralign.fitting import fit

    tables = load_tables(data, console, folder.path)
    split: dict[str, Any] | None = None
    held_out = None
    if flags.test_share:
        split = {"test_share": flags.test_share, "seed": flags.split_seed}
        if shared := str(tables_of.shared_texts(tables)):
            console.say(shared)
        tables, test = tables_of.split_tables(tables, **split)
        held_out = held_out_counts(tables, test)
        console.say(held_out_words(held_out))

    def report(line: str) -> None:
        console.say(line)
        folder.log(message=line)

    given: dict[str, Any] = tables
    model = fit(
        family,
        **given,
        backbone=load_backbone(backbone),
        config=config,
        tune=flags.tune,
        tuning=tuning,
        ensemble=flags.ensemble,
        cache=cache_from(backbone.cache),
        journal=folder.path / "search.jsonl",
        report=report,
    )
    model.fitted |= {
        "data": data.digests(),
        "split": split,
        "held_out": held_out,
        "rows": {kind: len(table) for kind, table in tables.items()},
    }
    remember(folder.path, tables)
    model.save_pretrained(folder.path / "model")
    folder.finish("model", fitted=model.fitted)
    _finish(console, folder, family, data, model.fitted)


def _finish(
    console: Console, folder: RunFolder, family: str, data: DataFlags, fitted: Mapping[str, Any]
) -> None:
    """Prints the path of the model, and the command that evaluates it on the held-out groups."""
    path = folder.path / "model"
    if fitted["split"]:
        command = shlex.join(["pluralign", "evaluate", "--model", str(folder.path), *data.arguments])
        held_out = fitted.get("held_out")  # absent in the folders of earlier versions
        console.say(
            f"{held_out_words(held_out) if held_out else 'some groups were held out'}; to evaluate the model "
            f"on them:\n  {command}"
        )
        if held_out and held_out["groups"] < _FEW_GROUPS:
            folds = str(min(5, held_out["of"]))
            crossed = ["pluralign", "evaluate", "--folds", folds, "--family", family, *data.arguments]
            few = "1 group says" if held_out["groups"] == 1 else f"{held_out['groups']} groups say"
            console.say(
                f"{few} little about a model; to evaluate the family on every row, by "
                f"models that have not seen it (add the settings of this fit):\n  {shlex.join(crossed)}"
            )
    console.result({"model": str(path), "run": str(folder.path), "fitted": fitted}, str(path))
