"""One page on a training run: curves, warning signs, and what the policy wrote before and after.

In: what `run_content` builds. Out: one HTML file that loads nothing and runs nothing, the same bytes for the
same content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pluralign.files import whole_file
from pluralign.report.canvas import palette, themes
from pluralign.report.frame import Frame, ticks
from pluralign.report.html import environment

__all__ = ["render_run", "write_run"]


def render_run(content: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        content: of `build_run_content`.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    engine = environment("run")
    return engine.get_template("run.html.jinja").render(
        **content,
        title=_title(content["run"]),
        colours=themes(_run_colours),
        ticks=ticks,
        curves_drawn=[(curve, _frame(curve)) for curve in content["curves"]],
        paths_drawn=[(path, _square(path["x"], path["y"])) for path in content["against_kl"]],
        band=_band,
        per_point=max(
            [line["per_point"] for curve in content["curves"] for line in curve["lines"]], default=1
        ),
        zip=zip,
    )


def write_run(content: Mapping[str, Any], path: str | Path) -> None:
    """Renders the page and writes it completely or not at all.

    Raises:
        ArtifactError: the path is a folder, or cannot be written.
        MissingDependencyError: jinja2 is not installed.
    """
    with whole_file(path) as work:
        work.write_text(render_run(content), encoding="utf-8")


def _run_colours(theme: str) -> tuple[str, ...]:
    colours = palette(theme)
    return colours.predicted, colours.truth, colours.third


def _title(run: Mapping[str, Any]) -> str:
    method = {"ppo": "PPO", "qrpo": "QRPO", "dpo": "DPO", "rebel": "REBEL", "simpo": "SimPO"}
    name = method.get(run["method"] or "", "Training")
    policy = run["settings"].get("model")
    return f"{name} of {policy}" if policy else f"{name} in {Path(run['folder']).resolve().name}"


def _frame(curve: Mapping[str, Any]) -> Frame:
    """A frame around everything that is drawn, bands and levels included."""
    parts = [*curve["lines"], *([curve["dots"]] if curve["dots"] else [])]
    xs = [x for part in parts for x in part["x"]]
    ys = [y for part in parts for y in part["y"]]
    for line in curve["lines"]:
        for middle, spread in zip(line["y"], line.get("spread", ()), strict=False):
            ys += [middle - spread, middle + spread]
    if curve["level"] is not None:
        ys.append(curve["level"])
    x = min(0.0, *xs), max(xs)
    low, high = min(ys), max(ys)
    room = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    ends = x if x[0] < x[1] else (x[0], x[0] + 1.0)
    return Frame(340, 220, ends, (low - room, high + room), 46, 12, 8 + 15 * max(len(curve["lines"]), 1), 36)


def _square(xs: Iterable[float], ys: Iterable[float]) -> Frame:
    across, up = list(xs), list(ys)
    low, high = min(up), max(up)
    room = 0.12 * (high - low) or 0.5 * abs(high) or 0.5
    return Frame(340, 220, (0.0, 1.08 * max(across) or 1.0), (low - room, high + room), 46, 12, 12, 36)


def _band(line: Mapping[str, Any], frame: Frame) -> str:
    """The outline of a line's band: along its upper edge and back along its lower one."""
    x, y, spread = line["x"], line["y"], line["spread"]
    top = [value + one for value, one in zip(y, spread, strict=True)]
    bottom = [value - one for value, one in zip(y, spread, strict=True)]
    return frame.points([*x, *reversed(x)], [*top, *reversed(bottom)])
