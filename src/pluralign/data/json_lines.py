"""JSON Lines read a few thousand lines at a time, by Arrow where it reads what Python's parser would.

In: a stream of bytes. Out: batches. Arrow takes a tenth of the time, but has one type per column, reads dates
as times and whole numbers beyond 64 bits as floats, loses nulls at the beginning of lists (apache/arrow issue
51305), and ends the process where values are nested too deep. A batch in which that could matter is read
line by line, as `json_files` does, which also says what is wrong with a line. Single rows, and columns whose
numbers Arrow may have turned into floats, are read from their lines again.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pluralign.data.batches import BATCH_ROWS, ArrowBatch, Batch, Numbers, Row, RowBatch
from pluralign.data.problems import BadRow, NumberedRow
from pluralign.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LineBatch", "line_batches"]

_MARK = b"\xef\xbb\xbf"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NESTED = 500  # brackets of a line below which no nesting is too deep for Arrow
_EXACT = 2.0**53  # whole numbers below are floats without loss

Lines = list[tuple[int, bytes]]


class LineBatch(ArrowBatch):
    """Rows as Arrow columns, each of which can be read from its line again.

    Args:
        numbers: of the rows in their file.
        arrays: name -> values.
        read: a row, by its place.
    """

    def __init__(self, numbers: Numbers, arrays: Mapping[str, pa.Array], read: Callable[[int], Row]) -> None:
        super().__init__(numbers, arrays)
        self._read = read

    def kept(self, name: str) -> Sequence[Any] | pa.Array:
        """The values of a column as the file has them: 1 is not 1.0, and no object has keys of another."""
        array = self.column(name)
        return array if _is_exact(array) else [row.get(name) for row in self.rows()]

    def values(self, name: str) -> Sequence[Any]:
        """The same as Python values, None in all rows where there is no such column."""
        if name not in self.columns or _is_exact(self.column(name)):
            return super().values(name)
        return self.kept(name)

    def rows(self, places: Numbers | None = None) -> Sequence[Row]:
        """All rows as dicts, or those at some places."""
        return (
            [self._read(place) for place in range(len(self.numbers))]
            if places is None
            else [self._read(place) for place in places.tolist()]
        )

    def take(self, places: Numbers) -> LineBatch:
        """The rows at some places, with the columns that they have, in the order in which these appear."""
        arrays = super().take(places).arrays
        found: dict[str, None] = {}
        for place in places.tolist():
            if len(found) == len(arrays):
                break
            found |= dict.fromkeys(self._read(place))
        arrays = {name: arrays[name] for name in found}
        return LineBatch(self.numbers[places], arrays, lambda place: self._read(int(places[place])))

    def with_column(self, name: str, values: Sequence[Any] | pa.Array) -> Batch:
        """The rows with one column more, or another one in its place."""
        batch = super().with_column(name, values)
        if not isinstance(batch, ArrowBatch):
            return batch
        return LineBatch(self.numbers, batch.arrays, lambda place: {**self._read(place), name: values[place]})

    def renamed(self, arrays: Mapping[str, pa.Array], rename: Callable[[Row], Row]) -> LineBatch:
        """The same rows under other names.

        Args:
            arrays: the columns under these names.
            rename: does it to a row.
        """
        return LineBatch(self.numbers, arrays, lambda place: rename(self._read(place)))


def line_batches(
    stream: IO[bytes],
    read: Callable[[Lines], Iterator[NumberedRow]],
    bad: Callable[[int, BadRow], None],
) -> Iterator[Batch]:
    """The rows of a file with one object per line.

    Args:
        stream: from its beginning.
        read: numbered lines -> rows, line by line.
        bad: called with the number of each line that is not a record, and what is wrong with it.
    """
    lines: Lines = []
    try:
        for number, line in enumerate(stream, start=1):
            data = line.removeprefix(_MARK) if number == 1 else line
            if data.isspace() or not data:
                continue
            lines.append((number, data))
            if len(lines) == BATCH_ROWS:
                yield from _batch(lines, read, bad)
                lines = []
    except (DataError, OSError, EOFError, zlib.error):  # what comes before the damage is read
        yield from _batch(lines, read, bad)
        raise
    yield from _batch(lines, read, bad)


def _batch(
    lines: Lines, read: Callable[[Lines], Iterator[NumberedRow]], bad: Callable[[int, BadRow], None]
) -> Iterator[Batch]:
    if not lines:
        return
    arrays = _by_arrow([line for _, line in lines])
    if arrays is not None:
        numbers = np.array([number for number, _ in lines], np.int64)
        yield LineBatch(numbers, arrays, lambda place: json.loads(lines[place][1]))
        return
    kept = []
    for number, row in read(lines):
        if isinstance(row, BadRow):
            bad(number, row)
        else:
            kept.append((number, row))
    if kept:
        yield RowBatch(np.array([number for number, _ in kept], np.int64), [row for _, row in kept])


def _by_arrow(lines: Sequence[bytes]) -> dict[str, pa.Array] | None:
    """The columns of these lines; None where Arrow cannot read them, or might read them in another way."""
    import pyarrow as pa
    import pyarrow.json as reader

    data = b"".join(lines)
    try:
        data.decode("utf-8")  # Arrow takes any bytes for text
    except UnicodeDecodeError:
        return None
    if not all(map(_is_plain, lines)):
        return None
    # The size of a block is that of the whole: Arrow then infers one type from all rows.
    options = reader.ReadOptions(use_threads=False, block_size=len(data) + 1)
    try:
        table = reader.read_json(pa.BufferReader(data), options)
        dates = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
        if dates:
            texts = reader.ParseOptions(explicit_schema=pa.schema([(name, pa.string()) for name in dates]))
            table = reader.read_json(pa.BufferReader(data), options, texts).select(table.column_names)
        table.validate(full=True)  # Arrow's offsets count the nulls that it lost
        arrays = {name: pa.concat_arrays(table.column(name).chunks) for name in table.column_names}
    except (pa.ArrowException, UnicodeDecodeError, OverflowError):
        return None
    if len(table) != len(lines) or not arrays:
        return None
    return arrays if all(map(_is_as_written, arrays.values())) else None


def _is_plain(line: bytes) -> bool:
    """Whether a line begins and ends as an object does, without deep nesting.

    If all lines do, and there are as many rows as lines, each line is one row: an object that goes on after a
    bracket does so with a comma or another bracket, and no line begins with either.
    """
    return (
        line[:1] == b"{"
        and line.rstrip()[-1:] == b"}"
        and (_brackets(line) <= _NESTED or _brackets(_STRING.sub(b"", line)) <= _NESTED)
    )


def _brackets(line: bytes) -> int:
    return line.count(b"{") + line.count(b"[")


def _is_as_written(array: pa.Array) -> bool:
    """Whether values are those of the file, except that whole numbers among others may be floats."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_list(kind):
        return _is_as_written(pc.list_flatten(array))
    if pa.types.is_struct(kind):
        return all(_is_as_written(field) for field in array.flatten())
    if pa.types.is_floating(kind):
        values = np.asarray(array.drop_null(), np.float64)
        return bool((np.abs(values) < _EXACT).all())  # not where they are not finite, too
    return kind in (pa.null(), pa.bool_(), pa.int64(), pa.string())


def _is_exact(array: pa.Array) -> bool:
    """Whether Arrow's values are what Python would have read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_list(kind):
        return not pa.types.is_list(kind.value_type) and _is_exact(pc.list_flatten(array))
    if pa.types.is_floating(kind):
        values = np.asarray(array.drop_null(), np.float64)
        return not bool((values == np.round(values)).any())
    return not pa.types.is_struct(kind)
