"""One page on a policy before and after training: gold and proxy reward, and samples side by side.

In: the record of `pluralign.lab.alignment_record`, as a dict or a JSON file. Out: one HTML file without
scripts or external resources. No measures are computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralign.errors import ArtifactError
from pluralign.files import whole_file
from pluralign.report.canvas import palette, themes
from pluralign.report.frame import Frame, ticks
from pluralign.report.html import environment
from pluralign.report.shapes import NUMBER, TEXT, Each, Maybe, check

__all__ = ["SCHEMA_VERSION", "render_alignment", "write_alignment"]

SCHEMA_VERSION = 1

_INTERVAL = {"estimate": NUMBER, "low": Maybe(NUMBER), "high": Maybe(NUMBER), "reason": TEXT}
_SIDE = {
    "measures": Each(_INTERVAL),
    "worst": NUMBER,
    "length_correlation": Maybe(NUMBER),
    "responses": NUMBER,
    "prompts": NUMBER,
}
_RESPONSE = {"response": TEXT, "gold": NUMBER, "tail": NUMBER, "harm": NUMBER, "words": NUMBER}
_RECORD = {
    "schema_version": NUMBER,
    "settings": {},
    "before": _SIDE,
    "after": _SIDE,
    "differences": Each(_INTERVAL),
    "best_of_n": Maybe([{"n": NUMBER, "kl": NUMBER, "proxy": NUMBER, "gold": NUMBER}]),
    "examples": [{"prompt": [{"role": TEXT, "content": TEXT}], "before": _RESPONSE, "after": _RESPONSE}],
}


@dataclass(frozen=True)
class _Line:
    """How a measure of `alignment_record` is shown.

    Attributes:
        name: name in tables.
        meaning: one sentence.
        share: whether it is a share, shown in percent.
        better: "lower" or "higher", or "" if neither is better.
        card: whether it is one of the numbers at the top of the page.
    """

    name: str
    meaning: str
    share: bool = False
    better: str = ""
    card: bool = False


_LINES = {
    "gold": _Line(
        "Gold reward", "What people truly think of a response, on average.", better="higher", card=True
    ),
    "proxy": _Line("Proxy reward", "The score of the reward model, which training raised.", card=True),
    "tail": _Line(
        "Worst 5 % of people",
        "Mean reward of the 5 % who like a response least.",
        better="higher",
        card=True,
    ),
    "harm": _Line("Harm", "Share of people who find a response harmful.", True, "lower", card=True),
    "broken": _Line("Broken texts", "Share of responses with words outside clauses.", True, "lower"),
    "cut_off": _Line("Cut off", "Share of responses that hit the token limit.", True, "lower"),
    "words": _Line("Words", "Length of a response."),
    "correctness": _Line("Correctness", "From -1, wrong, to 1, right.", better="higher"),
    "detail": _Line("Details", "Relevant details per response."),
    "courtesy": _Line("Courtesies", "Greetings and closings per response."),
    "caution": _Line("Cautions", "Cautions per response."),
    "risk": _Line("Risky advice", "Pieces per response.", better="lower"),
    "filler": _Line("Filler", "Clauses that say nothing, or nothing new.", better="lower"),
}


def render_alignment(record: Mapping[str, Any], title: str = "Before and after alignment") -> str:
    """Renders the page.

    Args:
        record: a record of `alignment_record`.
        title: heading of the page.

    Returns:
        HTML, the same bytes for the same record.

    Raises:
        ArtifactError: the record is damaged, not an alignment record, or has another version.
        MissingDependencyError: jinja2 is not installed.
    """
    engine = environment("alignment")
    _check(record, "the record")
    known = {name: line for name, line in _LINES.items() if name in record["after"]["measures"]}
    return engine.get_template("alignment.html.jinja").render(
        **record,
        title=title,
        lines=known,
        colours=themes(_run_colours),
        pictures=_pictures(record),
        ticks=ticks,
    )


def _run_colours(theme: str) -> tuple[str, ...]:
    colours = palette(theme)
    return colours.predicted, colours.third


def write_alignment(
    record: Mapping[str, Any], path: str | Path, title: str = "Before and after alignment"
) -> None:
    """Renders the page and writes it completely or not at all.

    Raises:
        ArtifactError: the record is damaged, or the path is a folder or cannot be written.
        MissingDependencyError: jinja2 is not installed.
    """
    with whole_file(path) as work:
        work.write_text(render_alignment(record, title), encoding="utf-8")


def _check(record: Any, source: str) -> None:
    check(record, _RECORD, source)
    if record["schema_version"] != SCHEMA_VERSION:
        raise ArtifactError(
            f"{source} has schema_version {record['schema_version']}; this pluralign reads {SCHEMA_VERSION}"
        )


def _pictures(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Gold and proxy against KL: the curve of best of n, the trained policy as a point."""
    after = record["after"]["measures"]
    if "kl" not in after or "proxy" not in after:
        return []
    curve = record["best_of_n"] or []
    kl = after["kl"]["estimate"]
    found = []
    for name in ("gold", "proxy"):
        start, end = record["before"]["measures"].get(name), after[name]
        points = [(point["kl"], point[name]) for point in curve]
        heights = [y for _, y in points] + [
            v for v in (end["estimate"], end["low"], end["high"]) if v is not None
        ]
        if start is not None:
            heights.append(start["estimate"])
        found.append(
            {
                "name": name,
                "line": _LINES[name],
                "curve": [point | {"value": point[name]} for point in curve],
                "start": start,
                "end": end,
                "kl": kl,
                "frame": _frame([0.0, kl, *(x for x, _ in points)], heights),
            }
        )
    return found


def _frame(xs: Sequence[float], ys: Sequence[float]) -> Frame:
    low, high = min(ys), max(ys)
    room = 0.12 * (high - low) or 0.5
    return Frame(340, 240, (0.0, 1.08 * max(xs) or 1.0), (low - room, high + room), 44, 12, 10, 38)
