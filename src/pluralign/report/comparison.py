"""A comparison of systems as one HTML page, or as Markdown for a README or an issue.

In: what `pluralign.evaluation.compare` returns, once per measure. Out: HTML that loads nothing and runs
nothing, or Markdown; the same text for the same content. It computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralign.files import whole_file, write_file
from pluralign.report.canvas import palette, themes
from pluralign.report.frame import Frame
from pluralign.report.html import environment
from pluralign.report.wording import counted, counted_groups, ends_of, number, span

__all__ = ["comparison_markdown", "measure_words", "render_comparison", "write_comparison", "write_markdown"]


def comparison_markdown(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """A heading, a table, the verdict and the pairs of each comparison."""
    parts = []
    for found in comparisons:
        head = ("", "mean", "letters", "difference from the best", "verdict")
        rows = [
            (
                _escaped(row["name"]),
                span(row["mean"]),
                row["letters"],
                span(row["difference"]) if row["difference"] else "",
                _escaped(row["verdict"]),
            )
            for row in found["table"]
        ]
        lines = [f"## {measure_words(found['measure'])}", "", _escaped(found["verdict"]), ""]
        lines += [f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows)]
        lines += ["", _basis(found)]
        lines += [f"- {_escaped(text)}" for text in _sentences(found)]
        lines += [f"- Caution: {text}" for text in found["cautions"]]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def render_comparison(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """The page as text.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    names = [row["name"] for row in comparisons[0]["table"]]
    return (
        environment("comparison")
        .get_template("comparison.html.jinja")
        .render(
            comparisons=[
                (found, _frame([row["mean"] for row in found["table"]]), _basis(found), _sentences(found))
                for found in comparisons
            ],
            title=f"Comparison of {counted(len(names), 'system')}",
            measure_words=measure_words,
            number_of={name: i % 6 for i, name in enumerate(sorted(names))},
            colours=themes(lambda theme: (palette(theme).predicted,) * 6),
        )
    )


def write_comparison(comparisons: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Renders the page and writes it completely or not at all.

    Raises:
        ArtifactError: the path is a folder, or cannot be written.
        MissingDependencyError: jinja2 is not installed.
    """
    with whole_file(path) as work:
        work.write_text(render_comparison(comparisons), encoding="utf-8")


def write_markdown(comparisons: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes `comparison_markdown`.

    Raises:
        ArtifactError: the path is a folder, or cannot be written.
    """
    write_file(path, comparison_markdown(comparisons))


def measure_words(measure: str) -> str:
    """A measure in words: `pairs.accuracy` is "accuracy of pairs"."""
    table, dot, name = measure.partition(".")
    words = f"{name} of {table}" if dot else measure
    return words.replace("_", " ")


def _basis(found: Mapping[str, Any]) -> str:
    """What the numbers rest on, in one sentence."""
    rows = sorted(set(found["rows"].values()))
    sizes = " to ".join(f"{n:,}" for n in dict.fromkeys((rows[0], rows[-1])))
    better = "Higher is better" if found["better"] == "higher" else "Lower is better"
    return (
        f"{better}. {sizes} rows in {counted_groups(found['groups'], found)}, paired {found['paired']}; "
        f"intervals of {100 * found['level']:g} % are of single numbers; verdicts are corrected for many "
        f"comparisons ({found['correction']}). Systems that share a letter cannot be told apart."
    )


def _sentences(found: Mapping[str, Any]) -> list[str]:
    """A sentence per pair: its difference, its verdict, and dominance."""
    sentences = []
    for pair in found["pairs"]:
        difference = f"difference {number(pair['difference']['estimate'])} {ends_of(pair['difference'])}"
        more = f"; {pair['dominance']['words']}" if "dominance" in pair else ""
        sentences.append(f"{pair['verdict']}, {difference.strip()}{more}.")
    return sentences


def _frame(means: Sequence[Mapping[str, Any]]) -> Frame:
    ends = [m[key] for m in means for key in ("estimate", "low", "high") if m[key] is not None]
    low, high = min(ends), max(ends)
    room = 0.05 * (high - low) or 0.5
    return Frame(340, 26, (low - room, high + room), left=4, right=4)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
