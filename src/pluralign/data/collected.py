"""A data set that grows batch by batch: canonical columns as they come, all others with one type in the end.

In: batches of rows that were accepted. Out: Arrow columns, and the file and row number of each row. Other
columns keep their values whatever they are; those that no table takes become text (`spare_columns`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pluralign.data.arrow import canonical_types
from pluralign.data.plain_checks import inferred, is_text
from pluralign.data.spare_columns import legal_name, spare_array
from pluralign.data.table_columns import take

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Collected"]

Numbers = NDArray[np.int64]
Values = Any  # of one column: an Arrow array, or a list of Python values


class Collected:
    """Rows of all files of a source.

    Args:
        columns: canonical columns, which come first and exist in every batch.

    Attributes:
        count: rows so far.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.count = 0
        self._columns = tuple(columns)
        self._canonical: dict[str, list[pa.Array]] = {name: [] for name in columns}
        # Of other columns (first row, values) for each batch that has them.
        self._spare: dict[str, list[tuple[int, Values]]] = {}
        self._places: list[tuple[int, Numbers]] = []

    def add(
        self, file: int, numbers: Numbers, canonical: Mapping[str, pa.Array], spare: Mapping[str, Values]
    ) -> None:
        """Adds rows.

        Args:
            file: number of their file.
            numbers: of the rows in it.
            canonical: at least the canonical columns; what is more replaces a spare column.
            spare: other columns, as Arrow or Python values; in order.
        """
        if not len(numbers):
            return
        for name in self._columns:
            self._canonical[name].append(canonical[name])
        for name, values in spare.items():
            if name not in self._canonical:
                kept = canonical[name] if name in canonical else _lossless(values)
                self._spare.setdefault(name, []).append((self.count, kept))
        self._places.append((file, numbers))
        self.count += len(numbers)

    def column(self, name: str) -> pa.ChunkedArray:
        """A canonical column."""
        import pyarrow as pa

        return pa.chunked_array(self._canonical[name], canonical_types()[name])

    def place(self, row: int) -> tuple[int, int]:
        """The file of a row, and its number there."""
        for file, numbers in self._places:
            if row < len(numbers):
                return file, int(numbers[row])
            row -= len(numbers)
        raise IndexError(row)

    def places(self) -> tuple[Numbers, Numbers]:
        """The file of every row, and its number there: [N] each."""
        none = np.zeros(0, np.int64)
        files = np.concatenate([none, *(np.full(len(part), file) for file, part in self._places)])
        return files, np.concatenate([none, *(part for _, part in self._places)])

    def table(self, note: Callable[[str], None], rows: Numbers | None = None) -> pa.Table:
        """All columns of all rows, or of some.

        Args:
            note: called for columns that could not be kept as they are.
            rows: which, in order.
        """
        import pyarrow as pa

        kinds, found = canonical_types(), [*self._columns, *self._spare]
        columns = {name: self.column(name) for name in self._columns}
        for name, parts in self._spare.items():
            legal = legal_name(name, found)
            columns[legal] = self._other(legal, parts, kinds.get(name), note)
        if rows is not None:
            columns = {name: take(column, rows) for name, column in columns.items()}
        return pa.table(columns)

    def _other(
        self,
        name: str,
        parts: list[tuple[int, Values]],
        kind: pa.DataType | None,
        note: Callable[[str], None],
    ) -> pa.ChunkedArray:
        import pyarrow as pa

        whole = _one_type(parts, kind)
        if whole is None:
            values: list[Any] = []
            for first, part in parts:
                values += [None] * (first - len(values))
                values += part.to_pylist() if isinstance(part, pa.Array) else part
            values += [None] * (self.count - len(values))
            array, as_it_is = spare_array(values, kind)
            if not as_it_is:
                note(f"column {name!r} as text, since its values do not fit one type")
            return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
        chunks, done = [], 0
        for first, part in parts:
            chunks += [pa.nulls(first - done, whole), _as(part, whole)]
            done = first + len(part)
        return pa.chunked_array([*chunks, pa.nulls(self.count - done, whole)], whole)


def _one_type(parts: Sequence[tuple[int, Values]], kind: pa.DataType | None) -> pa.DataType | None:
    """The type of a column whose parts are all Arrow arrays of one type, or of none; else None."""
    import pyarrow as pa

    if not all(isinstance(part, pa.Array) for _, part in parts):
        return None
    kinds = {part.type for _, part in parts} - {pa.null()}
    if not kinds:
        return kind or pa.null()
    return kinds.pop() if len(kinds) == 1 and kind in (None, *kinds) else None


def _lossless(values: Values) -> Values:
    """An Arrow array that gives the same values back; else the values as they are."""
    import pyarrow as pa

    if isinstance(values, pa.Array):
        kind = _widest(values.type)
        return _as(values, kind) if _kept_as_it_is(kind) else values.to_pylist()
    array, classes = inferred(values)
    if array is None:
        return values
    kind = array.type.value_type if pa.types.is_list(array.type) else array.type
    plain = {pa.null(): type(None), pa.bool_(): bool, pa.int64(): int, pa.float64(): float, pa.string(): str}
    return array if kind in plain and classes <= {plain[kind], type(None)} else values


def _as(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The array with this type; a cast of lists of nulls to their own type would lose some of these."""
    return array if array.type == kind else array.cast(kind)


def _widest(kind: pa.DataType) -> pa.DataType:
    """The type to which Arrow would convert Python values of this type."""
    import pyarrow as pa

    if pa.types.is_integer(kind) and kind != pa.uint64():
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    return pa.string() if is_text(kind) else kind


def _kept_as_it_is(kind: pa.DataType) -> bool:
    """Types that a data set takes, and that Python values would give again."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return bool(fields) and all(
            "\x00" not in field.name and _kept_as_it_is(field.type) for field in fields
        )
    if pa.types.is_list(kind):
        return _kept_as_it_is(kind.value_type)
    return kind in (pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.binary(), pa.date32())
