"""Which rows an evaluation was about: equal for the same rows, whatever their order, ids and file.

In: a canonical table. Out: a number that adds up over parts of a table, as folds are. A report compares
these before it compares two models. Prompts and groups are not read: responses and
ratings are enough to distinguish rows.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pluralign.data.table_columns import column_values

if TYPE_CHECKING:
    import datasets

__all__ = ["digest_words", "row_digest"]

_READ = ("response", "chosen", "rejected", "response_a", "response_b", "attribute", "ratings", "votes")
_SIZE = 16  # bytes


def row_digest(table: datasets.Dataset) -> int:
    """The sum of a digest of each row: of its responses and of the ratings or votes."""
    names = [name for name in _READ if name in table.column_names]
    rows = zip(*(column_values(table, name) for name in names), strict=True)
    return sum(
        int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=_SIZE).digest()) for row in rows
    )


def digest_words(total: int) -> str:
    """The sum as it is stored: 32 hexadecimal digits."""
    return f"{total % 256**_SIZE:0{2 * _SIZE}x}"
