"""`pluralign evaluate --suite programs`: pass@k of a policy's programs, and why the others did not pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pluralign._version import __version__
from pluralign.cli.console import Console, interval
from pluralign.cli.objects import quiet_datasets
from pluralign.cli.parsing import UsageError, parse
from pluralign.cli.program_flags import ProgramFlags, check_programs, named_tables, program_reward
from pluralign.cli.run_folder import RunFolder, default_name, digest
from pluralign.errors import ArgumentError

__all__ = ["run"]

_SAMPLES, _ROWS, _RESULTS = "samples", "programs.jsonl", "results.json"
_SCHEMA = 1
_IGNORED = {"out", "json", "sandbox", "program_workers"}  # do not change the result


@dataclass(frozen=True)
class ProgramSuiteFlags:
    """Evaluate programs by the tests that they pass: --suite programs --samples RUN --programs TESTS.

    Attributes:
        suite: programs.
        programs: Tables with prompts and tests, such as HumanEval's file; several as [a.jsonl,b.jsonl].
        samples: Run or samples folder of `pluralign sample`, with several completions of each prompt.
        shards: Instead, completions made elsewhere, {prompt, completion}, in any table.
        k: Numbers of programs for pass@k, e.g. --k [1,8]; each at most the completions of a prompt.
        columns: Mapping from our column names to those of --shards, e.g. --columns.completion answer.
        hub_split: Split of a hub data set.
        out: Run folder; null for runs/evaluate-DIGEST, the same for the same command.
        json: Print the results as JSON.
    """

    suite: str
    programs: tuple[str, ...] | str = ()
    samples: str | None = None
    shards: str | None = None
    k: tuple[int, ...] | int = 1
    columns: dict[str, str] | None = None
    hub_split: str | None = None
    out: str | None = None
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, runs the programs, writes the results and prints them."""
    kinds = (ProgramSuiteFlags, ProgramFlags)
    flags, how = parse("evaluate", ProgramSuiteFlags.__doc__ or "", arguments, *kinds)
    _check(flags, how)
    console = Console(flags.json)
    quiet_datasets()
    given = asdict(flags) | asdict(how)
    decisive = {key: value for key, value in given.items() if key not in _IGNORED}
    inputs = {key: digest(table) for key, table in named_tables(flags.programs).items()}
    source = str(flags.shards or _samples_folder(str(flags.samples)))
    inputs["shards" if flags.shards else "samples"] = digest(source)
    with RunFolder(
        flags.out or f"runs/evaluate-{default_name(decisive, inputs)}", "evaluate", decisive, inputs
    ) as folder:
        if folder.finished:
            console.say(f"{folder.path} already holds this run")
        else:
            _evaluate(flags, how, folder.path, source)
            folder.finish(_RESULTS, _ROWS)
        results = json.loads((folder.path / _RESULTS).read_text(encoding="utf-8"))
        _print(console, results)
        console.result(results, str(folder.path / _RESULTS))


def _check(flags: ProgramSuiteFlags, how: ProgramFlags) -> None:
    if not flags.programs:
        raise UsageError("--suite programs needs --programs: tables with prompts and tests")
    if (flags.samples is None) == (flags.shards is None):
        received = "neither" if flags.samples is None else "both"
        raise UsageError(f"one of --samples and --shards is needed; received {received}")
    if flags.columns and flags.shards is None:
        raise UsageError("--columns is for --shards; --program_columns names those of --programs")
    check_programs(flags.programs, how)


def _samples_folder(path: str) -> Path:
    inner = Path(path) / _SAMPLES
    return inner if inner.is_dir() else Path(path)


def _evaluate(flags: ProgramSuiteFlags, how: ProgramFlags, folder: Path, source: str) -> None:
    from pluralign import policy
    from pluralign.evaluation import evaluate_programs
    from pluralign.evaluation.files import write_examples, write_results

    samples = Path(source)
    if flags.shards is not None:
        samples = policy.import_samples(
            flags.shards, folder / _SAMPLES, columns=flags.columns, split=flags.hub_split
        )
    rows = policy.read_samples(samples)[:]
    # The share of tests is reported beside pass@k, whatever the reward of training is.
    reward = program_reward(flags.programs, replace(how, all_or_nothing=False), split=flags.hub_split)
    try:
        reward.check(list(dict(zip(rows["prompt_id"], rows["prompt"], strict=True)).values()))
        found = reward.results({name: rows[name] for name in ("prompt", "completion")})
    finally:
        reward.close()
    ks = (flags.k,) if isinstance(flags.k, int) else flags.k
    ends = [one.reasons for one in found]
    try:
        shares, passed = [one.share for one in found], [one.passed for one in found]
        numbers = evaluate_programs(rows["prompt_id"], shares, passed, ends, ks)
    except ArgumentError as error:
        raise UsageError(f"--{error}") from None
    about = {"name": "programs", "source": " and ".join(named_tables(flags.programs).values())}
    results = {
        "schema": _SCHEMA,
        "pluralign": __version__,
        "family": "programs",
        "backbone": {"name_or_path": source},
        "fitted": {},
        "risk": ", ".join(numbers["risks"]),
        "seed": 0,
        "ratings": {},
        "pairs": {},
        "suite": {**about, **numbers, "limits": reward.limits.describe(), "sandbox": str(reward.sandbox)},
        "evaluated_on": f"{numbers['rows']:,} programs for {numbers['groups']:,} prompts of {source}",
        "part": "all",
    }
    write_examples(folder / _ROWS, _lines(rows, found))
    write_results(folder / _RESULTS, results)


def _lines(rows: dict[str, Any], found: Sequence[Any]) -> list[dict[str, Any]]:
    """A line per program: how each of its tests ended."""
    return [
        {
            "prompt": prompt,
            "completion": completion,
            "share": one.share,
            "tests": [{"reason": test.reason, "detail": test.detail} for test in one.tests],
        }
        for prompt, completion, one in zip(rows["prompt"], rows["completion"], found, strict=True)
    ]


def _print(console: Console, results: dict[str, Any]) -> None:
    from pluralign.report.evaluations import evaluated_on

    suite = results["suite"]
    rows = [(name, interval(one["interval"]["overall"], 3)) for name, one in suite["scores"].items()]
    rows += [
        ("share of tests", interval(suite["share"], 3)),
        ("prompts with a program that passes", f"{suite['solved']:.3f}"),
        ("prompts where all programs pass, or none does", f"{suite['tied']:.3f}"),
    ]
    console.table(evaluated_on(results), ("", "mean over prompts"), rows)
    tests = sum(suite["ends"].values())
    console.table(
        f"how {tests:,} tests ended, in a sandbox of level {suite['sandbox']}",
        ("", "tests", "share"),
        [(reason, f"{count:,}", f"{count / tests:.3f}") for reason, count in suite["ends"].items()],
    )
