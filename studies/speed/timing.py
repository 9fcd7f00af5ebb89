"""Timing on a machine that others use too: neighbours in time are compared, and the median pair counts.

In: functions. Out: wall and CPU seconds, and ratios of pairs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch


class Timing:
    """Seconds of several ways to do the same work, run next to each other and compared pair by pair.

    A busy neighbour slows both sides of a pair alike, the order changes from pair to pair, and the median of
    the ratios ignores a pair that was disturbed on one side. CPU time is kept beside wall time: on one thread
    it leaves out the waiting.
    """

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    def run(self, name: str, work: Callable[[], Any]) -> None:
        """Do the work once and note how long it took."""
        gpu = torch.cuda.is_available()  # before the clock runs, since the answer may take milliseconds
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        if gpu:
            torch.cuda.synchronize()
        self.cpu.setdefault(name, []).append(time.process_time() - cpu)
        self.wall.setdefault(name, []).append(time.perf_counter() - wall)

    def in_turn(self, number: int, ways: dict[str, Callable[[], Any]]) -> None:
        """Every way once; every second time in reverse order."""
        for name in list(ways)[:: -1 if number % 2 else 1]:
            self.run(name, ways[name])

    def seconds(self) -> dict[str, Any]:
        """Wall time of each way."""
        return {name: summary(values) for name, values in self.wall.items()}

    def ratio(self, slow: str, fast: str, units: float = 1.0) -> dict[str, Any]:
        """How many times as fast, where a unit of `fast` does `units` times the work."""
        wall, cpu = (
            [units * one / other for one, other in zip(times[slow], times[fast], strict=True)]
            for times in (self.wall, self.cpu)
        )
        return {**summary(wall), "repeats": len(wall), "of_cpu_time": summary(cpu)}


def rounds(seconds: float, least: int = 3, most: int = 15) -> Iterator[int]:
    """0, 1, 2, ... until another round would probably take longer than `seconds` in all."""
    started = time.perf_counter()
    for number in range(most):
        yield number
        used = time.perf_counter() - started
        if number + 1 >= least and used * (number + 2) / (number + 1) > seconds:
            return


def summary(values: Sequence[float]) -> dict[str, float]:
    """What is kept of repeated measurements."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
