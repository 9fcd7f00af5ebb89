"""Pictures from result data: predicted and true distributions.

In: plain numbers from `results.json` and `examples.jsonl`. Out: an SVG and a PNG, drawn on a `canvas`.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pluralign.errors import ArgumentError
from pluralign.report.canvas import MARGIN, WIDTH, Palette, Theme, canvas, heading, palette, save
from pluralign.report.density import density

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["distributions_figure"]

_FLOATS = npt.NDArray[np.float64]

_HEAD, _ROW, _FOOT = 0.92, 0.92, 0.58  # heights in inches
_LEFT = 0.44  # where the curves start, as a share of the width


def distributions_figure(
    path: str | os.PathLike[str],
    levels: npt.ArrayLike,
    predicted: npt.ArrayLike,
    labels: Sequence[str],
    scale: tuple[float, float],
    *,
    true: npt.ArrayLike | None = None,
    observed: Sequence[Sequence[float]] | None = None,
    points: npt.ArrayLike | None = None,
    ranges: bool = False,
    title: str = "What people would say, and what the model predicts",
    axis: str = "reward",
    theme: Theme = "light",
) -> tuple[Path, Path]:
    """One row per response: its text, the true or observed ratings, and the predicted distribution.

    True and predicted distributions are drawn as densities: uniform between neighbouring quantiles, with the
    tail mass at the outer ones, then smoothed. Points on the line mark the predicted quantiles. With few
    levels such a density shows the smoothing more than the distribution; `ranges` draws the quantiles on a
    horizontal line instead.

    Args:
        path: output path, with or without a suffix; the suffix is replaced by `.svg` and `.png`.
        levels: [K] increasing, in (0, 1).
        predicted: [M, K] predicted quantiles.
        labels: [M] response texts; long ones are wrapped and truncated.
        scale: lowest and highest reward of the axis, in the unit of the quantiles.
        true: [M, K] true quantiles, drawn as a filled shape, or None.
        observed: [M] lists of ratings, each drawn as a dot below the line, or None.
        points: [M] predictions of a model that returns one number, each drawn as a stroke, or None.
        ranges: draw each prediction as a line from its lowest to its highest quantile; not with `true`.
        title: heading, up to about 60 characters.
        axis: name of the horizontal axis.
        theme: "light" or "dark".

    Returns:
        Paths of the SVG and the PNG.

    Raises:
        ArgumentError: shapes do not fit, a number is not finite, the scale is empty, or `ranges` with `true`.
        MissingDependencyError: matplotlib is not installed.
    """
    grid = _levels(levels)
    if not len(labels):
        raise ArgumentError("needs at least one response")
    low, high = float(scale[0]), float(scale[1])
    if not low < high:
        raise ArgumentError(f"scale must be (lowest, highest) reward; got {scale}")
    if observed is not None and len(observed) != len(labels):
        raise ArgumentError(
            f"observed needs one list per label; got {len(observed)} for {len(labels)} labels"
        )
    distributions = {"predicted": _quantiles(predicted, "predicted", len(labels), len(grid))}
    if true is not None:
        distributions["true"] = _quantiles(true, "true", len(labels), len(grid))
    if ranges and true is not None:
        raise ArgumentError("ranges draws quantiles and true a density; pass only one of them")
    strokes = None if points is None else _finite(points, "points", (len(labels),))
    x = np.linspace(low, high, 401)
    curves = {name: [density(row, grid, x) for row in rows] for name, rows in distributions.items()}
    top = max(float(curve.max()) for rows in curves.values() for curve in rows)
    faint = 2e-3 * top  # below this only the base line is drawn
    colours = palette(theme)
    entries = [("line", colours.predicted, "predicted by the model")]
    if observed is not None:
        entries.insert(0, ("dots", colours.truth, "ratings"))
    if true is not None:
        entries.insert(0, ("area", colours.truth, "true distribution"))
    if strokes is not None:
        entries.append(("stroke", colours.third, "point estimate"))

    with canvas(WIDTH, _HEAD + _FOOT + _ROW * len(labels), colours) as figure:
        height = figure.get_figheight()
        heading(figure, title, entries, colours)
        for row, label in enumerate(labels):
            bottom = _FOOT + _ROW * (len(labels) - 1 - row)
            axes = figure.add_axes((_LEFT, bottom / height, 1 - _LEFT - MARGIN, 0.94 * _ROW / height))
            axes.set_xlim(low, high)
            axes.set_ylim(-0.2 * top if observed is not None else -0.02 * top, 1.04 * top)
            axes.axis("off")
            axes.axhline(0, color=colours.faint, linewidth=1, zorder=0)
            if true is not None:
                shape = curves["true"][row]
                axes.fill_between(x, shape, where=shape > faint, color=colours.truth, alpha=0.45, linewidth=0)
            if observed is not None:
                _rater_dots(axes, observed[row], colours)
            if strokes is not None:
                axes.vlines(strokes[row], 0, (0.6 if ranges else 0.9) * top, color=colours.third, linewidth=2)
            values, curve = distributions["predicted"][row], curves["predicted"][row]
            if ranges:
                heights = np.full_like(values, 0.3 * top)
                axes.plot(values, heights, color=colours.predicted, linewidth=2.4)
            else:
                heights = np.interp(values, x, curve)
                axes.plot(x, np.where(curve > faint, curve, np.nan), color=colours.predicted, linewidth=1.6)
            axes.plot(values, heights, "o", color=colours.predicted, markersize=5 if ranges else 3.2)
            _label(figure, label, (bottom + 0.4 * _ROW) / height, colours)
        _reward_axis(figure, (low, high), axis, colours)
        return save(figure, path, title)


def _rater_dots(axes: Axes, ratings: Sequence[float], colours: Palette) -> None:
    """One dot per rating below the line, equal ratings side by side."""
    values, counts = np.unique(np.asarray(ratings, dtype=np.float64), return_counts=True)
    low, high = axes.get_xlim()
    room = float(np.diff(values).min()) if len(values) > 1 else high - low
    gap = min(0.014 * (high - low), 0.8 * room / float(counts.max()))
    bottom = axes.get_ylim()[0]
    for value, count in zip(values, counts, strict=True):
        offsets = (np.arange(count) - (count - 1) / 2) * gap
        axes.plot(
            value + offsets,
            np.full(count, 0.55 * bottom),
            "o",
            color=colours.truth,
            markersize=3.6,
            alpha=0.85,
        )


def _reward_axis(figure: Figure, scale: tuple[float, float], name: str, colours: Palette) -> None:
    height = figure.get_figheight()
    axes = figure.add_axes((_LEFT, (_FOOT - 0.02) / height, 1 - _LEFT - MARGIN, 0.001))
    axes.set_xlim(scale)
    axes.patch.set_alpha(0)
    axes.set_yticks([])
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=colours.soft, length=3)
    axes.set_xlabel(name, color=colours.soft, labelpad=2, parse_math=False)


def _label(figure: Figure, text: str, y: float, colours: Palette) -> None:
    """The text of a response in the left column, in at most three lines."""
    label = figure.text(MARGIN, y, "", color=colours.ink, va="center", parse_math=False)
    for width in range(44, 8, -4):
        lines = textwrap.wrap(" ".join(text.split()), width=width, max_lines=3, placeholder=" …")
        label.set_text("\n".join(lines))
        if label.get_window_extent().x1 <= (_LEFT - 0.02) * figure.bbox.width:
            break


def _levels(levels: npt.ArrayLike) -> _FLOATS:
    grid = np.asarray(levels, dtype=np.float64)
    if grid.ndim != 1 or len(grid) < 2 or not ((np.diff(grid) > 0).all() and grid[0] > 0 and grid[-1] < 1):
        raise ArgumentError("levels must be at least two numbers in (0, 1), increasing")
    return grid


def _quantiles(values: npt.ArrayLike, name: str, rows: int, levels: int) -> _FLOATS:
    return np.sort(_finite(values, name, (rows, levels)), axis=1)


def _finite(values: npt.ArrayLike, name: str, shape: tuple[int, ...]) -> _FLOATS:
    table = np.asarray(values, dtype=np.float64)
    if table.shape != shape:
        sizes = ", ".join(f"{size} {of}" for size, of in zip(shape, ("labels", "levels"), strict=False))
        raise ArgumentError(f"{name} must have shape [{sizes}]; got {list(table.shape)}")
    if not np.isfinite(table).all():
        raise ArgumentError(f"{name} has a value that is not finite: leave out that response")
    return table
