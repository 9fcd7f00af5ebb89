"""Checks of whole columns: which cells are texts, messages or numbers as they should be.

In: an Arrow array, or the Python values of a column. Out: an array of the type that a table has, and which
rows need a closer look. In doubt a row is marked: `records` then checks it and reports
what is wrong with it, if anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pluralign.data.messages import ROLES

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Cells",
    "as_arrow",
    "begin_alike",
    "begins_with_turn",
    "inferred",
    "is_list",
    "is_text",
    "longer_than",
    "messages_type",
    "name_lists",
    "names",
    "number_lists",
    "numbers",
    "of_rows",
    "prompts",
    "sizes_of",
    "texts",
]

# All that Python's `strip` takes for a blank.
_BLANK = (
    r"[\t\n\v\f\r \x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]*"
)
_EMPTY = rf"^{_BLANK}\z"
# The beginning of messages that an export turned into text.
_LISTED = rf"""^(?:{_BLANK}\x{{feff}})*{_BLANK}["']?(?:array\()?{_BLANK}[\[{{]"""
# The beginning of a conversation in plain text, as HH-RLHF writes it.
_TURN = rf"^{_BLANK}(Human|Assistant):"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Cells:
    """A column as a table has it, and the rows of it that need a closer look."""

    array: pa.Array
    odd: Mask


def as_arrow(values: Sequence[Any] | pa.Array) -> pa.Array | None:
    """The values as an Arrow array, None where they fit no type or where Arrow would change one.

    Arrow takes True for 1 beside a number with a point.
    """
    import pyarrow as pa

    if isinstance(values, pa.Array):
        return _decoded(values)
    array, classes = inferred(values)
    if array is None:
        return None
    inner = array.type.value_type if pa.types.is_list(array.type) else array.type
    return None if pa.types.is_floating(inner) and bool in classes else array


def inferred(values: Sequence[Any]) -> tuple[pa.Array | None, set[type]]:
    """Python values as an array of the type that Arrow infers, None where they fit none; and their classes,
    or those of the elements of lists."""
    import pyarrow as pa

    try:
        array = pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError):
        return None, set()
    if not isinstance(array, pa.Array):
        return None, set()
    flat = values
    if pa.types.is_list(array.type):
        flat = list(itertools.chain.from_iterable(value for value in values if value is not None))
    return array, set(map(type, flat))


def _decoded(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def is_text(kind: pa.DataType) -> bool:
    """Whether cells of this type are texts."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether cells of this type are lists."""
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def messages_type() -> pa.DataType:
    """The Arrow type of a prompt."""
    import pyarrow as pa

    return pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))


def _nothing(count: int, kind: pa.DataType) -> Cells:
    """Nulls, all of which need a closer look."""
    import pyarrow as pa

    return Cells(pa.nulls(count, kind), np.ones(count, bool))


def _mask(array: pa.Array) -> Mask:
    """A boolean array as a mask, null as False."""
    return np.asarray(array.fill_null(False), bool)


def _matches(array: pa.Array, pattern: str) -> Mask:
    import pyarrow.compute as pc

    return _mask(pc.match_substring_regex(array, pattern))


def begins_with_turn(array: pa.Array) -> Mask:
    """Texts that may hold their prompt."""
    return _matches(array, _TURN)


def begin_alike(first: pa.Array, second: pa.Array) -> Mask:
    """Rows in which the two texts may begin with the same words: their first characters are the same."""
    import pyarrow.compute as pc

    def start(array: pa.Array) -> pa.Array:
        short = pc.utf8_slice_codeunits(pc.replace_substring_regex(array, f"^{_BLANK}", ""), 0, 32)
        return pc.utf8_slice_codeunits(pc.utf8_normalize(pc.replace_substring(short, "\r", ""), "NFC"), 0, 8)

    return _mask(pc.equal(start(first), start(second)))


def texts(values: Sequence[Any] | pa.Array) -> Cells:
    """Texts; null, blank and what may be a list of messages is odd."""
    import pyarrow as pa

    array = as_arrow(values)
    if array is None or not is_text(array.type):
        return _nothing(len(values), pa.string())
    array = array.cast(pa.string())
    return Cells(array, _mask(array.is_null()) | _matches(array, _EMPTY) | _matches(array, _LISTED))


def names(values: Sequence[Any] | pa.Array, *, keep_empty: bool = False) -> Cells:
    """Names: texts or whole numbers, which become text; empty ones become null, or are kept."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = as_arrow(values)
    if array is None or not _is_name(array.type):
        return _nothing(len(values), pa.string())
    array = array.cast(pa.string())
    if not keep_empty:
        array = pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)
    return Cells(array, np.zeros(len(array), bool))


def name_lists(values: Sequence[Any] | pa.Array) -> Cells:
    """Lists of names as text; null stays null, a list with a null in it is odd."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.list_(pa.string())
    array = as_arrow(values)
    if array is None:
        return _nothing(len(values), kind)
    if pa.types.is_null(array.type):
        return Cells(array.cast(kind), np.zeros(len(array), bool))
    if not is_list(array.type) or not _is_name(array.type.value_type):
        return _nothing(len(values), kind)
    array = array.cast(kind)
    return Cells(array, of_rows(_mask(pc.list_flatten(array).is_null()), sizes_of(array)))


