"""Two files of an evaluation: `scores.parquet` (per row) and `examples.jsonl` (texts).

In: columns and lines. Out: files, each complete or unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pluralign.evaluation.rows import Columns
from pluralign.files import whole_file, write_file

__all__ = ["write_examples", "write_scores"]


def write_scores(path: Path, tables: Mapping[str, Columns]) -> None:
    """All rows of all tables; the column `table` names the table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    for name, columns in tables.items():
        length = len(columns["id"])
        given = {k: v for k, v in columns.items() if not isinstance(v, int)}
        arrays = {k: v if isinstance(v, pa.ChunkedArray) else pa.array(v) for k, v in given.items()}
        parts.append(pa.table(arrays | {"table": pa.array([name] * length)}))
    table = pa.concat_tables(parts, promote_options="permissive")
    with whole_file(path) as work:
        pq.write_table(table, work)


def write_examples(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object per line."""
    write_file(path, "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines))
