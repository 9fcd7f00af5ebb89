"""Results for a model card: the `model-index` block of its metadata, and tables in Markdown.

In: the content of a report. Out: text that goes to the top of a README.md on the hub.

The block is that of Papers with Code as the hub reads it: one result per data set, with a task and metrics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pluralign.families import title_of
from pluralign.files import write_file
from pluralign.report.wording import percent, rule_words, span

__all__ = ["model_card", "model_index", "write_card"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_TASK = {"type": "text-classification", "name": "Reward modelling"}


def model_index(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `model-index` of a model card: one model per run, a result per table or suite.

    Args:
        content: of a report.
    """
    models: dict[str, list[dict[str, Any]]] = {run["name"]: [] for run in content["runs"]}
    places = {run["name"]: run["data"] for run in content["runs"]}
    for table in content["suites"]:
        metrics_of: dict[str, list[dict[str, Any]]] = {}
        for row in table["rows"]:
            if row["own"] and row["score"] is not None:
                metrics = metrics_of.setdefault(row["run"], [])
                metrics.append(_metric("accuracy", row["score"]["estimate"], f"score, {row['who']}"))
                metrics += [
                    _metric("accuracy", value, f"{name}, {row['who']}")
                    for name, value in row["sections"].items()
                    if value is not None
                ]
        for run, metrics in metrics_of.items():
            source = places.get(run, {}).get("data", table["title"])
            models.setdefault(run, []).append(_result(table["title"], source, metrics))
    for part, found in content["pairs"].get("parts", {}).items():
        for run, pairs in found.items():
            if "model" in pairs["accuracy"]:
                metrics = [_metric("accuracy", pairs["accuracy"]["model"]["estimate"], "accuracy")]
                metrics.append(_metric("brier_score", pairs["brier"]["estimate"], "Brier score"))
                models[run].append(_result(part.replace("_", " "), _source(places[run]), metrics))
    for attribute, found in content["ratings"].get("attributes", {}).items():
        for run, part in found.items():
            metrics = [
                _metric(key, part[key]["model"]["estimate"], name)
                for key, name in (("crps", "CRPS"), ("pinball", "pinball loss"), ("coverage", "coverage"))
            ]
            title = "ratings" if attribute == "all" else f"ratings of {attribute}"
            models[run].append(_result(title, _source(places[run]), metrics))
    return [{"name": name, "results": results} for name, results in models.items() if results]


def model_card(content: Mapping[str, Any]) -> str:
    """Metadata and tables, to be pasted into a README.md or written as one."""
    import yaml

    meta = yaml.safe_dump({"model-index": model_index(content)}, sort_keys=False, allow_unicode=True)
    lines = ["---", meta.rstrip(), "---", "", "## Evaluation", ""]
    for run in content["runs"]:
        lines.append(
            f"- {_cell(run['name'])}: {title_of(run['family'])}, evaluated on {_cell(run['evaluated_on'])}"
        )
    lines.append("")
    for table in content["suites"]:
        lines += _table(
            f"{table['title']}: {table['rule']}",
            ["model", "by", "score", *table["sections"]],
            [
                [row["run"], row["who"], span(row["score"], share=True) if row["score"] else "–"]
                + [_share(row["sections"].get(name)) for name in table["sections"]]
                for row in table["rows"]
            ],
        )
        lines += [f"- {_cell(note)}" for note in table["notes"]] + ([""] if table["notes"] else [])
    for part, found in content["pairs"].get("parts", {}).items():
        rows = [
            [run if rule == "model" else rule_words(rule), span(interval, share=True)]
            for run, pairs in found.items()
            for rule, interval in pairs["accuracy"].items()
        ]
        lines += _table(f"Accuracy on {part.replace('_', ' ')}", ["who chooses", "accuracy"], rows)
    for attribute, found in content["ratings"].get("attributes", {}).items():
        title = "All attributes" if attribute == "all" else f"Ratings of {attribute}"
        rows = [
            [run, span(part["crps"]["model"]), span(part["coverage"]["model"], share=True)]
            for run, part in found.items()
        ]
        nominal = percent(next(iter(found.values()))["coverage"]["nominal"], 0)
        lines += _table(title, ["model", "CRPS", f"inside {nominal} intervals"], rows)
    lines.append("Intervals are at 95 %, over groups.")
    return "\n".join(lines) + "\n"


def write_card(content: Mapping[str, Any], path: Path) -> None:
    """Writes `model_card`, completely or not at all.

    Raises:
        ArtifactError: the path is a folder, or cannot be written.
    """
    write_file(path, model_card(content))


def _metric(kind: str, value: float, name: str) -> dict[str, Any]:
    return {"type": kind, "value": round(value, 4), "name": name}


def _result(title: str, source: str, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    kind = source if _HUB_ID.fullmatch(source) and not Path(source).suffix else "private"
    return {"task": dict(_TASK), "dataset": {"name": title, "type": kind}, "metrics": metrics}


def _source(data: Mapping[str, str]) -> str:
    return next(iter(data.values()), "")


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _table(title: str, head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [f"### {_cell(title)}", "", f"| {' | '.join(map(_cell, head))} |", "|---" * len(head) + "|"]
    return [*lines, *[f"| {' | '.join(map(_cell, row))} |" for row in rows], ""]


def _cell(text: str) -> str:
    """Text that cannot end a cell or begin a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
