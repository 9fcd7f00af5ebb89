"""The canvas of all pictures: size, colours, heading, and how they are written to disk.

In: sizes, words and a matplotlib figure. Out: an SVG (with text as text) and a PNG; the same figure gives the
same bytes for the same matplotlib version. matplotlib (extra `report`) is imported when the first picture is
drawn.

A figure has its own background, so it is readable on light and dark pages. Colours are from Okabe and Ito's
palette, which colour-blind people can distinguish.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pluralign.errors import ArgumentError, MissingDependencyError
from pluralign.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MARGIN", "WIDTH", "Palette", "Theme", "bare_frame", "canvas", "heading", "palette", "save"]

Theme = Literal["light", "dark"]

WIDTH = 8.0  # inches; 800 px on a page
MARGIN = 0.03  # share of the width


@dataclass(frozen=True)
class Palette:
    """Colours by purpose."""

    paper: str
    ink: str
    soft: str
    faint: str
    truth: str
    predicted: str
    third: str


_PALETTES = {
    "light": Palette("#ffffff", "#1f2328", "#59636e", "#d8dce1", "#0072b2", "#d55e00", "#009e73"),
    "dark": Palette("#12161c", "#f0f3f6", "#a3adb8", "#39414b", "#56b4e9", "#f0a030", "#2fc79a"),
}


def palette(theme: str) -> Palette:
    """The colours of a theme; ArgumentError if there is no such theme."""
    if theme not in _PALETTES:
        raise ArgumentError(f"theme must be one of {', '.join(_PALETTES)}; got {theme!r}")
    return _PALETTES[theme]


@contextmanager
def canvas(width: float, height: float, colours: Palette) -> Iterator[Figure]:
    """A figure on a rounded background, with settings that do not depend on those of the user."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
        from matplotlib.patches import FancyBboxPatch
    except ImportError as error:
        raise MissingDependencyError(
            "pictures need matplotlib, which is not installed: pip install 'pluralign[report]'"
        ) from error
    settings = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
        "font.size": 9.5,
        "svg.fonttype": "none",
        "svg.hashsalt": "pluralign",
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        figure = Figure(figsize=(width, height), dpi=100)
        figure.patch.set_alpha(0)
        inset = 0.02
        paper = FancyBboxPatch(
            (inset, inset),
            width - 2 * inset,
            height - 2 * inset,
            boxstyle="round,pad=0,rounding_size=0.12",
            transform=figure.dpi_scale_trans,
            facecolor=colours.paper,
            edgecolor=colours.faint,
            zorder=-1,
            linewidth=1,
        )
        figure.add_artist(paper)
        yield figure


def heading(figure: Figure, title: str, entries: Sequence[tuple[str, str, str]], colours: Palette) -> None:
    """Title, and below it a legend of (kind, colour, words); kinds are area, line, dots or stroke."""
    height = figure.get_figheight()
    figure.text(
        MARGIN,
        1 - 0.32 / height,
        title,
        color=colours.ink,
        fontsize=13,
        weight="bold",
        va="center",
        parse_math=False,
    )
    left, y = MARGIN, 1 - 0.66 / height
    for kind, colour, name in entries:
        marks = figure.add_axes((left, y - 0.07 / height, 0.035, 0.14 / height))
        marks.axis("off")
        marks.set_xlim(0, 1)
        marks.set_ylim(0, 1)
        if kind == "area":
            marks.fill_between([0, 1], [1, 1], color=colour, alpha=0.45, linewidth=0)
        elif kind == "stroke":
            marks.plot([0.5, 0.5], [0, 1], color=colour, linewidth=2)
        else:
            marks.plot(
                [0.1, 0.5, 0.9], [0.5] * 3, "o-" if kind == "line" else "o", color=colour, markersize=3.2
            )
        words = figure.text(left + 0.045, y, name, color=colours.soft, va="center")
        end = words.get_window_extent().x1
        left = end / (figure.get_figwidth() * figure.dpi) + 0.035


def bare_frame(axes: Axes, colours: Palette) -> None:
    """Removes everything but two thin spines and the numbers."""
    axes.patch.set_alpha(0)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(colours.faint)
    axes.tick_params(colors=colours.soft, length=0, pad=5)


def save(figure: Figure, path: str | os.PathLike[str], title: str) -> tuple[Path, Path]:
    """Writes both files, each completely or not at all."""
    base = Path(path)
    base = base.with_suffix("") if base.suffix in (".svg", ".png") else base
    svg, png = base.parent / f"{base.name}.svg", base.parent / f"{base.name}.png"
    metadata: dict[Path, dict[str, Any]] = {svg: {"Date": None, "Title": title}, png: {"Title": title}}
    for target, entries in metadata.items():
        with whole_file(target) as work:
            figure.savefig(work, format=target.suffix[1:], dpi=200, metadata=entries)
    return svg, png
