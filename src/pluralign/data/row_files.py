"""Writes rows to a JSON Lines, CSV or Parquet file, by its ending; the file appears when it is complete.

In: batches of rows, which all have the same keys. Out: the file, which `sources` reads again. A cell of CSV
holds a list or a dictionary as JSON. One batch is in memory at a time.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.errors import ArgumentError, ArtifactError
from pluralign.files import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ENDINGS", "check_ending", "write_lines", "write_rows"]

ENDINGS = (".jsonl", ".csv", ".parquet")

Rows = Sequence[Mapping[str, Any]]


def check_ending(path: str | Path, allowed: Sequence[str] = ENDINGS) -> str:
    """The ending of a file's name.

    Args:
        path: of the file.
        allowed: endings.

    Raises:
        ArgumentError: it has another ending.
    """
    ending = Path(path).suffix
    if ending not in allowed:
        raise ArgumentError(
            f"path: received {str(path)!r}; allowed: a file that ends in {' or '.join(allowed)}",
            allowed=allowed,
        )
    return ending


def write_rows(path: str | Path, batches: Iterable[Rows], schema: pa.Schema | None = None) -> None:
    """Writes rows in the format of the ending.

    Args:
        path: one of `ENDINGS`; replaced if it exists.
        batches: of rows; some may be empty.
        schema: Arrow types of the rows, for Parquet; None for those of the first batch.

    Raises:
        ArgumentError: another ending.
        ArtifactError: the file cannot be written, or rows have other columns than the first.
    """
    write = {".jsonl": _write_json_lines, ".csv": _write_csv, ".parquet": _write_parquet}[check_ending(path)]
    with whole_file(path) as work:
        write(work, batches, schema)


def write_lines(path: str | Path, batches: Iterable[Sequence[str]]) -> None:
    """Writes rows that are lines of JSON already, without line ends; arguments and errors as above."""
    if check_ending(path) != ".jsonl":
        write_rows(path, ([json.loads(line) for line in lines] for lines in batches))
        return
    with whole_file(path) as work, work.open("w", encoding="utf-8") as file:
        for lines in batches:
            file.writelines(f"{line}\n" for line in lines)


def _write_json_lines(work: Path, batches: Iterable[Rows], schema: pa.Schema | None) -> None:
    del schema
    with work.open("w", encoding="utf-8") as file:
        for rows in batches:
            file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _write_csv(work: Path, batches: Iterable[Rows], schema: pa.Schema | None) -> None:
    del schema
    columns: list[str] | None = None
    with work.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for rows in batches:
            for row in rows:
                if columns is None:
                    columns = list(row)
                    writer.writerow(columns)
                if row.keys() != set(columns):
                    raise _other_columns("CSV")
                writer.writerow(_cell(row[name]) for name in columns)


def _cell(value: Any) -> Any:
    if isinstance(value, (list, dict, bool)):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return value


def _write_parquet(work: Path, batches: Iterable[Rows], schema: pa.Schema | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None if schema is None else pq.ParquetWriter(work, schema, write_page_checksum=True)
    try:
        for rows in batches:
            if not rows:
                continue
            table = pa.Table.from_pylist(list(rows), schema=schema)
            if writer is None:
                writer = pq.ParquetWriter(work, table.schema, write_page_checksum=True)
            if table.schema != writer.schema:
                raise _other_columns("Parquet")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _other_columns(kind: str) -> ArtifactError:
    return ArtifactError(f"the rows do not all have the same columns, as {kind} needs; write a .jsonl file")
