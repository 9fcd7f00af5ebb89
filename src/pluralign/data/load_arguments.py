"""Checks the arguments of a loader before any file is opened.

In: the caller's arguments. Out: where bad rows go, and the layout of the columns.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args

from pluralign.data.columns import check_mapping
from pluralign.data.layouts import Layout
from pluralign.data.records import SHAPES, Shape
from pluralign.errors import ArgumentError

__all__ = ["OnBadRow", "layout_of", "quarantine_of"]

OnBadRow = Literal["error", "quarantine"]


def quarantine_of(
    source: Any,
    shape: str,
    mapping: Mapping[str, str | None],
    scale: tuple[float, float] | None,
    on_bad_row: str,
    quarantine_path: str | os.PathLike[str] | None,
) -> Path | None:
    """Where bad rows go, or None if they are errors; rejects invalid arguments.

    Raises:
        ArgumentError: says what is allowed.
    """
    if shape not in SHAPES:
        raise ArgumentError(f"shape: received {shape!r}; allowed: {', '.join(SHAPES)}")
    check_mapping(mapping, shape)
    if scale is not None and not _is_scale(scale):
        raise ArgumentError(f"scale: received {scale!r}; allowed: (lowest, highest), lowest < highest")
    if on_bad_row not in get_args(OnBadRow):
        raise ArgumentError(f"on_bad_row: received {on_bad_row!r}; allowed: 'error', 'quarantine'")
    if on_bad_row == "error":
        return None
    if quarantine_path is None:
        raise ArgumentError("on_bad_row='quarantine' needs quarantine_path=, the file for the bad rows")
    path = Path(quarantine_path)
    taken = (path.resolve(), path.resolve().parent)
    if isinstance(source, str | os.PathLike) and Path(source).resolve() in taken:
        raise ArgumentError(
            f"quarantine_path: {path} is the source or inside it; choose a path outside of it"
        )
    return path


def layout_of(shape: Shape, attributes: Sequence[str] | None, raters: Sequence[str] | None) -> Layout:
    """The layout that the caller described.

    Raises:
        ArgumentError: the shape has no layouts, or both kinds of columns are given.
    """
    for name, given in (("attribute_columns", attributes), ("rater_columns", raters)):
        if given is None:
            continue
        if isinstance(given, str) or not all(isinstance(column, str) for column in given) or not given:
            raise ArgumentError(f"{name}: received {given!r}; allowed: a list of the file's columns")
        if shape != "ratings":
            raise ArgumentError(f"{name}: received {list(given)} for {shape}; allowed for ratings only")
    if attributes and raters:
        raise ArgumentError("received attribute_columns and rater_columns; allowed: one of them")
    return Layout(tuple(attributes or ()), tuple(raters or ()))


def _is_scale(scale: Any) -> bool:
    return (
        isinstance(scale, Sequence)
        and len(scale) == 2
        and all(isinstance(end, Real) and math.isfinite(end) for end in scale)
        and scale[0] < scale[1]
    )
