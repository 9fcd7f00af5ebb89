"""Files of an evaluation: `scores.parquet` (per row), `examples.jsonl` (texts) and `results.json`.

In: columns and lines. Out: files, each complete or unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.evaluation.rows import Columns
from pluralign.files import whole_file, write_file, write_json

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["scores_table", "write_examples", "write_results", "write_scores"]


def scores_table(tables: Mapping[str, Columns]) -> pa.Table:
    """All rows of all tables; the column `table` names the table."""
    import pyarrow as pa

    parts = []
    for name, columns in tables.items():
        length = len(columns["id"])
        given = {k: v for k, v in columns.items() if not isinstance(v, int)}
        arrays = {k: v if isinstance(v, pa.ChunkedArray) else pa.array(v) for k, v in given.items()}
        parts.append(pa.table(arrays | {"table": pa.array([name] * length)}))
    return pa.concat_tables(parts, promote_options="permissive")


def write_scores(path: Path, tables: Mapping[str, Columns]) -> None:
    """Writes `scores_table` as a Parquet file."""
    import pyarrow.parquet as pq

    with whole_file(path) as work:
        pq.write_table(scores_table(tables), work)


def write_examples(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Writes examples, one JSON object per line."""
    write_file(path, "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines))


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Writes the numbers as JSON."""
    write_json(path, dict(results))
