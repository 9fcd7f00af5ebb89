"""Checks that a table which a user passes comes from a loader.

In: anything. Out: nothing, or an error that names the loader. Rows are not read, since loaders check them.
"""

from __future__ import annotations

from typing import Any

from pluralign.errors import ArgumentError, DataError

__all__ = ["check_table"]

_COLUMNS = {
    "ratings": {"prompt", "response", "attribute", "ratings", "scale", "group"},
    "pairs": {"prompt", "chosen", "rejected", "group"},
    "votes": {"prompt", "response_a", "response_b", "votes", "group"},
}


def check_table(name: str, table: Any) -> None:
    """Rejects anything that is not a data set of this shape, or has no rows.

    Args:
        name: `ratings`, `pairs` or `votes`.
        table: the argument.

    Raises:
        ArgumentError: it is not a data set.
        DataError: columns are missing, or there are no rows.
    """
    loader = {"votes": "load_comparisons"}.get(name, f"load_{name}")
    if not hasattr(table, "column_names"):
        raise ArgumentError(f"{name}: received {type(table).__name__}; pass what {loader} returns")
    missing = sorted(_COLUMNS[name] - set(table.column_names))
    if missing:
        raise DataError(f"{name}: no column {', '.join(missing)}; pass what {loader} returns")
    if not len(table):
        raise DataError(f"{name}: received no rows; at least one is needed")
