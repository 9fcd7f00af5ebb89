"""What the sentences of `findings.md` say of the records."""

from __future__ import annotations

from typing import Any

from studies.records import read

_LEVELS = ("0.5", "0.8", "0.9", "0.95")


def _ratings() -> list[dict[str, Any]]:
    return [record["results"] for record in read("calibration", "ratings")]


def _cells(when: str) -> list[tuple[float, dict[str, Any]]]:
    """Nominal level and found coverage, of every set, family and level."""
    return [(float(level), found[when]["covered"][level]) for found in _ratings() for level in _LEVELS]


def _kept(level: float, found: dict[str, Any]) -> bool:
    inside = found["low"] is not None and found["low"] <= level <= found["high"]
    return inside or abs(found["estimate"] - level) <= 0.01


def all_hold_after() -> bool:
    return all(_kept(*cell) for cell in _cells("after"))


def held_before() -> str:
    cells = _cells("before")
    return f"{sum(_kept(*cell) for cell in cells)} of {len(cells)}"


def held_after() -> str:
    cells = _cells("after")
    return f"{sum(_kept(*cell) for cell in cells)} of {len(cells)}"


def shape_is_kept() -> bool:
    gaps = [
        abs(found["after"]["spearman_std_error"] - found["before"]["spearman_std_error"])
        for found in _ratings()
    ]
    return max(gaps) <= 0.05


def crps_hardly_changes() -> bool:
    """By at most 2 % of itself."""
    return all(
        abs(found["difference"]["crps"]["estimate"]) <= 0.02 * found["before"]["crps"]["estimate"]
        for found in _ratings()
    )
