"""A rectangle with two axes: data in, SVG coordinates out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Frame", "ticks"]


@dataclass(frozen=True)
class Frame:
    """Plotting area inside an SVG of `width` x `height` units.

    Attributes:
        width: width of the SVG.
        height: height of the SVG.
        x: data at the left and right end of the plotting area.
        y: data at the bottom and top.
        left: left margin.
        right: right margin.
        top: top margin.
        bottom: bottom margin.
    """

    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float] = (0.0, 1.0)
    left: float = 0.0
    right: float = 0.0
    top: float = 0.0
    bottom: float = 0.0

    def px(self, value: float) -> float:
        """Horizontal position of a value, clamped to the plotting area."""
        share = (value - self.x[0]) / (self.x[1] - self.x[0])
        return round(self.left + min(max(share, 0.0), 1.0) * (self.width - self.left - self.right), 1)

    def py(self, value: float) -> float:
        """Vertical position of a value, clamped to the plotting area."""
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return round(
            self.height - self.bottom - min(max(share, 0.0), 1.0) * (self.height - self.top - self.bottom), 1
        )

    def points(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        """Coordinates of a polyline."""
        return " ".join(f"{self.px(x):g},{self.py(y):g}" for x, y in zip(xs, ys, strict=True))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two ends: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]
