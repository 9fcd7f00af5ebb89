"""docs/images/families_raters.svg: how near each family comes to held-out raters, by raters in training.

In: runs. Out: the picture, and which points do not fit into it. Each point is a paired difference to the
average distribution with its interval; the numbers of raters stand at equal steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pluralign.evaluation import Interval
from pluralign.report.canvas import MARGIN, WIDTH, bare_frame, canvas, palette, save
from studies.families.compared import RATERS, SETS, SHORT, Records, difference
from studies.records import ROOT

IMAGES = ROOT / "docs" / "images"
PANELS = ("emobank", "ukpconvarg")
METHODS = {
    "gaussian": "#59636e",
    "gaussian_ensemble": "#009e73",
    "transport": "#cc79a7",
    "quantile": "#d55e00",
    "rps": "#e69f00",
    "cross_entropy": "#0072b2",
}
TOP = 0.07  # one line far above squeezes all others
STEP = 0.06  # between two methods at one number of raters
TITLE = "How near a distribution comes to held-out raters, by raters per response in training"


def above(records: Records) -> list[str]:
    """The points that do not fit in, in words."""
    return [
        f"{SHORT[method]} on {name} with {count} ({d.estimate:.2f})"
        for name in PANELS
        for method in METHODS
        for count, d in _points(records, name, method).items()
        if d.estimate > TOP
    ]


def draw(records: Records) -> Path:
    """Writes the picture."""
    colours, height = palette("light"), 4.0
    with canvas(WIDTH, height, colours) as figure:
        figure.text(
            MARGIN, 1 - 0.3 / height, TITLE, color=colours.ink, fontsize=12.5, weight="bold", va="center"
        )
        shared: Any = None
        for place, name in enumerate(PANELS):
            shared = axes = figure.add_axes((0.14 + 0.35 * place, 0.15, 0.31, 0.63), sharey=shared)
            bare_frame(axes, colours)
            axes.axhline(0, color=colours.ink, linewidth=1, linestyle="--", zorder=2)
            counts = [t[1] or SETS[name] for t in RATERS if (name, "constant", t) in records]
            for rank, (method, colour) in enumerate(METHODS.items()):
                offset = STEP * (rank - (len(METHODS) - 1) / 2)
                _line(axes, records, name, method, counts, offset, colour)
            axes.set_xticks(range(len(counts)), [str(count) for count in counts])
            axes.set_xlim(-0.4, len(counts) - 0.6)
            axes.set_title(name, color=colours.soft, fontsize=10, loc="left")
            axes.set_xlabel("raters per response", color=colours.soft)
            axes.grid(axis="y", color=colours.faint, linewidth=0.6)
            if place:
                axes.tick_params(labelleft=False)
            else:
                axes.set_ylabel("squared distance minus\nthe average distribution's", color=colours.soft)
        for row, (method, colour) in enumerate(METHODS.items()):
            figure.text(0.83, 0.72 - 0.075 * row, SHORT[method], color=colour, fontsize=9, va="center")
        figure.text(
            0.83,
            0.72 - 0.075 * len(METHODS),
            "- - average distribution",
            color=colours.ink,
            fontsize=9,
            va="center",
        )
        svg, png = save(figure, IMAGES / "families_raters", TITLE)
    png.unlink()
    return svg


def _line(
    axes: Any, records: Records, name: str, method: str, counts: list[int], offset: float, colour: str
) -> None:
    """Draws the points of a method that fit in."""
    found = _points(records, name, method)
    inside = {count: d for count, d in found.items() if d.estimate <= TOP}
    x = [counts.index(count) + offset for count in inside]
    middle = [d.estimate for d in inside.values()]
    ends = [d.to_dict() for d in inside.values()]
    reach = [[e["estimate"] - e["low"] for e in ends], [e["high"] - e["estimate"] for e in ends]]
    axes.errorbar(
        x, middle, reach, color=colour, linewidth=1.4, elinewidth=0.9, marker="o", markersize=3, zorder=3
    )


def _points(records: Records, name: str, method: str) -> dict[int, Interval]:
    """By number of raters, the paired difference to the average distribution."""
    return {
        t[1] or SETS[name]: difference(records, name, method, t)
        for t in RATERS
        if (name, method, t) in records
    }
