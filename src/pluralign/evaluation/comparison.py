"""Which of several models or policies is better, on the same rows or prompts: `compare`.

In: per-row values, evaluations or files of scores, by name. Out: plain numbers and sentences: a table with
intervals, all pairs with corrected p-values, letters for those that cannot be told apart, dominance, a
verdict.

Everything is paired: the difference of two systems is taken within each group of rows, and its error comes
from the variation of that difference between groups (`group_errors`). All pairs are tested at once, with
Shaffer's correction; intervals of single differences are not corrected, which the table says.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pluralign.checks import as_finite
from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import Floats
from pluralign.evaluation.compared_rows import Compared, compared_rows
from pluralign.evaluation.dominance import dominance_of_groups
from pluralign.evaluation.group_errors import (
    effective_groups,
    group_error,
    ratio_influence,
    two_sided_p,
)
from pluralign.evaluation.intervals import FEWEST_GROUPS, ends_or_reason, mean_interval
from pluralign.evaluation.multiplicity import holm, letters, shaffer

__all__ = ["compare"]

_FEW_EFFECTIVE = 10
_MOST_DOMINANCE = 10  # systems: a pair takes some 50 ms


def compare(
    systems: Mapping[str, Any],
    group: Sequence[Any] | npt.NDArray[Any] | None = None,
    *,
    measure: str | None = None,
    level: float = 0.95,
    dominance: bool | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares systems on the same rows: means, differences, verdicts.

    Args:
        systems: by name, all of one kind: columns [N] of one value per row, higher is better (tensors, arrays
            or lists; NaN where there is none); evaluations, as returned by `evaluate` or the folders that it
            wrote; or files of scores, such as those of `pluralign score` for the answers of two policies.
        group: [N] labels of the rows of columns, such as prompts; None if every row is a group of its own.
        measure: of evaluations, such as "pairs.accuracy" or "ratings.crps"; None for the first that all have.
        level: of the intervals, and 1 - the error rate of all verdicts together, in (0, 1).
        dominance: whether to test stochastic dominance of each pair; None for values that are no losses and
            take more than two numbers, of at most 10 systems.
        seed: random seed of the dominance test.

    Returns:
        `table`: a row per system, the best first: `name`, `mean` and its interval, `letters` (systems with a
        letter in common cannot be told apart), `difference` from the best with its interval and
        `adjusted_p`, and a `verdict`. `pairs`: the same of each pair, as `a` minus `b`, where a has the
        better mean, and `dominance` of a over b with p-values corrected by Holm. `verdict`: one sentence.
        `measure`, `better` ("higher" or "lower"), `correction`, `level`, `rows`, `groups`,
        `effective_groups`, `dropped`, `cautions`.

    Raises:
        ArgumentError: fewer than two systems, different kinds, rows that do not match, infinite values, or an
            argument that does not exist or apply.
        ArtifactError: an evaluation is damaged.

    Example:
        >>> import numpy as np
        >>> base = np.arange(40.0) % 7
        >>> found = compare({"new": base + 1 + np.arange(40) % 2, "old": base, "same": base[::-1]})
        >>> [(row["name"], row["letters"]) for row in found["table"]]
        [('new', 'a'), ('old', 'b'), ('same', 'b')]
    """
    if not 0 < as_finite(level) < 1:
        raise ArgumentError(f"level is a share between 0 and 1, such as 0.95; got {level}")
    rows = compared_rows(systems, group, measure)
    sums, sizes = _by_group(rows)
    count = len(next(iter(sums.values())))
    means = {name: float(rows.values[name].mean()) for name in rows.values}
    sign = 1 if rows.better == "higher" else -1
    order = sorted(means, key=lambda name: -sign * means[name])
    influence = {name: ratio_influence(sums[name], sizes[name]) for name in order}
    shares = np.mean([size / size.sum() for size in sizes.values()], 0)
    pairs = [
        _pair(a, b, means[a] - means[b], influence[a] - influence[b], shares, level, rows.bounds)
        for a, b in itertools.combinations(order, 2)
    ]
    _correct(pairs, len(order))
    apart = [(pair["a"], pair["b"]) for pair in pairs if pair["adjusted_p"] <= 1 - level and _enough(count)]
    if dominance is None:
        dominance = rows.better == "higher" and _many_numbers(rows) and len(order) <= _MOST_DOMINANCE
    if dominance and count > 1:
        _add_dominance(pairs, rows, level, seed)
    known = letters(order, apart)
    between = {(pair["a"], pair["b"]): pair for pair in pairs}
    for pair in pairs:
        pair["verdict"] = _pair_words(pair, (pair["a"], pair["b"]) in apart, count)
    table = [
        {
            "name": name,
            "mean": mean_interval(
                rows.values[name], rows.groups[name], level=level, bounds=rows.bounds
            ).to_dict(),
            "letters": known[name],
            "difference": None if name == order[0] else between[order[0], name]["difference"],
            "adjusted_p": None if name == order[0] else between[order[0], name]["adjusted_p"],
            "verdict": _row_words(name, order, apart, count),
        }
        for name in order
    ]
    return {
        "measure": rows.measure,
        "better": rows.better,
        "table": table,
        "pairs": pairs,
        "verdict": _verdict(order, apart, count),
        "correction": f"Shaffer, {len(pairs)} pairs" if len(pairs) > 1 else "none, one pair",
        "level": level,
        "paired": "by row" if rows.same_rows else "by group",
        "rows": {name: len(values) for name, values in rows.values.items()},
        "groups": count,
        "effective_groups": effective_groups(shares),
        "dropped": rows.dropped,
        "cautions": _cautions(rows, count, effective_groups(shares)),
    }


