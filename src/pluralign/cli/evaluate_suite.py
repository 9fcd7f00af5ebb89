"""`pluralign evaluate --suite NAME`: a model on a published suite, by the suite's own rule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pluralign.cli.console import Console
from pluralign.cli.evaluate_programs import run as run_programs
from pluralign.cli.evaluation_place import beside
from pluralign.cli.objects import quiet_datasets
from pluralign.cli.parsing import UsageError, choice_from, parse
from pluralign.cli.run_folder import RunFolder, default_name, digest
from pluralign.cli.scorers import load_scorer
from pluralign.cli.suite_tables import print_suite
from pluralign.files import write_json
from pluralign.run_layout import model_folder

__all__ = ["SUITE_NAMES", "run"]

# Those of `evaluation.suites`, which is not imported for `--help`.
SUITE_NAMES = (
    *("rewardbench", "rewardbench2", "rm_bench", "judgebench"),
    *("hh", "llmbar", "pairs", "best_of_n"),
)
_PROGRAMS = "programs"  # a suite of a policy, with flags of its own

_PURPOSE = (
    "Evaluate a model on a suite, by the suite's own rule, beside its baselines and length: "
    "pluralign evaluate --suite rewardbench MODEL --data FILE."
)
_SWITCHES = ("--legacy", "--json", "-h", "--help")


@dataclass(frozen=True)
class SuiteFlags:
    """Which suite, which model and which data.

    Attributes:
        suite: rewardbench, rewardbench2, rm_bench, judgebench, hh, llmbar, pairs or best_of_n; or programs,
            of a policy, with other flags: pluralign evaluate --suite programs --help.
        model: Model folder, the run folder of a fit, or the folder of a combination; may be given without
            the flag.
        data: File, folder or hub id with the rows of the suite; null for the hub set of its authors.
        scores: File of existing scores, instead of data: a scores.parquet of such a run, or a file of scores
            of RewardBench's scripts.
        risk: Risk measures, each evaluated on its own, e.g. --risk mean,cvar:0.1; the first is the main one.
        legacy: RewardBench with the weights that it had before September 2024, when two counts were swapped.
        where: Only rows with these values, e.g. --where.subset chat.
        columns: Mapping from the suite's column names to the file's, e.g. --columns.prompt question.
        hub_split: Split of a hub data set; it also names the subset of rows that name none.
        on_bad_row: error stops and lists every problem; quarantine moves bad rows to a file in the run
            folder.
        seed: Seed of the order in which pairs are shown.
        out: Run folder; null for MODEL-evaluate-DIGEST beside the model, or runs/evaluate-DIGEST.
        device: cpu, cuda, ...; null for a GPU if there is one.
        cache: Embedding cache; null for the default one, none for no cache.
        json: Print the results as JSON.
    """

    suite: str
    model: str | None = None
    data: str | None = None
    scores: str | None = None
    risk: tuple[str, ...] = ("mean",)
    legacy: bool = False
    where: dict[str, str] | None = None
    columns: dict[str, str] | None = None
    hub_split: str | None = None
    on_bad_row: Literal["error", "quarantine"] = "error"
    seed: int = 0
    out: str | None = None
    device: str | None = None
    cache: str | None = None
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, evaluates and prints the tables."""
    from pluralign.report.evaluations import evaluated_on

    name = choice_from(arguments, "suite", (*SUITE_NAMES, _PROGRAMS), default="")
    if name == _PROGRAMS:
        run_programs(arguments)
        return
    (flags,) = parse("evaluate", _PURPOSE, _spelled_out(arguments), SuiteFlags)
    source, split = flags.data, flags.hub_split
    if flags.scores is None:
        if flags.model is None:
            raise UsageError("no model: name a model folder, or --scores with a file of scores")
        if source is None:
            from pluralign.evaluation.suites import SUITES

            source, split = SUITES[name].hub or None, split or SUITES[name].split
        if source is None:
            raise UsageError(f"no data: the suite {name} is for your own, so name a file with --data")
    elif given := [
        key for key in ("data", "where", "columns", "hub_split") if getattr(flags, key) is not None
    ]:
        raise UsageError(f"--{given[0]} is for data that a model scores; drop it or --scores")
    console = Console(flags.json)
    settings = asdict(flags) | {"data": source, "hub_split": split, "risk": list(flags.risk)}
    decisive = {k: v for k, v in settings.items() if k not in {"out", "json", "cache", "device"}}
    sources = {"data": source, "scores": flags.scores}
    inputs = {kind: digest(path) for kind, path in sources.items() if path is not None}
    if flags.model is not None:
        inputs["model"] = digest(str(model_folder(flags.model)))
    out = flags.out or beside(flags.model, default_name(decisive, inputs))
    with RunFolder(out, "evaluate", decisive, inputs) as folder:
        if folder.finished:
            console.say(f"{folder.path} already holds this run")
        else:
            _evaluate(console, folder, flags, source, split, inputs)
            made = [file for file in ("scores.parquet", "results.json") if (folder.path / file).is_file()]
            folder.finish(*made)
        results_file = folder.path / "results.json"
        results = json.loads(results_file.read_text(encoding="utf-8"))
        console.say(f"evaluated on: {evaluated_on(results)}")
        print_suite(console, results)
        console.result(results, str(results_file))


