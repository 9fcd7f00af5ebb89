"""What was read lately, by a key that nobody can guess: a measure moves without the model being run again.

The server keeps it, and not the page: what a page sends back would have to be believed, and is some
kilobytes per response at every move of a slider. What has not been asked for in a while goes, and the
oldest goes where memory is short; then the page sends its texts again. Texts are not kept.
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
    """Readings under a limit of memory and of time. For one thread.

    Args:
        limit: bytes of all readings together; one that is larger alone is kept until the next comes.
        seconds: for which a reading is kept after it was last asked for.
        clock: seconds that only grow.
    """

    def __init__(self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the one asked for last is at the end

    def put(self, rows: Sequence[Kept]) -> str:
        """Keeps a reading; returns its key."""
        key = secrets.token_urlsafe(18)
        size = sum(row.num_bytes for row in rows)
        self._entries[key] = _Entry(tuple(rows), size, self._clock())
        self._sweep()
        return key

    def get(self, key: str) -> tuple[Kept, ...] | None:
        """The reading of a key; None where it is not kept any more, or never was."""
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
