"""Rows of a file a few thousand at a time, as Arrow columns where the file has them, else as dicts.

In: what a reader yields. Out: `Batch`es: their columns under any names, and single rows as dicts where
a closer check is needed.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pluralign.data.problems import BadRow, NumberedRow
from pluralign.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BATCH_ROWS", "ArrowBatch", "Batch", "RowBatch", "arrow_batches", "in_batches"]

BATCH_ROWS = 10_000  # keeps a chunk far below Arrow's 2 GiB of text

Row = dict[str, Any]
Numbers = NDArray[np.int64]


class RowBatch:
    """Rows as dicts.

    Args:
        numbers: of the rows in their file.
        rows: one dict each; a row need not have all columns.
    """

    def __init__(self, numbers: Numbers, rows: Sequence[Row]) -> None:
        self.numbers = numbers
        self._rows = rows

    @cached_property
    def columns(self) -> dict[str, None]:
        """Names, in the order of their first appearance."""
        first = dict.fromkeys(self._rows[0]) if self._rows else {}
        if all(row.keys() == first.keys() for row in self._rows):
            return first
        return dict.fromkeys(itertools.chain.from_iterable(self._rows))

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column, None where a row does not have it."""
        try:
            return list(map(operator.itemgetter(name), self._rows))
        except KeyError:
            return [row.get(name) for row in self._rows]

    def kept(self, name: str) -> Sequence[Any]:
        """The same, as the file has them."""
        return self.column(name)

    def values(self, name: str) -> Sequence[Any]:
        """The same as Python values."""
        return self.column(name)

    def rows(self, places: Numbers | None = None) -> Sequence[Row]:
        """All rows, or those at some places."""
        return self._rows if places is None else [self._rows[place] for place in places.tolist()]

    def take(self, places: Numbers) -> RowBatch:
        """The rows at some places."""
        return RowBatch(self.numbers[places], self.rows(places))

    def with_column(self, name: str, values: Sequence[Any]) -> RowBatch:
        """The rows with one column more, or another one in its place."""
        return RowBatch(
            self.numbers, [{**row, name: value} for row, value in zip(self._rows, values, strict=True)]
        )


class ArrowBatch:
    """Rows as Arrow columns.

    Args:
        numbers: of the rows in their file.
        arrays: name -> values.

    Attributes:
        arrays: the same.
    """

    def __init__(self, numbers: Numbers, arrays: Mapping[str, pa.Array]) -> None:
        self.numbers = numbers
        self.arrays = dict(arrays)

    @property
    def columns(self) -> dict[str, None]:
        """Names, in order."""
        return dict.fromkeys(self.arrays)

    def column(self, name: str) -> pa.Array:
        """The values of a column."""
        return self.arrays[name]

    def kept(self, name: str) -> Sequence[Any] | pa.Array:
        """The same, as the file has them."""
        return self.column(name)

    def values(self, name: str) -> Sequence[Any]:
        """The same as Python values, None in all rows where there is no such column."""
        array = self.arrays.get(name)
        return [None] * len(self.numbers) if array is None else array.to_pylist()

    def rows(self, places: Numbers | None = None) -> Sequence[Row]:
        """All rows as dicts, or those at some places."""
        import pyarrow as pa

        table = pa.table(self.arrays)
        rows: Sequence[Row] = (table if places is None else table.take(pa.array(places))).to_pylist()
        return rows

    def take(self, places: Numbers) -> ArrowBatch:
        """The rows at some places."""
        import pyarrow as pa

        chosen = pa.array(places)
        return ArrowBatch(
            self.numbers[places], {name: array.take(chosen) for name, array in self.arrays.items()}
        )

    def with_column(self, name: str, values: Sequence[Any] | pa.Array) -> Batch:
        """The rows with one column more, or another one in its place."""
        import pyarrow as pa

        try:
            array = values if isinstance(values, pa.Array) else pa.array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return RowBatch(self.numbers, self.rows()).with_column(name, values)
        return ArrowBatch(self.numbers, {**self.arrays, name: array})


Batch = RowBatch | ArrowBatch


def arrow_batches(columns: Mapping[str, pa.ChunkedArray], count: int) -> Iterator[ArrowBatch]:
    """Whole columns in batches; rows are numbered from 1."""
    import pyarrow as pa

    for start in range(0, count, BATCH_ROWS):
        size = min(BATCH_ROWS, count - start)
        arrays = {}
        for name, column in columns.items():
            part = column.slice(start, size)
            arrays[name] = part.chunk(0) if part.num_chunks == 1 else pa.concat_arrays(part.chunks)
        yield ArrowBatch(np.arange(start + 1, start + size + 1), arrays)


def in_batches(rows: Iterable[NumberedRow], bad: Callable[[int, BadRow], None]) -> Iterator[RowBatch]:
    """The rows of a reader in batches; what it has read before it fails comes first.

    Args:
        rows: numbered; what is not a record is left out.
        bad: called with the number of each row that is not a record, and what is wrong with it.

    Raises:
        DataError: the reader's, after the rows that it read.
    """
    numbers: list[int] = []
    kept: list[Row] = []
    try:
        for number, row in rows:
            if isinstance(row, BadRow):
                bad(number, row)
                continue
            numbers.append(number)
            kept.append(row)
            if len(kept) == BATCH_ROWS:
                yield RowBatch(np.array(numbers, np.int64), kept)
                numbers, kept = [], []
    except DataError as error:
        if kept:
            yield RowBatch(np.array(numbers, np.int64), kept)
        raise error
    if kept:
        yield RowBatch(np.array(numbers, np.int64), kept)