def _evaluate(
    console: Console,
    folder: RunFolder,
    flags: SuiteFlags,
    source: str | None,
    split: str | None,
    inputs: dict[str, str],
) -> None:
    from pluralign.evaluation.suites import evaluate_suite, rescore_suite

    quiet_datasets()
    own: dict[str, Any] = {
        "legacy": flags.legacy,
        "seed": flags.seed,
        "out": folder.path,
        "model_digest": inputs.get("model"),
    }
    if flags.scores is not None:
        if flags.risk != ("mean",):
            raise UsageError("--risk is for a model; a file of scores has its measures already")
        results = rescore_suite(flags.scores, flags.suite, **own)
        scope = f"the scores in {flags.scores}"
    else:
        scorer = load_scorer(str(flags.model), device=flags.device, cache=flags.cache)
        console.say(f"{flags.suite} {source}")
        results = evaluate_suite(
            scorer,
            source,
            flags.suite,
            risk=flags.risk,
            split=split,
            columns=flags.columns,
            where=flags.where,
            on_bad_row=flags.on_bad_row,
            report=console.say,
            **own,
        )
        fitted = set(results["fitted"].get("data", {}).values())
        scope = _scope(folder.path, Path(str(flags.model)), inputs["data"] in fitted, results)
    write_json(folder.path / "results.json", results | {"evaluated_on": scope, "part": "all"})


def _scope(run: Path, model: Path, same_file: bool, results: dict[str, Any]) -> str:
    """How many rows there were, and whether the model knew them."""
    from pluralign.cli.held_out import num_fitted_groups

    suite = results["suite"]
    scope = f"all {suite['rows']:,} rows of {suite['source']}, in {suite['groups']:,} groups"
    if same_file:
        return f"{scope}; WARNING: the model was fitted on this file, so this is not a held-out result"
    import pyarrow.parquet as pq

    groups = pq.read_table(run / "scores.parquet", columns=["group"])["group"].unique().to_pylist()
    shared = num_fitted_groups(model_folder(model).parent, groups)
    if shared:
        scope += f"; WARNING: {shared:,} of these groups were in the fit, so this is not a held-out result"
    return scope


def _spelled_out(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--model` before a model that stands alone, and measures as one list."""
    spelled: list[str] = []
    measures: list[str] = []
    named = False
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            if named:
                raise UsageError(f"received a second model, {word}; allowed: one")
            spelled += ["--model", word]
            named = True
            continue
        flag, _, value = word.partition("=")
        if flag in _SWITCHES:
            spelled.append(word)
            continue
        value = value or next(words, "")
        named |= flag == "--model"
        if flag == "--risk":
            measures += [one.strip() for one in value.strip("[]").split(",") if one.strip()]
        elif value:
            spelled += [flag, value]
        else:
            spelled.append(word)
    return spelled + (["--risk", f"[{','.join(measures)}]"] if measures else [])
