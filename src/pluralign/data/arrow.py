"""Rows -> a typed `datasets.Dataset`.

In: rows that `records` accepted or that `bridges` made. Out: canonical columns first, with fixed types, then
the others with the type that Arrow infers for them.
Values are not checked here; in a column that nothing needs, values that do not fit become text.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pluralign.data.batches import BATCH_ROWS
from pluralign.data.problems import preview
from pluralign.data.records import SIDES, Shape
from pluralign.data.spare_columns import legal_name, spare_array
from pluralign.errors import DataError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["canonical_columns", "canonical_types", "data_set", "to_arrays", "to_dataset"]


def canonical_types() -> dict[str, pa.DataType]:
    """Every column that the package knows -> its Arrow type."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    sides = [side for names in SIDES.values() for side in names]
    return {
        **dict.fromkeys(["id", "subset", "group", "attribute", "split", "system", *sides], text),
        **dict.fromkeys(["ratings", "scale", "true_quantiles"], pa.list_(number)),
        **dict.fromkeys(["true_mean", "weight", "margin"], number),
        "prompt": pa.list_(pa.struct({"role": text, "content": text})),
        "votes": pa.list_(pa.int8()),
        "rater_ids": pa.list_(text),
    }


def canonical_columns(shape: Shape) -> tuple[str, ...]:
    """The canonical columns of a shape, in the order of the data set."""
    columns = {
        "ratings": ("attribute", "ratings", "rater_ids", "scale"),
        "pairs": (),
        "comparisons": ("votes", "rater_ids"),
        "responses": (),
    }
    return ("id", "prompt", *SIDES[shape], *columns[shape], "subset", "group")


def to_dataset(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    name: str = "rows",
    note: Callable[[str], None] = lambda _: None,
) -> datasets.Dataset:
    """Builds a data set from rows.

    Args:
        rows: may have more columns than `columns`; missing values become null.
        columns: the columns that come first and exist even without rows; names that the package knows.
        name: the name of the source in messages.
        note: called with a sentence for each other column that could not be kept as it is.

    Returns:
        `columns`, then the others in the order of their first appearance.

    Raises:
        DataError: one of `columns` mixes types.
    """
    import pyarrow as pa

    types = canonical_types()
    known = to_arrays(rows, [column for column in columns if column in types], name)
    found = dict.fromkeys([*columns, *(column for row in rows for column in row)])
    arrays = {}
    for column in found:
        values = [row.get(column) for row in rows]
        if column in known:
            arrays[column] = known[column]
        else:
            legal = legal_name(column, found)
            arrays[legal] = _spare(values, types.get(column), legal, note)
    return data_set(pa.table(arrays))


def data_set(table: pa.Table) -> datasets.Dataset:
    """The data set of a table.

    Its fingerprint is a digest of the columns: the one that `datasets` would make pickles the table, and
    holds it three times.
    """
    import datasets
    import pyarrow as pa

    digest = hashlib.blake2b(digest_size=8)
    with pa.ipc.new_stream(pa.PythonFile(_Digest(digest), "w"), table.schema) as stream:
        stream.write_table(table)
    return datasets.Dataset(table, fingerprint=digest.hexdigest())


class _Digest(io.RawIOBase):
    """A file that keeps nothing but a digest of what is written."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)


def to_arrays(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], name: str
) -> dict[str, pa.ChunkedArray]:
    """Columns that the package knows, with their types.

    Raises:
        DataError: one of them mixes types.
    """
    import pyarrow as pa

    types, arrays = canonical_types(), {}
    for column in columns:
        values = [row.get(column) for row in rows]
        try:
            arrays[column] = _chunked(values, types[column])
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            kinds = sorted({type(value).__name__ for value in values if value is not None})
            raise DataError(
                f"{name}: column {column!r} holds {' and '.join(kinds)} that do not fit in one column "
                f"({preview(str(error))}); allowed: one type per column"
            ) from error
    return arrays


def _chunked(values: Sequence[Any], kind: pa.DataType) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array(
        [pa.array(values[i : i + BATCH_ROWS], kind) for i in range(0, len(values), BATCH_ROWS)], kind
    )


def _spare(
    values: Sequence[Any], kind: pa.DataType | None, name: str, note: Callable[[str], None]
) -> pa.Array | pa.ChunkedArray:
    array, as_it_is = spare_array(values, kind)
    if not as_it_is:
        note(f"column {name!r} as text, since its values do not fit one type")
    return array
