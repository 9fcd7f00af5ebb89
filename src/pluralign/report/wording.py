"""Numbers formatted for people, and the sentences that explain them.

In: intervals from `results.json`. Out: short texts. This file decides how numbers are rounded, what "no
difference" means, and which direction is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralign.families import title_of

__all__ = [
    "MEASURES",
    "Measure",
    "against",
    "counted",
    "counted_groups",
    "coverage_verdict",
    "ends_of",
    "enough",
    "from_to",
    "model_verdict",
    "number",
    "percent",
    "rule_words",
    "span",
    "unit_words",
    "verdict",
    "warns_verdict",
    "within_words",
]

Interval = Mapping[str, Any]

FEWEST = (
    10  # rows: below it the interval of a share is more than 60 points wide, and a curve shows single rows
)


@dataclass(frozen=True)
class Measure:
    """How one measure is shown.

    Attributes:
        name: name in tables.
        meaning: one sentence.
        share: whether it is a share, shown in percent.
        better: "lower" or "higher", or "" if neither is better.
    """

    name: str
    meaning: str
    share: bool
    better: str


MEASURES = {
    "crps": Measure(
        "CRPS",
        "Distance between the predicted distribution and each rating, with noise of one grid step on rounded "
        "ratings. Lower is better.",
        False,
        "lower",
    ),
    "pinball": Measure(
        "Pinball loss",
        "Distance of the ratings, with noise of one grid step, from the predicted quantiles, averaged over "
        "levels. Lower is better.",
        False,
        "lower",
    ),
    "pinball_on_grid": Measure(
        "Pinball loss on the grid",
        "The same, with predictions rounded to the possible ratings, and the original ratings.",
        False,
        "lower",
    ),
    "crps_on_grid": Measure(
        "CRPS on the grid",
        "Distance between the prediction, rounded to the possible ratings, and each original rating.",
        False,
        "lower",
    ),
    "quantile_error": Measure(
        "Distance to the truth",
        "Mean distance between predicted and true quantiles. Lower is better.",
        False,
        "lower",
    ),
    "coverage": Measure(
        "Ratings inside the central interval",
        "Share of ratings between the 5 % and the 95 % quantile, with noise of one grid step on rounded "
        "ratings. 90 % is ideal.",
        True,
        "",
    ),
    "closed_coverage": Measure(
        "The same, without noise",
        "Share of the original ratings in the closed interval; above 90 % on a coarse scale even for a "
        "perfect prediction.",
        True,
        "",
    ),
    "crossing": Measure(
        "Levels that crossed",
        "Share of neighbouring quantile levels in the wrong order before they were sorted. Lower is better.",
        True,
        "lower",
    ),
    "peaked": Measure(
        "Peaked predictions",
        "Share of responses whose 90 % interval is under 5 % of the scale: the model is almost certain.",
        True,
        "lower",
    ),
}

_RULES = {
    "length": "the longer response",
    "own_attribute": "its mean of that attribute",
}
_UNITS = {"the rating scale": "points of the rating scale", "share of the scale": "shares of each scale"}


def rule_words(rule: str) -> str:
    """Other rules of choice: the longer response, the model's own attribute, another family."""
    return _RULES.get(rule, f"{title_of(rule)}, same backbone")


def unit_words(unit: str) -> str:
    """The unit of a measure in prose."""
    return _UNITS.get(unit, unit)


def counted(count: int, noun: str) -> str:
    """A number of things: `1 pair`, `1,200 pairs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def counted_groups(groups: int, interval: Interval | None) -> str:
    """A number of groups, and their effective number if that is clearly smaller.

    Args:
        groups: their number.
        interval: any interval over them; those of earlier versions lack the effective number.
    """
    effective = (interval or {}).get("effective_groups")
    words = counted(groups, "group")
    return (
        words
        if effective is None or effective > 0.95 * groups
        else f"{words} (as {effective:.1f} of one size)"
    )


def enough(rows: int, groups: int = 2) -> bool:
    """Whether there are enough rows for an accuracy or a curve: at least ten, in several groups."""
    return rows >= FEWEST and groups >= 2


def number(value: float | None, digits: int = 3) -> str:
    """A number with a true minus sign; a dash for None."""
    if value is None:
        return "–"
    shown = f"{value:.{digits}f}"
    if float(shown) == 0:
        shown = shown.lstrip("-")
    return shown.replace("-", "\u2212")


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent."""
    return "–" if value is None else f"{number(100 * value, digits)} %"


