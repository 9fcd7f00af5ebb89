"""What many rows cost, by arithmetic from measured rates: tables of docs/how-to/scale.md.

Prices are assumptions, and so is what a GPU does: nothing was measured on one.
"""

from __future__ import annotations

from typing import Any

from studies.records import read, results
from studies.tables import table

ROWS = (10**6, 10**8, 10**9)
CORE_HOUR = 0.04  # dollars, assumed
GPU_HOUR = 2.5  # dollars, assumed
FLOPS = 1e15  # of a GPU in bfloat16, assumed
SHARE = 0.4  # of them that is used, assumed
PARAMETERS, TOKENS = 8e9, 500  # of a large backbone, and of a conversation


def engine(case: str) -> dict[str, Any]:
    """Results of a case of the arm `engines`."""
    (found,) = results("scale", "engines", case=case)
    return dict(found)


def per_core(case: str = "local, one thread") -> float:
    """Rows per processor second, everything counted."""
    found = engine(case)
    return float(found["rows"] / sum(found["cpu_seconds"].values()))


def core_hours(rows: int) -> float:
    """Of MiniLM on short responses: rows / (rows per processor second x 3,600)."""
    return rows / per_core() / 3_600


def gpu_hours(rows: int) -> float:
    """Of a large backbone: rows x 2 x parameters x tokens / (operations per second x share x 3,600)."""
    return rows * 2 * PARAMETERS * TOKENS / (FLOPS * SHARE) / 3_600


def memory(how: str, rows: int) -> dict[str, Any] | None:
    """Results of a run of the arm `memory`; None where it was not run."""
    found = results("scale", "memory", how=how, rows=rows)
    return dict(found[0]) if found else None


def largest(how: str) -> int:
    """The most rows of the arm `memory` that were scored so."""
    return max(record["settings"]["rows"] for record in read("scale", "memory", how=how))


def bytes_per_text(width: int) -> float:
    """Of the embedding cache."""
    (found,) = results("scale", "cache", width=width)
    return float(found["bytes_per_record"])


def line_bytes() -> float:
    """Of a score in the file."""
    found = memory("local", 100_000)
    assert found is not None
    return float(found["out_mib"] * 2**20 / 100_000)


def cost_table() -> str:
    """Core hours on MiniLM and GPU hours on a large backbone, and what they cost."""
    head = ["responses", "MiniLM, core hours", "dollars", "8 x 10^9 parameters, GPU hours", "dollars"]
    rows = []
    for number in ROWS:
        cores, gpus = core_hours(number), gpu_hours(number)
        rows.append(
            [power(number), _round(cores), _round(cores * CORE_HOUR), _round(gpus), _round(gpus * GPU_HOUR)]
        )
    return table(head, rows)


def disk_table() -> str:
    """What lies on disk."""
    head = ["responses", "scores", "vectors: MiniLM", "width 4,096", "cache: MiniLM", "width 4,096"]
    per_row = (line_bytes(), 4 * 2 * 384, 4 * 2 * 4_096, bytes_per_text(384), bytes_per_text(8_192))
    rows = [[power(number), *(_bytes(number * one) for one in per_row)] for number in ROWS]
    return table(head, rows)


def power(number: int) -> str:
    """A power of ten in words."""
    return f"10^{len(str(number)) - 1}"


def _round(value: float) -> str:
    """Two digits that count."""
    return f"{float(f'{value:.2g}'):,.10g}"


def _bytes(value: float) -> str:
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1_000
        if value < 1_000:
            return f"{_round(value)} {unit}"
    return f"{_round(value / 1_000)} PB"
