"""Recent embeddings by a random key, so that a measure can change without the backbone being run again.

The server keeps them, not the page: what a page sends back would have to be trusted, and would be some
kilobytes per response at every move of a slider. Embeddings that were not used for a while are dropped, and
the oldest when memory is short; then the page sends its texts again. Texts are not kept.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pluralign.server.kept import Kept

__all__ = ["Shelf"]


@dataclass
class _Entry:
    rows: tuple[Kept, ...]
    size: int
    used: float


class Shelf:
    """Kept embeddings within limits of memory and time. For one thread.

    Args:
        limit: bytes of all entries together; a single larger one is kept until the next arrives.
        seconds: for which an entry is kept after it was last used.
        clock: seconds that only grow.
    """

    def __init__(self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the one asked for last is at the end

    def put(self, rows: Sequence[Kept]) -> str:
        """Keeps the rows; returns their key."""
        key = secrets.token_urlsafe(18)
        size = sum(row.num_bytes for row in rows)
        self._entries[key] = _Entry(tuple(rows), size, self._clock())
        self._sweep()
        return key

    def get(self, key: str) -> tuple[Kept, ...] | None:
        """The rows of a key; None if they have expired, or never existed."""
        self._sweep()
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.used = self._clock()
        self._entries.move_to_end(key)
        return entry.rows

    @property
    def num_bytes(self) -> int:
        """Memory of what is kept."""
        return sum(entry.size for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def _sweep(self) -> None:
        now, total = self._clock(), self.num_bytes
        for key, entry in list(self._entries.items()):
            is_last = len(self._entries) == 1
            if now - entry.used > self._seconds or (total > self._limit and not is_last):
                total -= entry.size
                del self._entries[key]
