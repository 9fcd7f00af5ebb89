"""Makes columns that the package does not need fit for a table, whatever they contain.

In: the values of such a column. Out: an Arrow array of the values, or of their JSON text; and names
that Arrow and UTF-8 can represent. Nothing here raises: a column that is not needed never stops loading.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["legal_name", "spare_array", "spelled"]


def spare_array(values: Sequence[Any], kind: pa.DataType | None) -> tuple[pa.Array | pa.ChunkedArray, bool]:
    """The column, and whether its values were kept unchanged.

    In text that is not valid Unicode, broken characters are escaped ("\\\\ud83d"); if values do not fit in
    one column, everything except text becomes JSON text.

    Args:
        values: one per row, None for a missing value.
        kind: the type of this column if the package knows it.
    """
    import pyarrow as pa

    for attempt in (lambda: pa.array(values, kind) if kind is not None else None, lambda: pa.array(values)):
        array = _tried(attempt)
        if array is not None and _is_plain(array.type):
            return array, True
    return pa.array([None if value is None else _written(value) for value in values], pa.string()), False


def legal_name(name: str, taken: Collection[str]) -> str:
    """The column's name with characters spelled out that no table takes (NUL, half a surrogate pair)."""
    legal = spelled(name).replace("\x00", "\\x00")
    while legal != name and legal in taken:
        legal += "_"
    return legal


def _tried(make: Callable[[], pa.Array | pa.ChunkedArray | None]) -> pa.Array | pa.ChunkedArray | None:
    import pyarrow as pa

    try:
        return make()
    except (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a data set accepts this type: no names with NUL, and no objects without keys."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return bool(fields) and all("\x00" not in f.name and _is_plain(f.type) for f in fields)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_plain(kind.value_type)
    return True


def spelled(text: str) -> str:
    """The text with halves of surrogate pairs spelled out, which no table takes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _written(value: Any) -> str:
    if isinstance(value, str):
        return spelled(value)
    try:
        return json.dumps(value, default=repr)
    except (TypeError, ValueError, RecursionError):  # keys of mixed kinds, a list within itself
        return spelled(repr(value))
