"""How many threads torch should use, given what else this machine is doing.

In: the number of cores and how busy they are. Out: a number of threads, which only entry points set: the
command line, studies, and a backbone that is loaded with `num_threads="auto"`. Two torch threads that share a
core with a busy process wait for each other at every operation and are many times slower than one, so cores
in use by other processes are left alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pluralign.errors import ConfigError

__all__ = ["busy_cores", "choose_num_threads", "torch_threads", "use_idle_cores"]

_STAT = Path("/proc/stat")


def choose_num_threads(cores: int | None = None, busy: float | None = None) -> int:
    """Threads for torch: `OMP_NUM_THREADS` if it is set, otherwise the idle cores, at least one.

    Args:
        cores: cores this process may run on; by default queried from the system.
        busy: cores in use by other processes; by default measured for a tenth of a second.
    """
    stated = os.environ.get("OMP_NUM_THREADS")
    if stated:
        if not stated.isdecimal() or int(stated) < 1:
            raise ConfigError(f"OMP_NUM_THREADS={stated!r} must be a number of threads, 1 or more")
        return int(stated)
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1:
        return 1
    return max(1, cores - round(busy_cores() if busy is None else busy))


def busy_cores(seconds: float = 0.1) -> float:
    """Cores in use by other processes, measured while this thread sleeps (the load average if there is no
    /proc/stat).

    The load average alone would also count what this process did in the last minute.
    """
    if not _STAT.exists():
        return os.getloadavg()[0]
    before, start = _used_ticks(), time.perf_counter()
    time.sleep(seconds)
    ticks, elapsed = _used_ticks() - before, time.perf_counter() - start
    return ticks / (os.sysconf("SC_CLK_TCK") * elapsed)


def _used_ticks() -> int:
    # user nice system idle iowait irq softirq steal ...
    fields = [int(field) for field in _STAT.read_text().split("\n", 1)[0].split()[1:]]
    return sum(fields[:3]) + sum(fields[5:8])


def use_idle_cores() -> None:
    """Sets this process's torch threads to `choose_num_threads()`; for programs, not for libraries."""
    torch.set_num_threads(choose_num_threads())


@contextmanager
def torch_threads(num_threads: int) -> Iterator[None]:
    """Runs the body with `num_threads` torch threads, then restores the previous number."""
    previous = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(previous)
