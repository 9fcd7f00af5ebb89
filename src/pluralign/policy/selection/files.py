"""Writes selected rows as Parquet or JSON Lines, shard by shard; the file appears when it is complete."""

from __future__ import annotations

import json
from pathlib import Path

from pluralign.errors import ArgumentError
from pluralign.files import whole_file
from pluralign.policy.selection.tables import Selection, SelectionCounts

__all__ = ["write_selection"]


def write_selection(selection: Selection, path: str | Path) -> SelectionCounts:
    """Writes the rows of a selection.

    Args:
        selection: what is selected.
        path: a file that ends in .parquet or .jsonl; replaced if it exists.

    Returns:
        What was read and written; a file without rows is written too.

    Raises:
        ArgumentError: another ending.
        ArtifactError: the file cannot be written, or samples are damaged.
    """
    target = Path(path)
    if target.suffix not in (".parquet", ".jsonl"):
        raise ArgumentError(f"path: received {str(path)!r}; allowed: a file that ends in .parquet or .jsonl")
    with whole_file(target) as work:
        if target.suffix == ".jsonl":
            with work.open("w", encoding="utf-8") as file:
                for rows in selection.rows():
                    file.writelines(
                        json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows
                    )
        else:
            _write_parquet(selection, work)
    return selection.counts


def _write_parquet(selection: Selection, work: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = selection.schema()
    with pq.ParquetWriter(work, schema, write_page_checksum=True) as writer:
        for rows in selection.rows():
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
