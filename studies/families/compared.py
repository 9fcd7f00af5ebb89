"""The runs as the section reads them: by set, method and thinning, compared by group.

In: the records. Out: columns by group, paired differences, and which method is nearest to the raters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pluralign.evaluation import Interval, difference_interval
from studies.records import read

Thinning = tuple[float, int | None]
Records = dict[tuple[str, str, Thinning], dict[str, Any]]

CONSTANT, NORMAL, NORMAL_ENTROPY = "constant", "constant_gaussian", "cross_entropy_gaussian"
METHODS = {
    CONSTANT: "the average distribution of the people",
    NORMAL: "the same as a Gaussian",
    "average": "one number (ridge regression)",
    "gaussian": "ridge with a Gaussian residual",
    "quantile": "quantile (QRM)",
    "gaussian_ensemble": "Gaussian ensemble (BRME)",
    "transport": "categorical, transport (DPRM)",
    "cross_entropy": "categorical, cross-entropy",
    "rps": "categorical, RPS",
    NORMAL_ENTROPY: "cross-entropy as a Gaussian",
}
# What is fitted, in fewer words.
SHORT = {
    "average": "one number",
    "gaussian": "ridge",
    "quantile": "quantile",
    "gaussian_ensemble": "Gaussian ensemble",
    "transport": "transport",
    "cross_entropy": "cross-entropy",
    "rps": "RPS",
}
ALL: Thinning = (1.0, None)
TENTH: Thinning = (0.1, None)
RATERS: tuple[Thinning, ...] = ((1.0, 1), (1.0, 3), (1.0, 5), (1.0, 20), ALL)
THINNINGS = {
    ALL: "all",
    TENTH: "10 % of the responses",
    **{one: f"{one[1]} rater{'s' if one[1] != 1 else ''}" for one in RATERS[:-1]},
}
SETS = {"emobank": 5, "summeval-crowd": 5, "ukpconvarg": 165}  # raters of most responses
HELD_OUT = {
    "ukpconvarg-seen-topics": "single arguments",
    "ukpconvarg": "a topic",
    "ukpconvarg-new-debates": "a debate",
}


def records_of_runs() -> Records:
    """Every run, by what it was."""
    found = {}
    for record in read("families", "distances", seed=0):
        s = record["settings"]
        found[s["data"], s["method"], (s["share"], s["raters"])] = record["results"]
    return found


def column(record: dict[str, Any], key: str) -> Any:
    """The means of the groups, in the order of their names."""
    return np.array([own[key] for _, own in sorted(record["groups"].items())])


def difference(
    records: Records, name: str, method: str, thinning: Thinning, key: str = "energy", base: str = CONSTANT
) -> Interval:
    """A method minus another, by group, both fitted on the same data."""
    own, other = (column(records[name, m, thinning], key) for m in (method, base))
    return difference_interval(own, other, np.arange(len(own)))


def nearest_method(records: Records, name: str, thinning: Thinning) -> str | None:
    """The fitted method with the smallest squared distance; None without runs."""
    fitted = [m for m in SHORT if (name, m, thinning) in records]
    if (name, CONSTANT, thinning) not in records or not fitted:
        return None
    return min(fitted, key=lambda m: float(column(records[name, m, thinning], "energy").mean()))


def below(found: Interval) -> bool:
    """Whether the interval lies below 0."""
    return found.high is not None and found.high < 0


def in_words(methods: Iterable[str]) -> str:
    """`quantile, RPS`, or `none`."""
    return ", ".join(SHORT[m] for m in methods) or "none"
