"""`pluralign report`: from finished evaluations, or a run of `align`, to one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralign.cli.console import Console
from pluralign.cli.evaluation_folders import evaluations_of
from pluralign.cli.parsing import UsageError, parse
from pluralign.report.training_runs import is_training_run

__all__ = ["run"]

_PURPOSE = (
    "Turn finished evaluations, or a run of align, into one HTML page with figures, which needs no network."
)


@dataclass(frozen=True)
class ReportFlags:
    """What to show on the page, and where to write it.

    Attributes:
        runs: Folders of finished evaluations; for the folder of a fit, the evaluations of its model next to
            it. Or one run of align, finished or not: its curves, warning signs and samples.
        out: HTML file to write; null for report.html in the folder, or next to several.
        card: Also write the results for a model card, model-index and tables in Markdown, to this
            file.
        open: Open the page in a browser.
        json: Print the page's numbers as JSON.
    """

    runs: list[str]
    out: str | None = None
    card: str | None = None
    open: bool = False
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, reads the result files and writes the page."""
    (flags,) = parse("report", _PURPOSE, arguments, ReportFlags, positional="runs")
    console = Console(flags.json)
    trained = [Path(name) for name in dict.fromkeys(flags.runs) if is_training_run(Path(name))]
    if trained:
        if flags.card is not None:
            raise UsageError(f"--card: {trained[0]} is a run of align, which has no results for a model card")
        content, target = _of_training(trained, flags, console)
    else:
        content, target = _of_evaluations(flags, console)
    if flags.open:
        import webbrowser

        webbrowser.open(target.resolve().as_uri())
    console.result(content | {"page": str(target)}, str(target))


def _of_training(
    folders: Sequence[Path], flags: ReportFlags, console: Console
) -> tuple[dict[str, Any], Path]:
    if len(set(flags.runs)) > 1:
        raise UsageError(f"{folders[0]} is a run of align, which has a page of its own; pass it alone")
    from pluralign.cli.report_run import run_content
    from pluralign.report.run_page import write_run

    console.say(f"report on {folders[0]}")
    content, target = run_content(folders[0]), _target(flags.out, folders)
    write_run(content, target)
    return content, target


def _of_evaluations(flags: ReportFlags, console: Console) -> tuple[dict[str, Any], Path]:
    folders = list(dict.fromkeys(found for name in flags.runs for found in evaluations_of(Path(name))))
    from pluralign.report.content import build_content
    from pluralign.report.evaluations import read_evaluation
    from pluralign.report.page import write_page

    console.say(f"report on {', '.join(map(str, folders))}")
    content = build_content([read_evaluation(folder) for folder in folders])
    target = _target(flags.out, folders)
    write_page(content, target)
    if flags.card is not None:
        from pluralign.report.card import write_card

        write_card(content, Path(flags.card))
        console.say(f"model card: {flags.card}")
    return content, target


def _target(out: str | None, folders: Sequence[Path]) -> Path:
    if out is None:
        return (folders[0] if len(folders) == 1 else folders[0].parent) / "report.html"
    return Path(out)
