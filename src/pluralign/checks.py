"""Checks of single values: numbers, whole numbers, choices. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from numbers import Integral
from typing import Any

from pluralign.errors import ConfigError

__all__ = ["as_finite", "check_choice", "check_grid", "check_number", "check_plain_types", "is_whole"]


def as_finite(value: Any) -> float:
    """`value`, a real number or a tensor of one element, as a float; NaN for anything that is not finite.

    Text and truth values do not count as numbers, though `float` would read them.
    """
    try:
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def is_whole(value: Any, at_least: float = -math.inf) -> bool:
    """Whether `value` is a whole number of at least a bound; fractions, NaN and True are not."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return int(value) >= at_least


def check_number(name: str, value: float, *, at_least: float = -math.inf, above: float = -math.inf) -> None:
    """Requires a finite number, at least or above a bound.

    Raises:
        ConfigError: it is something else.
    """
    number = as_finite(value)
    if not (number >= at_least and number > above):
        allowed = f"at least {at_least:g}" if above == -math.inf else f"above {above:g}"
        raise ConfigError(f"{name} = {value!r}: a finite number {allowed} is needed")


def check_grid(name: str, grid: Sequence[float], single: str, *, above: float | None = None) -> None:
    """Requires at least one value, each at least 0 or above a bound; `single` names the field that skips the
    search.

    Raises:
        ConfigError: it is something else.
    """
    if not grid:
        raise ConfigError(f"{name} is empty: name at least one penalty, or set {single}")
    for value in grid:
        if above is None:
            check_number(name, value, at_least=0)
        else:
            check_number(name, value, above=above)


def check_choice(name: str, value: str | None, allowed: Sequence[str | None]) -> None:
    """Requires one of the names.

    Raises:
        ConfigError: it is something else.
    """
    if value not in allowed:
        raise ConfigError(f"{name} = {value!r}; allowed: {', '.join(map(str, allowed))}")


def check_plain_types(config: Any) -> None:
    """Requires whole numbers and switches where fields are declared so: "no" is not False, 1.5 no seed.

    Raises:
        ConfigError: one does not.
    """
    for part in fields(config):
        value = getattr(config, part.name)
        if part.type == "int" and not is_whole(value):
            raise ConfigError(f"{part.name} = {value!r}: a whole number is needed")
        if part.type == "bool" and not isinstance(value, bool):
            raise ConfigError(f"{part.name} = {value!r}; allowed: True, False")
