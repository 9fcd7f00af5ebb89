"""What benchmarks and the sections of docs/results.md share: result files, tables, intervals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

Rows = list[list[str]]


def read(name: str) -> Any:
    """A result file, or None where the benchmark has not been run."""
    path = RESULTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write(path: Path, record: Any, indent: int | None = 1) -> None:
    """Puts a result file in its place whole, so that an interrupted run leaves none that would be skipped."""
    work = path.with_suffix(".tmp")
    work.write_text(json.dumps(record, indent=indent, allow_nan=False) + "\n", encoding="utf-8")
    work.replace(path)


def read_folder(name: str) -> Iterator[Any]:
    """The result files of a study, in the order of their names."""
    for path in sorted((RESULTS / name).glob("*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def table(head: list[str], rows: Rows) -> str:
    """A Markdown table, numbers to the right."""
    line = "|".join(["", *[" --- " if i == 0 else " ---: " for i in range(len(head))], ""])
    return "\n".join(["| " + " | ".join(head) + " |", line, *["| " + " | ".join(r) + " |" for r in rows]])


def interval(value: dict[str, Any] | None, digits: int = 4) -> str:
    """`0.2514 [0.2480, 0.2549]`"""
    if value is None:
        return ""
    if value["low"] is None:
        return f"{value['estimate']:.{digits}f}"
    return f"{value['estimate']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
