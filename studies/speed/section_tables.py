"""Tables of up to a million rows, beside what reads the same files elsewhere."""

from __future__ import annotations

import math
from typing import Any

from studies.records import read
from studies.speed.tables import SIZES, STAGES
from studies.tables import Rows, table


def _found() -> dict[tuple[str, int], dict[str, Any]]:
    records = read("speed", "tables")
    return {(r["settings"]["stage"], r["settings"]["rows"]): r["results"] for r in records}


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not run"
    seconds = f"{found['cpu_s']:.2g}" if found["cpu_s"] < 10 else f"{found['cpu_s']:,.0f}"
    return f"{seconds} s, {found['peak_mib'] / 1024:.2g} GiB"


def _exponent(cells: list[tuple[int, dict[str, Any]]]) -> str:
    """p of processor time ~ rows^p between the two largest sizes; empty for fewer than two."""
    if len(cells) < 2:
        return ""
    (few, less), (many, more) = cells[-2:]
    return f"{math.log(more['cpu_s'] / less['cpu_s']) / math.log(many / few):.2f}"


def section() -> str:
    """Loading, checking, splitting, fitting, evaluating and scoring tables."""
    text = (
        "## Tables\n\nFrom files of synthetic ratings, three raters to a row, twenty responses to a prompt, with random vectors of "
        "width 384 (`python -m studies speed --arms tables`): processor seconds on one thread, and the most memory that the "
        "process held, .3 GiB of which is Python with its packages. `check` and scoring begin with a file; a split, a fit and an evaluation with a loaded table. The exponent p "
        "says that time grows as rows^p between the two largest sizes. Other work shared the cores while this was "
        "measured, by which seconds vary by some ten per cent or more. "
        "pyarrow and pandas read the files as they are; loading also checks every cell and names what is wrong."
    )
    found = _found()
    if not found:
        return text + "\n\nNot run yet."
    sizes = [rows for rows in SIZES if any(of == rows for _, of in found)]
    rows: Rows = []
    for stage in STAGES:
        cells = [(size, found[stage, size]) for size in sizes if (stage, size) in found]
        if cells:
            shown = [_cell(found.get((stage, size))) for size in sizes]
            rows.append([stage, *shown, _exponent(cells)])
    if absent := [f"{size:,}" for size in SIZES if size not in sizes]:
        text += f" Not run yet: {', '.join(absent)} rows."
    return text + "\n\n" + table(["", *(f"{size:,} rows" for size in sizes), "exponent"], rows)
