"""How much memory a process has, and the most that it had during some work (Linux)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Memory:
    """Bytes in memory before the work, and the most of them until it ended."""

    before: int
    peak: int


def resident(process: str = "self") -> int:
    """Bytes of a process in memory, by its number; this one by default."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def watched_memory() -> Iterator[Memory]:
    """Reads it every 10 ms in a thread of its own, until the block ends."""
    start, stop = resident(), threading.Event()
    memory = Memory(start, start)

    def watch() -> None:
        while not stop.wait(0.01):
            memory.peak = max(memory.peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield memory
    finally:
        stop.set()
        watcher.join()
