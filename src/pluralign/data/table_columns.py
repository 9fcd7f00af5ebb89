"""Whole columns of a table, as Arrow arrays or Python lists, and numbers for what is equal in them.

In: a `datasets.Dataset`. Out: its columns in the order of its rows. Reading a table row by row costs about a
hundred times as much, and so does reading a column of selected rows through `datasets`, which gathers them
one by one. Does not know what columns mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pluralign.data.batches import BATCH_ROWS

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = [
    "Ragged",
    "arrow_column",
    "by_appearance",
    "column_values",
    "has_plain_prompts",
    "joint_codes",
    "prompt_codes",
    "ragged",
    "take",
    "text_codes",
]


Codes = NDArray[np.int64]


def arrow_column(table: datasets.Dataset, name: str) -> pa.ChunkedArray:
    """A column as Arrow has it, with the rows that were chosen and in their order."""
    if not hasattr(table, "_indices"):  # it is not public
        return table.select_columns([name]).with_format("arrow")[:].column(name)
    chosen = table._indices  # None where all rows are there
    if chosen is None:
        return table.data.column(name)
    return take(table.data.column(name), np.asarray(chosen.column(0), np.int64))


def take(column: pa.ChunkedArray, rows: Codes) -> pa.ChunkedArray:
    """Some rows of a column, in any order and number, in chunks far below Arrow's 2 GiB of text."""
    import pyarrow as pa

    ends = np.cumsum([len(chunk) for chunk in column.chunks], dtype=np.int64)
    begins = ends - [len(chunk) for chunk in column.chunks]
    pieces = []
    for start in range(0, len(rows), BATCH_ROWS):
        part = rows[start : start + BATCH_ROWS]
        chunk = np.searchsorted(ends, part, side="right")
        order = np.argsort(chunk, kind="stable")
        used, first = np.unique(chunk[order], return_index=True)
        found = [
            column.chunk(number).take(pa.array(part[own] - begins[number]))
            for number, own in zip(used.tolist(), np.split(order, first[1:]), strict=True)
        ]
        pieces.append(
            found[0] if len(found) == 1 else pa.concat_arrays(found).take(pa.array(_inverse(order)))
        )
    return pa.chunked_array(pieces, type=column.type)


def _inverse(order: Codes) -> Codes:
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def column_values(table: datasets.Dataset, name: str) -> list[Any]:
    """A column as plain Python values."""
    values: list[Any] = arrow_column(table, name).to_pylist()
    return values


@dataclass(frozen=True)
class Ragged:
    """N lists of numbers, without padding: the concatenated numbers and the length of each list."""

    values: NDArray[np.float64]
    sizes: Codes

    def __getitem__(self, rows: Any) -> Ragged:
        """Some of the lists, in any order."""
        sizes = self.sizes[rows]
        skipped = (self.sizes.cumsum() - self.sizes)[rows] - (sizes.cumsum() - sizes)
        return Ragged(self.values[np.repeat(skipped, sizes) + np.arange(sizes.sum())], sizes)

    def arrow(self) -> pa.Array:
        """The same as a column of Arrow."""
        import pyarrow as pa

        ends = np.append(0, self.sizes.cumsum()).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(self.values))


def ragged(table: datasets.Dataset, name: str) -> Ragged:
    """A column of lists of numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = arrow_column(table, name)
    values = pc.list_flatten(column).cast(pa.float64())
    sizes = pc.list_value_length(column).fill_null(0)
    return Ragged(np.asarray(values, np.float64), np.asarray(sizes, np.int64))


def text_codes(*columns: pa.ChunkedArray) -> list[Codes]:
    """A number for each text of these columns, the same where the texts are equal; null is a text of its own.

    Numbers follow first appearance, column by column.
    """
    import pyarrow as pa

    joined = pa.chunked_array([chunk for column in columns for chunk in column.chunks], type=columns[0].type)
    coded = joined.dictionary_encode(null_encoding="encode")
    numbers = np.concatenate(
        [np.zeros(0, np.int64), *(np.asarray(c.indices, np.int64) for c in coded.chunks)]
    )
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return np.split(numbers, ends)


def has_plain_prompts(column: pa.ChunkedArray) -> bool:
    """Whether these are lists of messages with a role and a text and nothing else, as loaders give them."""
    import pyarrow as pa

    text = pa.string()
    plain = pa.list_(pa.struct({"role": text, "content": text}))
    return bool(column.type == plain) and column.null_count == 0


def prompt_codes(column: pa.ChunkedArray) -> tuple[Codes, Codes]:
    """A number for each prompt, the same where roles and texts are equal; and a row that has each of them.

    Args:
        column: lists of messages, as in `has_plain_prompts`.

    Returns:
        [N] numbers from 0 in order of first appearance, and for each number the first row that has it.
    """
    import pyarrow.compute as pc

    sizes = np.asarray(pc.list_value_length(column).fill_null(0), np.int64)
    messages = pc.list_flatten(column)
    fields = [pc.struct_field(messages, name) for name in ("role", "content")]
    roles, contents = (text_codes(_chunked(field))[0] for field in fields)
    message = _pair_codes(roles, contents)
    start = np.cumsum(sizes) - sizes
    code = np.zeros(len(sizes), np.int64)  # what a prompt says so far; 0 is nothing
    place, rows = 0, np.flatnonzero(sizes > 0)
    while len(rows):
        # Numbers of longer beginnings go above those of shorter ones, which other rows end with.
        code[rows] = 1 + code.max() + _pair_codes(code[rows], message[start[rows] + place])
        place += 1
        rows = rows[sizes[rows] > place]
    return by_appearance(code)


def _chunked(array: Any) -> pa.ChunkedArray:
    import pyarrow as pa

    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _pair_codes(first: Codes, second: Codes) -> Codes:
    """A number for each pair of numbers."""
    if not len(first):
        return first
    _, numbers = np.unique(first * (int(second.max()) + 1) + second, return_inverse=True)
    return np.asarray(numbers, np.int64)


def joint_codes(codes: Sequence[Codes]) -> Codes:
    """A number for each combination of numbers: [N]."""
    joint = codes[0]
    for more in codes[1:]:
        joint = _pair_codes(joint, more)
    return joint


def by_appearance(codes: Codes) -> tuple[Codes, Codes]:
    """The same numbers renamed 0, 1, ... in order of first appearance, and the first row of each."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    return _inverse(order)[inverse], first[order].astype(np.int64)
