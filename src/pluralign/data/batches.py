"""Rows of a file a few thousand at a time, as Arrow columns where the file has them, else as dicts.

In: what a reader yields. Out: `Batch`es: their columns under any names, and single rows as dicts where
somebody has to look closer. It does not know what columns mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pluralign.data.problems import BadRow, NumberedRow

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BATCH_ROWS", "ArrowBatch", "Batch", "RowBatch", "in_batches"]

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
        return [row.get(name) for row in self._rows]

    def rows(self, places: Iterable[int] | None = None) -> Sequence[Row]:
        """All rows, or those at some places."""
        return self._rows if places is None else [self._rows[place] for place in places]


class ArrowBatch:
    """Rows as Arrow columns.

    Args:
        numbers: of the rows in their file.
        arrays: name -> values.
    """

    def __init__(self, numbers: Numbers, arrays: Mapping[str, pa.Array]) -> None:
        self.numbers = numbers
        self._arrays = dict(arrays)

    @property
    def columns(self) -> dict[str, None]:
        """Names, in order."""
        return dict.fromkeys(self._arrays)

    def column(self, name: str) -> pa.Array:
        """The values of a column."""
        return self._arrays[name]

    def rows(self, places: Iterable[int] | None = None) -> Sequence[Row]:
        """All rows as dicts, or those at some places."""
        import pyarrow as pa

        table = pa.table(self._arrays)
        found: Sequence[Row] = (
            table if places is None else table.take(pa.array(places, pa.int64()))
        ).to_pylist()
        return found


Batch = RowBatch | ArrowBatch


def in_batches(rows: Iterator[NumberedRow], refused: Callable[[int, BadRow], None]) -> Iterator[RowBatch]:
    """The rows of a reader in batches.

    Args:
        rows: numbered; what is no record goes to `refused`.
        refused: takes the number of a row that is no record, and why.
    """
    while part := list(itertools.islice(rows, BATCH_ROWS)):
        numbers, kept = [], []
        for number, row in part:
            if isinstance(row, BadRow):
                refused(number, row)
            else:
                numbers.append(number)
                kept.append(row)
        yield RowBatch(np.array(numbers, np.int64), kept)
