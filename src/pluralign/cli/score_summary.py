"""The summary that `pluralign score` prints: how many utilities, in which unit, and whether they differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["UNIT", "UtilitySummary"]

_ROUNDING = 4 * 2.0**-23  # of single precision
UNIT = "units of the reference standard deviation, where 0 is the mean of the reference responses"


class UtilitySummary:
    """Count, range and mean of the utilities, collected while they are written."""

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, utilities: Sequence[float]) -> None:
        """Adds those of some rows, at least one."""
        self.count += len(utilities)
        self.total += math.fsum(utilities)
        self.low, self.high = min(self.low, *utilities), max(self.high, *utilities)

    @property
    def constant(self) -> bool:
        """Whether all are equal up to the rounding of single precision."""
        return self.count > 1 and self.high - self.low <= _ROUNDING * max(abs(self.low), abs(self.high))

    def result(self, target: Path, measure: str, rows: int) -> dict[str, Any]:
        """What --json prints of scores in a file."""
        found = {"scores": str(target), "rows": rows, "risk": measure, "unit": UNIT}
        return found | {"constant": self.constant}

    def words(self, measure: str) -> str:
        """How many, in which unit, and whether they differ."""
        many = "1 utility" if self.count == 1 else f"{self.count:,} utilities"
        words = f"{many}, {measure} of the reward in {UNIT}"
        if self.count == 1:
            return f"{words}: {self.low:.3g}"
        if self.constant:
            return (
                f"{words}: all {self.low:.3g}\nwarning: every response has the same utility, so these scores "
                "rank nothing. Either the model is constant (its fit warned, and `pluralign evaluate` shows "
                "it), or this measure does not distinguish these texts"
            )
        mean = self.total / self.count
        return f"{words}: mean {mean:.3g}, from {self.low:.3g} to {self.high:.3g}"
