"""The log of a run, and its best evaluation.

In: a step and numbers by name. Out: metrics.jsonl, one JSON object per line, and calls of loggers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralign.errors import ConfigError
from pluralign.files import append_line, write_file

__all__ = ["Best", "Journal", "Log"]

Log = Callable[[int, Mapping[str, float]], None]


class Journal:
    """Lines of metrics, in memory and in a file.

    Args:
        path: path of the file.
        loggers: called with each line.
        writes: whether this process writes and calls loggers.
    """

    def __init__(self, path: Path, loggers: Sequence[Log], writes: bool) -> None:
        self.lines: list[dict[str, Any]] = []
        self._path, self._loggers, self._writes = path, tuple(loggers), writes

    def start(self, step: int) -> None:
        """Continues after a step: lines of later steps, from a run that was abandoned, are removed."""
        self.lines = []
        if step and self._path.exists():
            for text in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    line = json.loads(text)
                except ValueError:  # incomplete since the run was killed
                    continue
                if line["step"] <= step:
                    self.lines.append(line)
        if self._writes:
            write_file(self._path, "".join(json.dumps(line) + "\n" for line in self.lines))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds a line; a number that is not finite is null in the file."""
        line = {"step": step, **{k: v if math.isfinite(v) else None for k, v in metrics.items()}}
        self.lines.append(line)
        if self._writes:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self._path, json.dumps(line))
            for log in self._loggers:
                log(step, metrics)

    def evaluation(self, step: int) -> dict[str, Any]:
        """The numbers of the evaluation after a step; empty if there was none."""
        lines = [line for line in self.lines if line["step"] == step]
        found = {key: value for line in lines for key, value in line.items() if key.startswith("eval/")}
        return {key.removeprefix("eval/"): value for key, value in found.items()}


class Best:
    """The best evaluation so far.

    Args:
        metric: the metric to compare; None for gold if there is one, else reward.
        lowest: a lower value is better.

    Attributes:
        found: step, metric and value; None before the first evaluation.
    """

    def __init__(self, metric: str | None, lowest: bool = False) -> None:
        self._metric, self._lowest = metric, lowest
        self.found: dict[str, Any] | None = None

    def offer(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether this evaluation is better than all before; the first of equal ones is kept.

        Raises:
            ConfigError: the evaluation has no such number.
        """
        metric = self._metric or ("gold" if "gold" in metrics else "reward")
        if metric not in metrics:
            raise ConfigError(f"best_metric: received {metric!r}; allowed: {', '.join(sorted(metrics))}")
        value = metrics[metric]
        if self.found is not None:
            apart = value - self.found["value"]
            if not (apart < 0 if self._lowest else apart > 0):
                return False
        self.found = {"step": step, "metric": metric, "value": value}
        return True
