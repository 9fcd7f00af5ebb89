"""Validation of saved descriptions: small checkers for JSON values, which each component combines.

In: a parsed JSON value and its position, such as `head.reference.std`. Out: nothing, or an
`ArtifactError` that names the position, what was found and what is allowed. Nothing is allocated.

    record({"width": whole(1), "reference": record({"mean": number(), "std": number(above=0)})})
    called with {"width": 6, "reference": {"mean": 0.5}} and "head":  head.reference lacks 'std'

Types are strict: true is not a number, 3.0 is not a whole number, and numbers must be finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from torch import dtype as Dtype

from pluralign.errors import ArtifactError

__all__ = [
    "Check",
    "TensorShapes",
    "anything",
    "choice",
    "each",
    "flag",
    "listed",
    "number",
    "optional",
    "record",
    "refuse",
    "text",
    "whole",
]

Check = Callable[[Any, str], None]
TensorShapes = dict[str, tuple[Dtype, tuple[int, ...]]]
"""Names of tensors with the dtype and shape in which they are stored."""

_LARGEST = 2**53  # larger JSON integers are not read exactly by all parsers


def refuse(where: str, value: Any, allowed: str) -> ArtifactError:
    """The error for a value that is not allowed."""
    return ArtifactError(f"{where} is {value!r:.80}; allowed: {allowed}")


def number(low: float = -math.inf, high: float = math.inf, *, above: float | None = None) -> Check:
    """A finite number with low <= value <= high, and value > above."""
    bounds = [f"at least {low:g}"] if math.isfinite(low) else []
    bounds += [f"at most {high:g}"] if math.isfinite(high) else []
    bounds += [f"above {above:g}"] if above is not None else []
    allowed = ", ".join(["a finite number", *bounds])

    def check(value: Any, where: str) -> None:
        real = type(value) in (int, float) and -1e300 <= value <= 1e300
        if not real or not low <= value <= high or (above is not None and not value > above):
            raise refuse(where, value, allowed)

    return check


def whole(low: int = 0, high: int = _LARGEST) -> Check:
    """A whole number with low <= value <= high."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise refuse(where, value, f"a whole number from {low} to {high}")

    return check


def flag(value: Any, where: str) -> None:
    """True or false."""
    if type(value) is not bool:
        raise refuse(where, value, "true or false")


def text(value: Any, where: str) -> None:
    """A non-empty text."""
    if not isinstance(value, str) or not value:
        raise refuse(where, value, "a text")


def choice(*options: str) -> Check:
    """One of the given texts."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in options:
            raise refuse(where, value, ", ".join(options))

    return check


def optional(check: Check) -> Check:
    """Null, or a value that `check` allows."""

    def check_or_none(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return check_or_none


def listed(check: Check, least: int = 0, *, distinct: bool = False, ascending: bool = False) -> Check:
    """A list of at least `least` entries, each of which `check` allows."""

    def check_all(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) < least:
            raise refuse(where, value, f"a list of at least {least}")
        for place, entry in enumerate(value):
            check(entry, f"{where}[{place}]")
        if distinct and len(set(value)) < len(value):
            raise refuse(where, value, "a list without repetitions")
        if ascending and any(not low < high for low, high in pairwise(value)):
            raise refuse(where, value, "an ascending list")

    return check_all


def record(required: Mapping[str, Check], may: Mapping[str, Check] | None = None) -> Check:
    """An object with all keys of `required`, optionally some of `may`, and no others."""
    known = {**required, **(may or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise refuse(where, value, f"an object with the keys {', '.join(known)}")
        lacking, unknown = sorted(required.keys() - value.keys()), sorted(value.keys() - known.keys())
        if lacking:
            raise ArtifactError(f"{where} lacks {', '.join(map(repr, lacking))}; allowed: {', '.join(known)}")
        if unknown:
            raise ArtifactError(
                f"{where} has {', '.join(map(repr, unknown))}, which this version does not know; allowed: "
                f"{', '.join(known)}"
            )
        for key, entry in value.items():
            known[key](entry, f"{where}.{key}")

    return check


def each(check: Check) -> Check:
    """An object with any keys, whose values `check` allows."""

    def check_values(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise refuse(where, value, "an object")
        for key, entry in value.items():
            check(entry, f"{where}.{key}")

    return check_values


def anything(value: Any, where: str) -> None:
    """Any JSON value whose numbers are all finite."""
    if isinstance(value, dict):
        for key, entry in value.items():
            anything(entry, f"{where}.{key}")
    elif isinstance(value, list):
        for place, entry in enumerate(value):
            anything(entry, f"{where}[{place}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise refuse(where, value, "finite numbers")