def _by_group(rows: Compared) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Sum and number of the values of each group."""
    count = max(int(codes.max()) for codes in rows.groups.values()) + 1
    sums: dict[str, Floats] = {}
    sizes: dict[str, Floats] = {}
    for name, values in rows.values.items():
        sums[name] = np.bincount(rows.groups[name], values, count).astype(np.float64)
        sizes[name] = np.bincount(rows.groups[name], minlength=count).astype(np.float64)
    return sums, sizes


def _pair(
    a: str,
    b: str,
    estimate: float,
    influence: Floats,
    shares: Floats,
    level: float,
    bounds: tuple[float, float] | None,
) -> dict[str, Any]:
    one = len(influence) < 2
    return {
        "a": a,
        "b": b,
        "difference": _difference(estimate, influence, shares, level, bounds),
        "p": 1.0 if one else two_sided_p(estimate, group_error(_exact(influence, estimate), shares)),
    }


def _exact(influence: Floats, estimate: float) -> Floats:
    """Without the rounding of groups that have one and the same difference."""
    return np.where(np.abs(influence) > 1e-12 * abs(estimate), influence, 0.0)


def _difference(
    estimate: float, influence: Floats, shares: Floats, level: float, bounds: tuple[float, float] | None
) -> dict[str, Any]:
    """The interval of one difference, as JSON."""
    reach = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    ends, reason = ends_or_reason(estimate, influence, shares, level, bounds=reach)
    low, high = ends or (None, None)
    return {"estimate": estimate, "low": low, "high": high, "level": level, "reason": reason}


def _correct(pairs: list[dict[str, Any]], systems: int) -> None:
    for pair, p in zip(pairs, shaffer([pair["p"] for pair in pairs], systems), strict=True):
        pair["adjusted_p"] = p


def _many_numbers(rows: Compared) -> bool:
    return any(len(np.unique(values)) > 2 for values in rows.values.values())


def _add_dominance(pairs: list[dict[str, Any]], rows: Compared, level: float, seed: int) -> None:
    """Dominance of the better mean over the other; no other can dominate, as dominance implies it."""
    sign = 1 if rows.better == "higher" else -1
    for pair in pairs:
        a, b = pair["a"], pair["b"]
        first, second = sign * rows.values[a], sign * rows.values[b]
        if min(first.min(), second.min()) == max(first.max(), second.max()):
            continue
        pair["dominance"] = dominance_of_groups(
            first, second, rows.groups[a], rows.groups[b], level=level, seed=seed
        )
    found = [pair["dominance"] for pair in pairs if "dominance" in pair]
    for order in ("first", "second"):
        adjusted = holm([1 - part[order]["confidence"] for part in found])
        for part, p in zip(found, adjusted, strict=True):
            part[order]["adjusted_p"] = p
            del part[order]["words"]  # they name neither
            if part[order]["verdict"] == "dominates" and p > 1 - level:
                part[order]["verdict"] = "not known"
    for pair in pairs:
        if "dominance" in pair:
            pair["dominance"]["words"] = _dominance_words(pair)


def _dominance_words(pair: Mapping[str, Any]) -> str:
    a, b, found = pair["a"], pair["b"], pair["dominance"]
    first, second = found["first"], found["second"]
    if first["verdict"] == "dominates":
        return f"{a} is better than {b} for everybody who prefers higher rewards ({_p(first['adjusted_p'])})"
    if second["verdict"] == "dominates":
        return f"{a} is better than {b} for every risk-averse person ({_p(second['adjusted_p'])})"
    if second["verdict"] == "does not dominate":
        worst = second["worst"]["threshold"]
        return f"{a} is not better than {b} for every risk-averse person: it falls further below {worst:.3g}"
    sample = ", though it is in this sample" if second["in_sample"] else ""
    return f"whether {a} is better than {b} for every risk-averse person is not known{sample}"


def _p(value: float) -> str:
    return "p < .0001" if value < 1e-4 else f"p = {value:.2g}"


def _enough(groups: int) -> bool:
    return groups >= FEWEST_GROUPS


def _pair_words(pair: Mapping[str, Any], differs: bool, groups: int) -> str:
    a, b = pair["a"], pair["b"]
    if differs:
        return f"{a} is better than {b} ({_p(pair['adjusted_p'])})"
    if not _enough(groups):
        return f"too few groups to tell {a} and {b} apart: {groups}, at least {FEWEST_GROUPS} are needed"
    return f"{a} and {b} cannot be told apart ({_p(pair['adjusted_p'])})"


def _row_words(name: str, order: Sequence[str], apart: Sequence[tuple[str, str]], groups: int) -> str:
    if not _enough(groups):
        return "not known: too few groups"
    worse = [other for other in order if (other, name) in apart]
    better = [other for other in order if (name, other) in apart]
    parts = []
    if better:
        parts.append(f"better than {_all_of(better, name, order)}")
    if worse:
        parts.append(f"worse than {_all_of(worse, name, order)}")
    return ", ".join(parts) or "cannot be told apart from any other"


def _all_of(some: Sequence[str], name: str, order: Sequence[str]) -> str:
    everyone = len(some) == len(order) - 1 and len(some) > 1
    return "all others" if everyone else _listed(some)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _verdict(order: Sequence[str], apart: Sequence[tuple[str, str]], groups: int) -> str:
    """The first sentence to read."""
    best, rest = order[0], order[1:]
    if not _enough(groups):
        return f"No verdict: there are {groups} groups, and at least {FEWEST_GROUPS} are needed."
    beaten = [other for other in rest if (best, other) in apart]
    equal = [other for other in rest if other not in beaten]
    if not beaten:
        if apart:
            return f"{best} has the best mean, but cannot be told apart from {_listed(equal)}."
        return f"{_listed(order)} cannot be told apart."
    if not equal:
        return f"{best} is better than {_listed(beaten)}."
    return f"{best} is better than {_listed(beaten)}, and cannot be told apart from {_listed(equal)}."


def _cautions(rows: Compared, groups: int, effective: float) -> list[str]:
    found = []
    if _enough(groups) and effective < _FEW_EFFECTIVE:
        found.append(
            f"The {groups} groups vary only as much as {effective:.1f} of equal size would: where the "
            "differences of groups have a long tail, the intervals are too short."
        )
    if rows.dropped:
        found.append(f"{rows.dropped:,} rows without a value of every system were left out.")
    return found
