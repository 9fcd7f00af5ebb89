"""What the sentences of `findings.md` say of the records."""

from __future__ import annotations

from typing import Any

from studies.records import read

_LEVELS = ("0.5", "0.8", "0.9", "0.95")


def _ratings() -> list[dict[str, Any]]:
    return [record["results"] for record in read("calibration", "ratings")]


def _cells(when: str) -> list[tuple[float, dict[str, Any]]]:
    """Nominal level and found coverage, of every set, family and level that so many groups can give."""
    return [
        (float(level), found[when]["covered"][level])
        for found in _ratings()
        for level in _LEVELS
        if (1 - float(level)) / 2 >= 1 / (found["calibrated_on"] + 1)
    ]


def _kept(level: float, found: dict[str, Any]) -> bool:
    inside = found["low"] is not None and found["low"] <= level <= found["high"]
    return inside or abs(found["estimate"] - level) <= 0.01


def fewest_groups() -> str:
    return str(min(found["calibrated_on"] for found in _ratings()))


def held_before() -> str:
    cells = _cells("before")
    return f"{sum(_kept(*cell) for cell in cells)} of {len(cells)}"


def held_after() -> str:
    cells = _cells("after")
    return f"{sum(_kept(*cell) for cell in cells)} of {len(cells)}"


def _gap(when: str) -> float:
    return max(abs(found["estimate"] - level) for level, found in _cells(when))


def furthest_before() -> str:
    return f"{100 * _gap('before'):.0f}"


def furthest_after() -> str:
    return f"{100 * _gap('after'):.0f}"


def largest_change_of_ranks() -> str:
    gaps = [
        abs(found["after"]["spearman_std_error"] - found["before"]["spearman_std_error"])
        for found in _ratings()
    ]
    return f"{max(gaps):.2f}"[1:]


def crps_is_not_worse() -> bool:
    """Nowhere by more than half a hundredth of the scale."""
    return all(found["difference"]["crps"]["estimate"] < 0.005 for found in _ratings())


def votes_are_too_sure() -> bool:
    """Bradley-Terry and categories of votes: every temperature is above 1."""
    found = [r for r in read("calibration", "preferences") if r["settings"]["family"] != "quantile"]
    return bool(found) and all(min(record["results"]["temperatures"]) > 1 for record in found)


def bradley_terry_before() -> str:
    return f"{_qa('bradley_terry')['before_log']['estimate']:.3f}"


def bradley_terry_after() -> str:
    return f"{_qa('bradley_terry')['after_log']['estimate']:.3f}"


def votes_gain() -> bool:
    """On qa_feedback, both families of votes have a smaller loss, beyond chance."""
    return all(_qa(family)["difference"]["log"]["high"] < 0 for family in ("bradley_terry", "categorical"))


def _qa(family: str) -> dict[str, Any]:
    (found,) = read("calibration", "preferences", data="qa_feedback", family=family)
    results: dict[str, Any] = found["results"]
    return results
