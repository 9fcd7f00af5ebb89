"""One self-contained HTML page from a report's content.

In: the result of `content`. Out: HTML, the same bytes for the same content. The page has no external
resources: pictures are inline SVG, and a content security policy enforces this in the browser. A page with
many texts has one script, which searches them; the policy allows it by its digest, and no other. Every text
from the data is escaped by the template engine.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralign.families import title_of
from pluralign.files import whole_file
from pluralign.report import pictures, wording
from pluralign.report.canvas import palette, themes
from pluralign.report.frame import Frame, ticks
from pluralign.report.heads import HEAD_MEASURES
from pluralign.report.html import environment

__all__ = ["render_page", "write_page"]

# In addition to the colours of `canvas`, from the same palette of Okabe and Ito: one per run, light and dark.
_MORE_RUNS = {
    "light": ("#a5548a", "#8f6a00", "#2f7fb8", "#1f2328"),
    "dark": ("#dd8fbe", "#e8d44d", "#7cc4ee", "#f0f3f6"),
}
_SECTIONS = (
    ("short", "In short"),
    ("run", "What was run"),
    ("suites", "Suites"),
    ("accuracy", "Accuracy"),
    ("calibration", "Calibration"),
    ("crowd", "Raters"),
    ("truth", "Truth"),
    ("responses", "Texts"),
    ("rivals", "One prompt"),
    ("mistakes", "Wrongly sure"),
    ("attributes", "Attributes and gate"),
    ("signs", "Warning signs"),
)


def render_page(content: Mapping[str, Any]) -> str:
    """The page as text.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    engine = environment("page")
    engine.globals |= {
        "Frame": Frame,
        "ticks": ticks,
        "response_picture": pictures.response_picture,
        "steps": pictures.steps,
        "lowest_coverage": pictures.lowest_coverage,
        "measures": wording.MEASURES,
        "zip": zip,
        "accuracy_ends": pictures.accuracy_ends,
        "by_kind": _by_kind,
        "by_attribute": _by_attribute,
        "pair_counts": _pair_counts,
        "middle": pictures.quantile,
        "coverage_verdict": wording.coverage_verdict,
        "enough": wording.enough,
        "fewest": wording.FEWEST,
        "dots": pictures.dots,
        "ridges": pictures.ridges,
        "board_ends": pictures.board_ends,
        "head_measures": HEAD_MEASURES,
        "warns_verdict": wording.warns_verdict,
    }
    engine.filters |= {
        "within": wording.within_words,
        "from_to": wording.from_to,
        "shorten": _shorten,
        "family": title_of,
        "rule": wording.rule_words,
        "unit": wording.unit_words,
        "model_verdict": wording.model_verdict,
        "counted": wording.counted,
        "with_enough_rows": _with_enough_rows,
    }
    names = [run["name"] for run in content["runs"]]
    hidden = _hidden(content)
    searched = _is_searched(content["responses"])
    script = engine.get_template("find.js.jinja").render().strip() if searched else ""
    return engine.get_template("page.html.jinja").render(
        **content,
        title=_title(content),
        sections=[(id, name) for id, name in _SECTIONS if id not in hidden],
        hidden=hidden,
        absent=_absent(content),
        compared=_compared(content["headlines"]),
        colours=themes(_run_colours),
        run_number={name: i for i, name in enumerate(names)},
        several=len(names) > 1,
        searched=searched,
        script=_Markup(script),
        script_digest=_digest(script),
    )


class _Markup(str):
    """Text of our own that the template engine does not escape."""

    def __html__(self) -> str:
        return self


def _is_searched(responses: Mapping[str, Any]) -> bool:
    """Whether the page lists all examples, beside those with the widest and the narrowest interval."""
    return "missing" not in responses and len(responses["all"]) > len(responses["contested"]) + len(
        responses["agreed"]
    )


