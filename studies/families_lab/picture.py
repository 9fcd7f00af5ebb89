"""docs/images/families_recovery.svg: how near each family comes to the truth as rated responses grow.

In:  the records of the recovery study. Out: one picture of two panels. It computes nothing but means and
Student t intervals over seeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pluralign.report.canvas import WIDTH, bare_frame, canvas, heading, palette, save
from studies.cells import Records, mean_and_half, where
from studies.records import ROOT

PICTURE = ROOT / "docs" / "images" / "families_recovery"
TITLE = "How near the families come to the true distribution of ratings"
PANELS = {"minilm": "MiniLM", "traits": "features that hold everything people respond to"}
# family -> words and colour, of Okabe and Ito's palette
LINES = {
    "quantile": ("quantile", "#0072b2"),
    "gaussian": ("Gaussian residual", "#e69f00"),
    "gaussian_ensemble": ("Gaussian ensemble", "#009e73"),
    "cross_entropy": ("categories, cross-entropy", "#56b4e9"),
    "rps": ("categories, RPS", "#cc79a7"),
    "transport": ("categories, transport", "#d55e00"),
    "constant": ("the average distribution for every text", "#59636e"),
}
DASHED = (0, (4, 2.5))


def draw(records: Records) -> Path:
    """Writes the picture from the runs of the recovery study."""
    colours = palette("light")
    with canvas(WIDTH, 4.9, colours) as figure:
        heading(figure, TITLE, [], colours)
        for left, (features, name) in zip((0.085, 0.56), PANELS.items(), strict=True):
            axes = figure.add_axes((left, 0.12, 0.405, 0.58))
            bare_frame(axes, colours)
            axes.set_title(name, color=colours.ink, fontsize=10.5, loc="left", pad=7)
            axes.set_xscale("log")
            axes.set_xlim(80, 38_000)
            ticks = (100, 1000, 10_000, 30_000)
            axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
            axes.minorticks_off()
            axes.set_ylim(0, 0.95)
            axes.set_xlabel("rated responses, one rater each", color=colours.soft)
            if features == "minilm":
                axes.set_ylabel("W1 to the truth, in points of 1 to 5", color=colours.soft)
            for family, (words, colour) in LINES.items():
                style = DASHED if family == "constant" else "-"
                _line(axes, points(records, features, 1, family), words, colour, style)
            _line(
                axes,
                points(records, features, 5, "transport"),
                "transport, five raters to a response, as many ratings",
                LINES["transport"][1],
                DASHED,
            )
        figure.legend(
            *axes.get_legend_handles_labels(),
            loc="upper left",
            bbox_to_anchor=(0.022, 0.915),
            ncols=3,
            frameon=False,
            labelcolor=colours.soft,
            fontsize=8.5,
            handlelength=1.8,
            columnspacing=1.6,
            labelspacing=0.35,
        )
        svg, png = save(figure, PICTURE, TITLE)
    png.unlink()
    return svg


def points(records: Records, features: str, raters: int, family: str) -> list[tuple[int, float, float]]:
    """Number of ratings, mean W1 and half its interval, ascending."""
    sizes = sorted({r["settings"]["ratings"] for r in records if r["settings"]["raters"] == raters})
    found = []
    for size in sizes:
        runs = where(records, features=features, raters=raters, ratings=size)
        if runs:
            found.append((size, *mean_and_half([run[family]["w1"] for run in runs])))
    return found


def _line(axes: Any, values: list[tuple[int, float, float]], words: str, colour: str, style: Any) -> None:
    if not values:
        return
    sizes, means, halves = zip(*values, strict=True)
    low = [mean - half for mean, half in zip(means, halves, strict=True)]
    high = [mean + half for mean, half in zip(means, halves, strict=True)]
    axes.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        sizes, means, color=colour, linewidth=1.6, linestyle=style, marker="o", markersize=3, label=words
    )
