"""Tables of up to a million rows, beside what reads the same files elsewhere."""

from __future__ import annotations

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


def section() -> str:
    """Loading, checking, splitting, fitting and evaluating tables."""
    text = (
        "## Tables\n\nFrom files of made-up ratings, three raters to a row, twenty responses to a prompt, with drawn vectors of "
        "width 384 (`python -m studies speed --arms tables`): processor seconds on one thread, and the most memory that the "
        "process held, .3 GiB of which is Python with its packages. `check` begins with a file; a split, a fit and an evaluation with a loaded table. Other work shared the cores while this was measured. "
        "pyarrow and pandas read the files as they are; loading also checks every cell and names what is wrong."
    )
    found = _found()
    if not found:
        return text + "\n\nNot run yet."
    sizes = [rows for rows in SIZES if any(of == rows for _, of in found)]
    rows: Rows = [
        [stage, *(_cell(found.get((stage, size))) for size in sizes)]
        for stage in STAGES
        if any((stage, size) in found for size in sizes)
    ]
    return text + "\n\n" + table(["", *(f"{size:,} rows" for size in sizes)], rows)