def _digest(script: str) -> str:
    """The script's hash as a content security policy writes it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def write_page(content: Mapping[str, Any], path: Path) -> None:
    """Renders the page and writes it completely or not at all.

    Raises:
        ArtifactError: the path is a folder, or cannot be written.
        MissingDependencyError: jinja2 is not installed.
    """
    with whole_file(path) as work:
        work.write_text(render_page(content), encoding="utf-8")


def _hidden(content: Mapping[str, Any]) -> set[str]:
    """Sections that have nothing to show; the end of the page says why."""
    prompts, responses = content["prompts"], content["responses"]
    filled = {
        "accuracy": "missing" not in content["pairs"],
        "calibration": "missing" not in content["ratings"],
        "truth": "missing" not in content["truth"],
        "suites": bool(content["suites"]),
        "crowd": bool(content["crowd"] or content["pairwise"]),
        "responses": "missing" not in responses,
        "rivals": "missing" not in content["rivals"],
        "mistakes": "missing" not in content["mistakes"],
        "attributes": any("missing" not in gate for gate in prompts["gates"].values())
        or any(len(cells) > 1 for cells in prompts["attributes"].values())
        or ("missing" not in responses and len(responses["contested"][0]["profile"]) > 1),
        "signs": "missing" not in content["ratings"] or content["heads"] or content["warnings"],
    }
    return {name for name, shown in filled.items() if not shown}


def _absent(content: Mapping[str, Any]) -> list[str]:
    """The reasons why sections are missing."""
    parts = {"accuracy": "pairs", "calibration": "ratings", "truth": "truth", "responses": "responses"}
    found = {dict(_SECTIONS)[section]: content[name] for section, name in parts.items()}
    return [f"{name}: {part['missing']}" for name, part in found.items() if "missing" in part]


def _title(content: Mapping[str, Any]) -> str:
    runs = content["runs"]
    sources = ("/".join(Path(source).parts[-2:]) for run in runs for source in run["data"].values())
    data = ", ".join(dict.fromkeys(sources))
    names = [title_of(runs[0]["family"])] if len(runs) == 1 else [run["name"] for run in runs]
    models = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    plural = "s" if len(runs) > 1 else ""
    if models == title_of(runs[0]["family"]):  # the names of folders are written as they are
        models = models[:1].upper() + models[1:]
    return f"{models} model{plural} on {data or Path(runs[0]['folder']).name}"


def _compared(headlines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Headlines of several runs: one row per title, one cell per run."""
    rows: dict[str, dict[str, Any]] = {}
    for line in headlines:
        rows.setdefault(line["title"], {})[line["run"]] = line
    return rows


def _with_enough_rows(found: Mapping[str, Any]) -> dict[str, Any]:
    """The runs whose rows are enough for a curve."""
    return {name: part for name, part in found.items() if wording.enough(part["rows"], part["groups"])}


def _pair_counts(found: Mapping[str, Any]) -> str:
    """The number of evaluated pairs, per run if runs differ."""
    counts = {}
    for name, pairs in found.items():
        tied = f", and {pairs['tied_in_data']:,} with tied votes" if pairs["tied_in_data"] else ""
        groups = wording.counted_groups(pairs["groups"], pairs["accuracy"].get("model"))
        counts[name] = f"{pairs['rows']:,} pairs in {groups}{tied}"
    if len(set(counts.values())) == 1:
        return next(iter(counts.values()))
    return "; ".join(f"{name} {count}" for name, count in counts.items())


def _by_kind(found: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy per kind of prompt: a column per run and per baseline; equal columns only once.

    None stands for the accuracy of a kind with too few pairs; without any accuracy there are no kinds.
    """
    return _broken_down({name: pairs["subsets"] for name, pairs in found.items()})


def _by_attribute(found: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy on the pairs of each attribute, like `_by_kind`."""
    return _broken_down(
        {
            run: {
                attribute: {"rows": part["rows"]} | {k: v["estimate"] for k, v in part["accuracy"].items()}
                for attribute, part in pairs.get("attributes", {}).items()
            }
            for run, pairs in found.items()
        }
    )


def _broken_down(parts: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The kinds, their rows and the columns, from runs with `rows` and a share per rule for each kind."""
    kinds = sorted({kind for shares in parts.values() for kind in shares})
    columns: dict[tuple[Any, ...], tuple[str, str]] = {}
    for name, shares in parts.items():
        for rule in dict.fromkeys(rule for of_kind in shares.values() for rule in of_kind if rule != "rows"):
            values = tuple(
                shares[kind].get(rule) if wording.enough(shares.get(kind, {}).get("rows", 0)) else None
                for kind in kinds
            )
            columns.setdefault((rule if rule != "model" else name, values), (name, rule))
    rows = [
        " / ".join(f"{n:,}" for n in dict.fromkeys(s[kind]["rows"] for s in parts.values() if kind in s))
        for kind in kinds
    ]
    shown = [(*who, values) for (_, values), who in columns.items()]
    cells = [value for *_, values in shown for value in values]
    if all(value is None for value in cells):
        return {"kinds": []}
    return {"kinds": kinds, "rows": rows, "columns": shown, "gaps": None in cells}


def _shorten(name: str) -> str:
    """A run's name as a label inside a picture."""
    return name if len(name) <= 34 else name[:33] + "…"


def _run_colours(theme: str) -> tuple[str, ...]:
    colours = palette(theme)
    return (colours.predicted, colours.third, *_MORE_RUNS[theme])
