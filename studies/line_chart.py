"""Pictures of the studies: a mean and its interval along one axis, a line per method, panels side by side.

In: numbers and words. Out: an SVG under docs/images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pluralign.report.canvas import MARGIN, WIDTH, bare_frame, canvas, palette, save
from studies.records import ROOT

IMAGES = ROOT / "docs" / "images"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#59636e", "#1f2328")
_GAP = 0.062  # least distance of two labels, as a share of a panel's height


@dataclass(frozen=True)
class Line:
    """One method along the axis.

    Attributes:
        x: where it was measured, ascending.
        mean: its mean there.
        low: lower ends of the intervals, or the means themselves.
        high: upper ends.
        dashed: for a constant, a bound or anything else that is not a method.
    """

    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    dashed: bool = False


def line_chart(
    name: str,
    title: str,
    panels: Mapping[str, Mapping[str, Line]],
    *,
    x_label: str,
    y_label: str,
    base: int = 10,
) -> Path:
    """Writes docs/images/<name>.svg; a name has the same colour in every panel.

    Args:
        name: of the file.
        title: of the picture.
        panels: lines by name, by the heading of their panel.
        x_label: under every panel.
        y_label: beside the first.
        base: of the logarithmic axis.
    """
    colours = palette("light")
    names = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    colour = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(names)}
    height, words = 4.0, 0.19  # inches; share of the width for the names beside each panel
    with canvas(WIDTH * 1.25, height, colours) as figure:
        figure.text(
            MARGIN, 1 - 0.32 / height, title, color=colours.ink, fontsize=13, weight="bold", va="center"
        )
        room = (1 - 0.075) / len(panels)
        shared: Any = None
        for place, (heading, lines) in enumerate(panels.items()):
            left = 0.075 + place * room
            shared = axes = figure.add_axes((left, 0.145, room - words, 0.62), sharey=shared)
            bare_frame(axes, colours)
            axes.set_xscale("log", base=base)
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
            for label, line in lines.items():
                style = "--" if line.dashed else "-"
                axes.plot(line.x, line.mean, style, color=colour[label], linewidth=1.6, zorder=3)
                axes.fill_between(line.x, line.low, line.high, color=colour[label], alpha=0.09, linewidth=0)
            axes.set_title(heading, color=colours.soft, fontsize=10, loc="left")
            axes.set_xlabel(x_label, color=colours.soft)
            if place == 0:
                axes.set_ylabel(y_label, color=colours.soft)
            axes.grid(axis="y", color=colours.faint, linewidth=0.6)
        means = [value for lines in panels.values() for line in lines.values() for value in line.mean]
        margin = 0.08 * (max(means) - min(means))
        shared.set_ylim(min(means) - margin, max(means) + margin)  # wide intervals may leave the picture
        for axes, lines in zip(figure.axes, panels.values(), strict=True):
            _names(axes, {label: line.mean[-1] for label, line in lines.items()}, colour)
        svg, png = save(figure, IMAGES / name, title)
    png.unlink()
    return svg


def _names(axes: Any, ends: Mapping[str, float], colour: Mapping[str, str]) -> None:
    """The names of lines beside their ends, as near as they can stand without touching."""
    low, high = axes.get_ylim()
    places = {label: float(value - low) / float(high - low) for label, value in ends.items()}
    order = sorted(places, key=places.__getitem__)
    for _ in range(200):  # neighbours that touch push each other apart
        for below, above in pairwise(order):
            short = max(0.0, _GAP - (places[above] - places[below])) / 2
            places[below], places[above] = places[below] - short, places[above] + short
    for label, y in places.items():
        axes.text(1.03, y, label, transform=axes.transAxes, color=colour[label], fontsize=8, va="center")
