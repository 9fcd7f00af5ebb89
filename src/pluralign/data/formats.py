"""JSON Lines, CSV and Parquet files, gzip or not, read into numbered rows.

In: a path. Out: an iterator of `(row number, dict)`, or `(row number, BadRow)` for a row that is not a
record. Damage to the file as a whole (truncated gzip, another encoding, no rows) raises `DataError`.
CSV cells stay text here; `columns` gives them types.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import numpy as np

from pluralign.data.batches import BATCH_ROWS, ArrowBatch, Batch, RowBatch
from pluralign.data.gzip_files import is_gzip, open_gzip
from pluralign.data.json_files import json_batches, read_json
from pluralign.data.plain_values import plain
from pluralign.data.problems import BadRow, NumberedRow, Problem, not_utf8, preview, raise_problems

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "SUFFIXES_TEXT",
    "BadRow",
    "NumberedRow",
    "file_format",
    "has_decimal_commas",
    "read_batches",
    "read_file",
]

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
        name: the name of the file in messages.
        note: called with how the file was read, if it could have been read in another way.

    Yields:
        `(row number, record)`; rows are counted as in `Problem.row`.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    readers = {"jsonl": read_json, "csv": _read_csv, "parquet": _read_parquet}
    kind = _known_format(path, name)
    with _open_checked(path, name) as (stream, count):
        for number, row in readers[kind](stream, name, note):
            count()
            yield number, row


def read_batches(
    path: Path, name: str, note: Callable[[str], None], bad: Callable[[int, BadRow], None]
) -> Iterator[Batch]:
    """The rows of a JSON or Parquet file in batches, as columns where that is possible.

    Args:
        path: as in `read_file`.
        name: the name of the file in messages.
        note: called with how the file was read, if it could have been read in another way.
        bad: called with the number of each row that is not a record, and what is wrong with it.
    """
    reader = {"jsonl": json_batches, "parquet": _parquet_tables}[_known_format(path, name)]
    with _open_checked(path, name) as (stream, count):

        def bad_row(number: int, row: BadRow) -> None:
            count()
            bad(number, row)

        for batch in reader(stream, name, note, bad_row):
            count(len(batch.numbers))
            yield batch


def _known_format(path: Path, name: str) -> str:
    kind = file_format(path)
    if kind is None:
        _fail(name, f"the ending {''.join(path.suffixes) or 'of no file type'}", SUFFIXES_TEXT)
    return kind


@contextmanager
def _open_checked(path: Path, name: str) -> Iterator[tuple[IO[bytes], Callable[..., None]]]:
    """The file's bytes, and what to call with the number of readable rows; damaged files are refused."""
    rows = 0

    def count(new: int = 1) -> None:
        nonlocal rows
        rows += new

    try:
        with _open(path, name) as stream:
            yield stream, count
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        found = f"damaged gzip data after {rows} readable rows ({error})"
        _fail(name, found, "a complete gzip file; copy or download it again")
    except OSError as error:
        _fail(name, f"a file that cannot be read ({error})", "a readable file")
    if rows == 0:
        _fail(name, "no rows", "at least one row")


def _fail(name: str, found: str, allowed: str, row: int | None = None) -> NoReturn:
    raise_problems(name, [Problem(name, row, None, found, allowed)])


def _open(path: Path, name: str) -> IO[bytes]:
    """The file's bytes, decompressed if they are gzip, whatever the file is called."""
    raw = path.open("rb")
    head = raw.peek(4)[:4]
    if head[:2] == b"\x1f\x8b":
        raw.close()
        return open_gzip(path, name)
    if head and path.name.lower().endswith(".gz"):
        raw.close()
        _fail(name, "a file named .gz that is not gzip", "gzip data, or another ending")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raw.close()
        _fail(name, "UTF-16 or UTF-32 text", "UTF-8; convert the file")
    return raw


def _read_csv(stream: IO[bytes], name: str, note: Callable[[str], None]) -> Iterator[NumberedRow]:
    data = stream.read().removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise_problems(name, [not_utf8(name, line, error)])
    limit = csv.field_size_limit(sys.maxsize)  # a text may be longer than the module's default of 128 KiB
    try:
        mark = _delimiter(text)
        if mark != ",":
            note(_separated_by(mark))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        yield from _read_csv_records(reader, name)
    finally:
        csv.field_size_limit(limit)


def has_decimal_commas(read_as: Sequence[str]) -> bool:
    """Whether a file was read in ways that leave commas to numbers: 3,5 is one cell."""
    return bool({*read_as} & {_separated_by(";"), _separated_by("\t")})


def _separated_by(mark: str) -> str:
    return f"cells separated by {mark!r}"


def _delimiter(text: str) -> str:
    """The delimiter: of comma, semicolon and tab the one that is most frequent in the header."""
    header = re.sub(r'"[^"]*"', "", text.lstrip().partition("\n")[0])
    return max((",", ";", "\t"), key=header.count)


def _read_csv_records(reader: Any, name: str) -> Iterator[NumberedRow]:
    header: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            _fail(
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
                _fail(name, f"the columns {twice} more than once", "each column once", line)
        elif cells and len(cells) == len(header):
            yield line, dict(zip(header, cells, strict=True))
        elif cells:
            problem = Problem(name, line, None, f"{len(cells)} cells", f"{len(header)}, as in the header")
            yield line, BadRow(problem, ",".join(cells))
        line = reader.line_num + 1


def _read_parquet(stream: IO[bytes], name: str, note: Callable[[str], None]) -> Iterator[NumberedRow]:
    number = 0
    for batch in _parquet_batches(stream, name):
        for row in batch if isinstance(batch, list) else batch.to_pylist():
            number += 1
            yield number, row


def _parquet_tables(
    stream: IO[bytes], name: str, note: Callable[[str], None], bad: Callable[[int, BadRow], None]
) -> Iterator[Batch]:
    number = 0
    for batch in _parquet_batches(stream, name):
        numbers = np.arange(number + 1, number + len(batch) + 1)
        number += len(batch)
        if isinstance(batch, list):
            yield RowBatch(numbers, batch)
        else:
            yield ArrowBatch(numbers, dict(zip(batch.schema.names, batch.columns, strict=True)))


def _parquet_batches(stream: IO[bytes], name: str) -> Iterator[pa.RecordBatch | list[dict[str, Any]]]:
    """Batches of columns; of rows where there are decimal numbers, which become floats."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(stream.read()) if is_gzip(stream) else stream)
        decimal = "decimal" in str(file.schema_arrow)
        for batch in file.iter_batches(BATCH_ROWS):
            if decimal:
                yield [plain(row) for row in batch.to_pylist()]
                continue
            try:
                batch.validate(full=True)
            except pa.ArrowException:
                batch.to_pylist()  # the error says which byte is not UTF-8
                raise
            yield batch
    except (pa.ArrowException, UnicodeDecodeError) as error:
        found = f"damaged Parquet file, or not Parquet ({preview(str(error))})"
        _fail(name, found, "a complete Parquet file")
