"""From the scores of a suite's rows to its numbers: the content of `results.json`.

In: `SuiteScores` and a suite. Out: plain numbers, lists and dicts. Each rule is scored on its own by the
suite's formula; intervals leave out groups, as a whole, and differences are paired by row.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from pluralign.evaluation import metrics
from pluralign.evaluation.columns import group_codes, rounding
from pluralign.evaluation.jackknife import jackknife_intervals
from pluralign.evaluation.suites.catalogue import Formula, Suite
from pluralign.evaluation.suites.columns import LENGTH, SuiteScores
from pluralign.evaluation.summary import summarise_pairs

__all__ = ["summarise_suite"]

_SOLVED = 0.9  # share of a subset's pairs that length alone gets right, from which on that is said
_FEWEST = 10  # rows of a subset for such a sentence


def summarise_suite(
    scores: SuiteScores, suite: Suite, rules: Mapping[str, str], *, legacy: bool, seed: int
) -> dict[str, Any]:
    """The scores of every rule, differences from length, and what should be known of the suite.

    Args:
        scores: of all rows.
        suite: which one.
        rules: of the model, by name; the first is the main one.
        legacy: use RewardBench's weights from before September 2024.
        seed: of the order of pairs.

    Returns:
        `rows`, `groups`, `scores` by rule (the numbers of the formula, and `interval` with `overall` and the
        sections), `difference` from length by rule, `notes`, and `pairs`, as `evaluate` has them, where rows
        are pairs.
    """
    groups = group_codes(scores.groups)
    every = np.arange(len(scores))
    for values in scores.values.values():
        if not _tells_apart(values):  # rounding must not rank what a model calls equal
            values[:] = values[0]
    kept = {*rules, LENGTH}  # a baseline that says the same of every text is left out
    known = [rule for rule, values in scores.values.items() if rule in kept or _tells_apart(values)]
    formulas = {rule: suite.formula(scores, rule, legacy) for rule in known}
    found = {rule: dict(formula(every)) for rule, formula in formulas.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a block may leave a formula nothing to divide by
        intervals = jackknife_intervals(lambda rows: _numbers(formulas, rows), groups)
    for rule, numbers in found.items():
        start = f"{rule}|"
        numbers["interval"] = {
            name.removeprefix(start): _bounded(one.to_dict(), "n" not in numbers)
            for name, one in intervals.items()
            if name.startswith(start)
        }
    return {
        "rows": len(scores),
        "groups": int(groups.max(initial=-1)) + 1,
        "scores": found,
        "difference": {rule: intervals[f"-{rule}"].to_dict() for rule in known if f"-{rule}" in intervals},
        "notes": _notes(found),
        "pairs": _pairs(scores, next(iter(rules)), seed)
        if scores.are_pairs and len(scores.num_right)
        else {},
    }


def _bounded(interval: dict[str, Any], share: bool) -> dict[str, Any]:
    """A share lies in [0, 1], and so do the ends of its interval."""
    if share and interval["low"] is not None:
        interval |= {"low": max(0.0, interval["low"]), "high": min(1.0, interval["high"])}
    return interval


def _tells_apart(values: Any) -> bool:
    spread = float(values.max() - values.min())
    return spread > rounding(np.zeros(1, np.float32)) * float(np.abs(values).max())


def _numbers(formulas: Mapping[str, Formula], rows: Any) -> dict[str, float | None]:
    """`rule|overall`, `rule|section`, and `-rule`, the overall minus that of length."""
    numbers: dict[str, float | None] = {}
    for rule, formula in formulas.items():
        found = formula(rows)
        numbers[f"{rule}|overall"] = found["overall"]
        numbers |= {f"{rule}|{name}": score for name, score in found["sections"].items()}
    base = numbers.get(f"{LENGTH}|overall")
    if base is not None:
        for rule in formulas:
            own = numbers[f"{rule}|overall"]
            if rule != LENGTH and own is not None:
                numbers[f"-{rule}"] = own - base
    return numbers


def _notes(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Subsets that the longer, or the shorter, response wins nearly always."""
    length = found.get(LENGTH, {})
    notes = []
    for name, share in length.get("subsets", {}).items():
        rows = length.get("rows", {}).get(name, 0)
        if share is None or rows < _FEWEST or name == "Ties":
            continue
        ties = length.get("equal_scores", {}).get(name, 0) / rows
        for word, won in (("longer", share), ("shorter", 1 - share - ties)):
            if won >= _SOLVED:
                notes.append(
                    f"{name} is solved by length alone: the {word} response is right in {100 * won:.0f} % of "
                    f"its {rows:,} rows"
                )
    return notes


def _pairs(scores: SuiteScores, main: str, seed: int) -> dict[str, Any]:
    """As `evaluate` reports pairs, with the main rule as the model."""
    columns: dict[str, Any] = {"id": scores.ids, "subset": scores.subsets, "group": scores.groups}
    for rule in scores.values:
        name = "model" if rule == main else rule
        sides = (side.astype(np.float32) for side in scores.pairs(rule))  # heads compute in single precision
        columns[f"{name}_outcome"] = metrics.pair_outcomes(*sides).double().numpy()
    probability = scores.probability
    columns["probability"] = np.full(len(scores), 0.5) if np.isnan(probability).any() else probability
    return {**summarise_pairs(columns, seed=seed), "tied_in_data": 0}
