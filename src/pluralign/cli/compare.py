"""`pluralign compare`: which of several models or policies is better, on the same rows or prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralign.cli.console import Console, interval
from pluralign.cli.evaluation_folders import evaluations_of
from pluralign.cli.parsing import UsageError, parse
from pluralign.cli.run_folder import RunFolder, default_name, digest
from pluralign.errors import ArgumentError
from pluralign.files import write_json

__all__ = ["run"]

_PURPOSE = (
    "Compare models by their evaluations on the same data, or policies by files of scores: paired, with "
    "intervals over groups, corrected for many comparisons."
)
_MOST_PAIRS = 12  # shown in the terminal


@dataclass(frozen=True)
class CompareFlags:
    """What to compare, by what, and where to write the result.

    Attributes:
        runs: Two or more folders of finished evaluations, or runs of a fit whose evaluation lies next to it;
            or files of scores, such as `pluralign score` writes, of the answers of each policy. NAME=PATH
            gives a name.
        measures: Measures of evaluations, such as [pairs.accuracy,ratings.crps]; null for all that every run
            has.
        level: Level of the intervals; 1 - level is the error rate of all verdicts of a measure together.
        dominance: Whether to test stochastic dominance of each pair; null for scores.
        seed: Seed of the dominance test.
        out: Run folder; null for runs/compare-DIGEST, the same for the same command.
        json: Print the comparison as JSON.
    """

    runs: list[str]
    measures: list[str] | None = None
    level: float = 0.95
    dominance: bool | None = None
    seed: int = 0
    out: str | None = None
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, compares, prints the tables and writes the page."""
    (flags,) = parse("compare", _PURPOSE, arguments, CompareFlags, positional="runs")
    console = Console(flags.json)
    systems = _systems(flags.runs)
    if not 0 < flags.level < 1:
        raise UsageError(f"--level: received {flags.level}; allowed: above 0 and below 1, such as 0.95")
    decisive = {
        "systems": list(systems),
        "measures": flags.measures,
        "level": flags.level,
        "dominance": flags.dominance,
        "seed": flags.seed,
    }
    inputs = {name: _digest(path) for name, path in systems.items()}
    name = default_name(decisive, inputs)
    with RunFolder(flags.out or f"runs/compare-{name}", "compare", decisive, inputs) as folder:
        if folder.finished:
            console.say(f"{folder.path} already holds this run")
            found = folder.stored("comparison")["comparisons"]
        else:
            found = _compare(systems, flags, console)
            _write(folder.path, found)
            made = [
                file
                for file in ("comparison.json", "comparison.md", "comparison.html")
                if (folder.path / file).exists()
            ]
            folder.finish(*made, comparison={"comparisons": found})
        for part in found:
            _print(console, part)
        page = folder.path / "comparison.html"
        shown = page if page.exists() else folder.path / "comparison.md"
        console.result({"comparisons": found, "page": str(shown), "run": str(folder.path)}, str(shown))


def _systems(runs: Sequence[str]) -> dict[str, Path]:
    """Paths by name: as given, else of the folder, longer where two are equal."""
    named = [_named(text) for text in runs]
    paths = [path for _, path in named]
    if len(named) < 2:
        raise UsageError(f"a comparison needs at least two runs; received {len(named)}")
    short = [name or path.resolve().name for name, path in named]
    names = [
        str(path) if short.count(one) > 1 and not name else one
        for one, (name, path) in zip(short, named, strict=True)
    ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{twice} is given twice; every run needs a name of its own, as NAME=PATH")
    return {name: _evaluation(path) for name, path in zip(names, paths, strict=True)}


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if equals and not Path(text).exists() and name and path:
        return name, Path(path)
    return "", Path(text)


def _evaluation(path: Path) -> Path:
    """The evaluation that a folder stands for; a file as it is."""
    if path.is_file():
        return path
    found = evaluations_of(path)
    if len(found) > 1:
        told = ", ".join(map(str, found))
        raise UsageError(f"{path} has {len(found)} evaluations next to it ({told}): pass the one to compare")
    return found[0]


def _digest(path: Path) -> str:
    """What decides the result: of an evaluation, its scores."""
    return digest(str(path / "scores.parquet" if path.is_dir() else path))


def _compare(systems: Mapping[str, Path], flags: CompareFlags, console: Console) -> list[dict[str, Any]]:
    """One comparison per measure; of all measures, those whose rows are the same for every system."""
    from pluralign.evaluation import compare
    from pluralign.evaluation.compared_rows import shared_measures

    measures: Sequence[str | None] = flags.measures or shared_measures(systems) or [None]
    found, refused = [], []
    for measure in measures:
        try:
            found.append(
                compare(
                    systems, measure=measure, level=flags.level, dominance=flags.dominance, seed=flags.seed
                )
            )
        except ArgumentError as error:
            if flags.measures:
                raise
            refused.append(error)
    if not found:
        raise refused[0]
    for reason in refused:
        console.say(f"left out: {reason}")
    return found


def _write(folder: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """JSON, Markdown, and a page where the packages of reports are installed."""
    from pluralign.errors import MissingDependencyError
    from pluralign.report.comparison import write_comparison, write_markdown

    write_json(folder / "comparison.json", list(found))
    write_markdown(found, folder / "comparison.md")
    with suppress(MissingDependencyError):  # the Markdown has the same numbers
        write_comparison(found, folder / "comparison.html")


def _print(console: Console, found: Mapping[str, Any]) -> None:
    from pluralign.report.comparison import measure_words
    from pluralign.report.wording import counted_groups

    rows = [
        (
            row["name"],
            interval(row["mean"], 3),
            row["letters"],
            interval(row["difference"], 3) if row["difference"] else "",
            row["verdict"],
        )
        for row in found["table"]
    ]
    groups = counted_groups(found["groups"], found)
    title = f"{measure_words(found['measure'])}, {found['better']} is better: {groups}"
    console.table(title, ("", "mean", "letters", "from the best", "verdict"), rows)
    if console.as_json:
        return
    console.say(f"{found['verdict']} Correction: {found['correction']}.")
    for pair in found["pairs"][:_MOST_PAIRS]:
        if "dominance" in pair:
            console.say(f"{pair['dominance']['words']}.")
    for text in found["cautions"]:
        console.say(f"caution: {text}")