def _is_name(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return is_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_null(kind))


def longer_than(array: pa.Array, most: int) -> Mask:
    """Texts of more than so many characters."""
    import pyarrow.compute as pc

    return _mask(pc.greater(pc.utf8_length(array), most))


def numbers(values: Sequence[Any] | pa.Array) -> Cells:
    """Finite numbers as floats; null stays null."""
    import pyarrow as pa

    array = as_arrow(values)
    if array is None or not (_is_number(array.type) or pa.types.is_null(array.type)):
        return _nothing(len(values), pa.float64())
    try:
        array = array.cast(pa.float64())
    except pa.ArrowException:  # whole numbers that no float is equal to
        return _nothing(len(values), pa.float64())
    return Cells(array, _mask(array.is_valid()) & ~np.isfinite(array.to_numpy(zero_copy_only=False)))


def number_lists(values: Sequence[Any] | pa.Array, *, of_one: bool = False) -> Cells:
    """Lists of finite numbers as floats; null stays null, a list with a null in it is odd.

    Args:
        values: of the column.
        of_one: take a number for a list of one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.list_(pa.float64())
    array = as_arrow(values)
    if array is None:
        return _nothing(len(values), kind)
    if pa.types.is_null(array.type):
        return Cells(array.cast(kind), np.zeros(len(array), bool))
    if of_one and _is_number(array.type):
        given = _mask(array.is_valid())
        offsets = pa.array(np.concatenate([[0], given.cumsum()]), pa.int32())
        array = pa.ListArray.from_arrays(offsets, array.drop_null(), mask=pa.array(~given))
    if not is_list(array.type) or not (
        _is_number(array.type.value_type) or pa.types.is_null(array.type.value_type)
    ):
        return _nothing(len(values), kind)
    try:
        array = array.cast(kind)
    except pa.ArrowException:
        return _nothing(len(values), kind)
    flat = pc.list_flatten(array)
    bad = ~np.isfinite(flat.to_numpy(zero_copy_only=False))  # null is NaN there
    return Cells(array, of_rows(bad, sizes_of(array)))


def sizes_of(lists: pa.Array) -> NDArray[np.int64]:
    """How many values each list has; 0 where it is null."""
    import pyarrow.compute as pc

    return np.asarray(pc.list_value_length(lists).fill_null(0), np.int64)


def of_rows(bad: Mask, sizes: NDArray[np.int64]) -> Mask:
    """The rows that hold a bad value; values are concatenated lists."""
    odd = np.zeros(len(sizes), bool)
    odd[np.repeat(np.arange(len(sizes)), sizes)[bad]] = True
    return odd


def prompts(values: Sequence[Any] | pa.Array) -> Cells:
    """Prompts as message lists; of plain text one user message, of null and blank text none."""
    import pyarrow as pa

    array = as_arrow(values)
    if array is None:
        return _nothing(len(values), messages_type())
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    if is_text(array.type):
        return _text_prompts(array.cast(pa.string()))
    if is_list(array.type) and pa.types.is_struct(array.type.value_type):
        return _message_prompts(array)
    if is_list(array.type) and pa.types.is_null(array.type.value_type):  # nothing but empty lists
        none = pa.array([], pa.string())
        sizes = sizes_of(array)
        return Cells(_message_lists(np.zeros_like(sizes), none, none), sizes > 0)
    return _nothing(len(values), messages_type())


def _text_prompts(array: pa.Array) -> Cells:
    import pyarrow as pa

    said = array.fill_null("")
    blank = _matches(said, _EMPTY)
    content = said.filter(pa.array(~blank))
    role = pa.array(["user"] * len(content), pa.string())
    return Cells(_message_lists((~blank).astype(np.int64), role, content), _matches(said, _LISTED))


def _message_prompts(array: pa.Array) -> Cells:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type.value_type
    extra = {kind.field(i).name for i in range(kind.num_fields)} - {"role", "content"}
    if kind.num_fields - len(extra) < 2:
        return _nothing(len(array), messages_type())
    sizes = sizes_of(array)
    messages = pc.list_flatten(array)
    role, content = (_decoded(pc.struct_field(messages, name)) for name in ("role", "content"))
    if not is_text(role.type) or not is_text(content.type):
        return _nothing(len(array), messages_type())
    role, content = role.cast(pa.string()), content.cast(pa.string())
    bad = ~_mask(pc.is_in(role, pa.array(ROLES))) | _matches(content.fill_null(""), _EMPTY)
    for name in extra:
        bad |= _mask(pc.struct_field(messages, name).is_valid())
    return Cells(_message_lists(sizes, role, content), of_rows(bad, sizes))


def _message_lists(sizes: NDArray[np.int64], role: pa.Array, content: pa.Array) -> pa.Array:
    import pyarrow as pa

    offsets = pa.array(np.concatenate([[0], sizes.cumsum()]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([role, content], ["role", "content"]))
