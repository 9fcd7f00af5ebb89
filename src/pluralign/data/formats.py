"""JSON Lines, CSV and Parquet files, gzip or not, read into numbered rows.

In: a path. Out: an iterator of `(row number, dict)`, or `(row number, BadRow)` for a row that is no record.
Damage to the file as a whole (cut-off gzip, another encoding, no rows) raises `DataError`.
Does not know what columns mean: CSV cells stay text, `records` reads them.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from pluralign.data.gzip_files import is_gzip, open_gzip
from pluralign.data.json_files import read_json
from pluralign.data.plain_values import plain
from pluralign.data.problems import BadRow, NumberedRow, Problem, not_utf8, preview, raise_problems

__all__ = ["SUFFIXES_TEXT", "BadRow", "NumberedRow", "file_format", "read_file"]

_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".json-lines": "jsonl",
    ".jsonlines": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
SUFFIXES_TEXT = ".jsonl, .json, .csv, .tsv or .parquet, each also with .gz"


def file_format(path: Path) -> str | None:
    """ "jsonl", "csv" or "parquet" by the file's ending (".gz" ignored); None for any other file."""
    name = path.name.lower().removesuffix(".gz")
    return _SUFFIXES.get(Path(name).suffix)


def read_file(path: Path, name: str, note: Callable[[str], None] = lambda _: None) -> Iterator[NumberedRow]:
    """The rows of one file.

    Args:
        path: a file whose `file_format` is not None.
        name: what messages call the file.
        note: told how the file was read, where it could have been read in another way.

    Yields:
        `(row number, record)`; see `Problem.row` for how rows are counted.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    readers = {"jsonl": read_json, "csv": _read_csv, "parquet": _read_parquet}
    kind = file_format(path)
    if kind is None:
        _stop(name, f"the ending {''.join(path.suffixes) or 'of no file type'}", SUFFIXES_TEXT)
    rows = 0
    try:
        with _open(path, name) as stream:
            for number, row in readers[kind](stream, name, note):
                rows += 1
                yield number, row
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        found = f"damaged gzip data after {rows} readable rows ({error})"
        _stop(name, found, "a complete gzip file; copy or download it again")
    except OSError as error:
        _stop(name, f"a file that cannot be read ({error})", "a readable file")
    if rows == 0:
        _stop(name, "no rows", "at least one row")


def _stop(name: str, found: str, allowed: str, row: int | None = None) -> NoReturn:
    raise_problems(name, [Problem(name, row, None, found, allowed)])


def _open(path: Path, name: str) -> IO[bytes]:
    """The file's bytes, unpacked if they are gzip, whatever the file is called."""
    raw = path.open("rb")
    head = raw.peek(4)[:4]
    if head[:2] == b"\x1f\x8b":
        raw.close()
        return open_gzip(path, name)
    if head and path.name.lower().endswith(".gz"):
        raw.close()
        _stop(name, "no gzip data in a file called .gz", "gzip data, or another ending")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raw.close()
        _stop(name, "UTF-16 or UTF-32 text", "UTF-8; convert the file")
    return raw


def _read_csv(stream: IO[bytes], name: str, note: Callable[[str], None]) -> Iterator[NumberedRow]:
    data = stream.read().removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise_problems(name, [not_utf8(name, line, error)])
    limit = csv.field_size_limit(sys.maxsize)  # a text may be longer than the module's 128 KiB
    try:
        mark = _delimiter(text)
        if mark != ",":
            note(f"cells separated by {mark!r}")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        yield from _read_csv_records(reader, name)
    finally:
        csv.field_size_limit(limit)


def _delimiter(text: str) -> str:
    """What separates the names in the header: a comma, unless it has none and semicolons or tabs."""
    header = re.sub(r'"[^"]*"', "", text.lstrip().partition("\n")[0])
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _read_csv_records(reader: Any, name: str) -> Iterator[NumberedRow]:
    header: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            _stop(
                name,
                f"broken CSV ({error})",
                "cells separated as in the header, quotes closed and doubled",
                line,
            )
        if cells is None:
            return
        if header is None:
            header = cells
            twice = sorted({column for column in header if header.count(column) > 1})
            if twice:
                _stop(name, f"the columns {twice} more than once", "each column once", line)
        elif cells and len(cells) == len(header):
            yield line, dict(zip(header, cells, strict=True))
        elif cells:
            problem = Problem(name, line, None, f"{len(cells)} cells", f"{len(header)}, as in the header")
            yield line, BadRow(problem, ",".join(cells))
        line = reader.line_num + 1


def _read_parquet(stream: IO[bytes], name: str, note: Callable[[str], None]) -> Iterator[NumberedRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(stream.read()) if is_gzip(stream) else stream)
        number = 0
        decimal = "decimal" in str(file.schema_arrow)
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, {column: plain(value) for column, value in row.items()} if decimal else row
    except (pa.ArrowException, UnicodeDecodeError) as error:
        found = f"damaged or foreign Parquet data ({preview(str(error))})"
        _stop(name, found, "a complete Parquet file")