def span(interval: Interval | None, *, share: bool = False) -> str:
    """An estimate with its interval, as `0.344 [0.337, 0.351]` or `70.0 % [68.0, 72.0]`."""
    if interval is None:
        return "–"
    estimate = percent(interval["estimate"]) if share else number(interval["estimate"], _digits(interval))
    ends = ends_of(interval, share=share)
    return f"{estimate} {ends}" if ends else estimate


def from_to(values: Sequence[float], on_grid: bool) -> str:
    """The lowest and the highest of some quantiles; ratings on a grid are written as people give them."""
    ends = (min(values), max(values))
    low, high = (f"{end:g}".replace("-", "\u2212") if on_grid else number(end, 2) for end in ends)
    return f"{low} to {high}"


def ends_of(interval: Interval, *, share: bool = False) -> str:
    """Only the interval, `[0.337, 0.351]`; empty if there is none."""
    if interval["low"] is None or interval["high"] is None:
        return ""
    scale, digits = (100, 1) if share else (1, _digits(interval))
    return f"[{number(scale * interval['low'], digits)}, {number(scale * interval['high'], digits)}]"


def _digits(interval: Interval) -> int:
    """Three decimals, or more if an end close to 0 would be shown as 0."""
    digits = 3
    shown = [interval[k] for k in ("estimate", "low", "high") if interval[k]]
    while digits < 6 and any(round(value, digits) == 0 for value in shown):
        digits += 1
    return digits


def verdict(difference: Interval, better: str) -> str:
    """The verdict on a paired difference (the model minus the other): better, worse, or no difference."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return f"no interval: {difference['reason'] or 'unknown'}"
    if low <= 0 <= high:
        return "no difference: the interval contains 0"
    return "better" if (low > 0) == (better == "higher") else "worse"


def model_verdict(difference: Interval, better: str) -> str:
    """The verdict with its subject, for places where a baseline's name or number precedes it."""
    words = verdict(difference, better)
    return f"the model is {words}" if words in ("better", "worse") else words


def against(rule: str, pairs: Mapping[str, Any]) -> str:
    """The accuracy of a rule of choice on pairs, and whether the model's is better."""
    name = rule_words(rule)
    if rule in pairs.get("tied_rules", ()):
        ties = percent(pairs["ties"].get(rule, 0) / pairs["rows"], 0)
        return f"{name}: no comparison, since it ties {ties} of pairs"
    accuracy = percent(pairs["accuracy"][rule]["estimate"])
    return f"{name}: {accuracy}; {model_verdict(pairs['difference'][rule], 'higher')}"


def coverage_verdict(interval: Interval, nominal: float) -> str:
    """Whether central intervals are as wide as they should be."""
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return f"no interval: {interval['reason'] or 'unknown'}"
    if low <= nominal <= high:
        return "as wide as it should be"
    return (
        "too narrow: the model is overconfident"
        if high < nominal
        else "too wide: the model is underconfident"
    )


def within_words(found: Mapping[str, Any]) -> str:
    """Whether a model can rank the responses to one prompt, compared with the longer text."""
    if "model" not in found:
        return f"Within a prompt: {found['verdict']}."
    rows, groups = found.get("rows", FEWEST), found.get("groups", 2)
    if not enough(rows, groups):
        return f"Within a prompt there are too few pairs: {rows:,} in {counted(groups, 'group')}."
    words = f"Within a prompt it wins {span(found['model'], share=True)} of pairs: {found['verdict']}"
    if found["chance"] < 0.495:  # a tie is not a win
        words += f", which with its ties is {percent(found['chance'])}"
    if "length" in found:
        words += f"; the longer response wins {percent(found['length']['estimate'])}"
    return f"{words}."


def warns_verdict(interval: Interval) -> str:
    """Whether uncertainty predicts errors, from their rank correlation; empty without an interval."""
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return ""
    if low <= 0 <= high:
        return "no: the interval contains 0"
    return "yes" if low > 0 else "inverted: more certain where it errs"
