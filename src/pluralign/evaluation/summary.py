"""Aggregates of per-row scores, with intervals over groups: the content of `results.json`.

In: the columns of `rows`. Out: plain numbers, lists and dicts.
A difference is always paired, row by row: the model minus the other, so negative means that the model's loss
is smaller; it is not significant if its interval contains 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pluralign.data.table_columns import Ragged
from pluralign.evaluation import metrics, probabilities
from pluralign.evaluation.calibration import COVERAGE, LEVELS
from pluralign.evaluation.columns import group_codes
from pluralign.evaluation.intervals import difference_interval, mean_interval
from pluralign.evaluation.jackknife import jackknife_intervals
from pluralign.evaluation.texts import Columns

__all__ = ["decided", "summarise_gate", "summarise_pairs", "summarise_ratings"]

_GRID_LOSSES = ("pinball_on_grid", "crps_on_grid")  # where ratings are on a grid
_LOSSES = ("pinball", "crps", *_GRID_LOSSES, "quantile_error")
_SHARES = ("coverage", "closed_coverage", "peaked", "crossing")
_UNIT = (0.0, 1.0)
_SIGNED = (-1.0, 1.0)  # differences of shares, and rank correlations
_MOST_TIES = 0.9  # share of pairs that a rule may tie; beyond it, it says nothing about the pairs


def summarise_ratings(columns: Columns, *, seed: int = 0) -> dict[str, Any]:
    """Calibration per attribute, and over all attributes with losses as shares of each scale.

    Returns:
        `{attribute: {...}, "all": {...}}`; "all" only for several attributes. Per measure the intervals of
        `model` and `constant`, their `difference`, and if the model has more baselines, their values and
        differences by name in `others`. Empty if the family has no distribution on rating scales.
    """
    if "model_pinball" not in columns:
        return {}
    attributes = list(dict.fromkeys(columns["attribute"]))
    of_row, groups = np.asarray(columns["attribute"], object), group_codes(columns["group"])
    summary = {name: _attribute(columns, np.flatnonzero(of_row == name), groups, seed) for name in attributes}
    if len(attributes) > 1:
        scaled = dict(columns)
        scaled["observed_mean"] = (columns["observed_mean"] - columns["low"]) / columns["span"]
        scaled["model_mean"] = (columns["model_mean"] - columns["low"]) / columns["span"]
        for name in [f"{head}_{key}" for head in _heads(columns) for key in (*_LOSSES, "std")]:
            if name in columns:
                scaled[name] = columns[name] / columns["span"]
        summary["all"] = _attribute(scaled, np.arange(len(groups)), groups, seed) | {
            "unit": "share of the scale"
        }
    return summary


def _attribute(columns: Columns, where: Any, groups: Any, seed: int) -> dict[str, Any]:
    groups = groups[where]
    result: dict[str, Any] = {
        "rows": len(where),
        "groups": len(np.unique(groups)),
        "unit": "the rating scale",
    }
    for key in (*_LOSSES, *_SHARES):
        if _measured(columns, key, where):
            result[key] = _measure(columns, key, where, groups, seed)
    result["coverage"]["nominal"] = COVERAGE
    pit = _ragged(columns["model_pit"][where])
    result["levels"] = metrics.coverage_curve(pit, LEVELS)
    result["pit"] = metrics.pit_histogram(pit)
    if "uncalibrated_pit" in columns:
        before = _ragged(columns["uncalibrated_pit"][where])
        result["levels_uncalibrated"] = metrics.coverage_curve(before, LEVELS)
    ranked = _rank_correlations(columns, where)
    names = ("spearman_mean", "spearman_std_error")
    result |= dict.fromkeys(names) | dict(ranked(np.arange(len(where))))
    found = jackknife_intervals(ranked, groups, bounds=dict.fromkeys(names, _SIGNED))
    result["intervals"] = {name: interval.to_dict() for name, interval in found.items()}
    return result


def _rank_correlations(columns: Columns, where: Any) -> Callable[[Any], dict[str, float | None]]:
    """Spearman's correlation of means, and of the predicted spread with the error, for some of the rows."""
    mean, observed = columns["model_mean"][where], columns["observed_mean"][where]
    spread, error = columns["model_std"][where], np.abs(mean - observed)

    def ranked(rows: Any) -> dict[str, float | None]:
        if len(rows) < 2:
            return {}
        return {
            "spearman_mean": metrics.spearman(mean[rows], observed[rows]),
            "spearman_std_error": metrics.spearman(spread[rows], error[rows]),
        }

    return ranked


def _measured(columns: Columns, key: str, where: Any) -> bool:
    """Whether this measure exists for these rows; those on a grid, whether every row has one."""
    if f"model_{key}" not in columns:
        return False
    return key not in _GRID_LOSSES or not np.isnan(columns[f"model_{key}"][where]).any()


def _heads(columns: Columns) -> list[str]:
    """The model, the constant model and any other baseline whose distributions were measured."""
    return [key.removesuffix("_pinball") for key in columns if key.endswith("_pinball")]


def _measure(columns: Columns, key: str, where: Any, groups: Any, seed: int) -> dict[str, Any]:
    """One measure of every head; for losses also the model's difference from each baseline."""

    def beside(head: str) -> dict[str, Any]:
        other = columns[f"{head}_{key}"][where]
        value = _interval(other, groups, seed, bounds)
        if key not in _LOSSES:
            return {"value": value}
        return {"value": value, "difference": difference_interval(ours, other, groups, seed=seed).to_dict()}

    ours, bounds = columns[f"model_{key}"][where], _UNIT if key in _SHARES else None
    baselines = {h: beside(h) for h in _heads(columns) if h != "model" and f"{h}_{key}" in columns}
    result: dict[str, Any] = {"model": _interval(ours, groups, seed, bounds)}
    if "constant" in baselines:
        constant = baselines.pop("constant")
        result["constant"] = constant.pop("value")
        result |= constant
    return result | ({"others": baselines} if baselines else {})


def summarise_pairs(columns: Columns, *, seed: int = 0) -> dict[str, Any]:
    """Accuracy of the model beside its baselines, ties apart, and how far the probability can be believed.

    Where the table has the share of votes for the chosen side (`vote_share`), probabilities are compared with
    it, also where votes are tied; accuracy is about the rest.
    """
    calibration = _probability(columns, seed)
    columns = decided(columns)
    groups = group_codes(columns["group"])
    rules = [key.removesuffix("_outcome") for key in columns if key.endswith("_outcome")]
    wins = {rule: (columns[f"{rule}_outcome"] > 0).astype(float) for rule in rules}
    return {
        "rows": len(groups),
        "groups": len(np.unique(groups)),
        "accuracy": {rule: _interval(values, groups, seed, _UNIT) for rule, values in wins.items()},
        "ties": {rule: int((columns[f"{rule}_outcome"] == 0).sum()) for rule in rules},
        "difference": {
            rule: difference_interval(wins["model"], values, groups, seed=seed, bounds=_SIGNED).to_dict()
            for rule, values in wins.items()
            if rule != "model"
        },
        "subsets": _by_subset(columns, wins),
        "attributes": _by_attribute(columns, wins, groups, seed),
        "tied_rules": _tied_rules(columns, rules),
    } | calibration


def decided(columns: Columns) -> Columns:
    """The rows of a table of pairs whose votes are not tied; all rows where there are no votes."""
    if "vote_share" not in columns or (columns["vote_share"] > 0.5).all():
        return columns
    keep = columns["vote_share"] > 0.5
    return {key: _rows_of(values, keep) for key, values in columns.items()}


def _rows_of(values: Any, keep: Any) -> Any:
    if isinstance(values, int):
        return values
    if isinstance(values, list):
        return list(itertools.compress(values, keep))
    return values[keep] if isinstance(values, np.ndarray) else values.filter(keep)


def _probability(columns: Columns, seed: int) -> dict[str, Any]:
    """How near the predicted probability is to what people said."""
    probability, outcome = probabilities.randomise_orientation(
        columns["probability"], seed, columns.get("vote_share")
    )
    curve = probabilities.reliability_curve(probability, outcome)
    groups = group_codes(columns["group"])
    half = probabilities.brier(np.full_like(outcome, 0.5), outcome)

    def calibration_error(rows: Any) -> dict[str, float | None]:
        if not len(rows):
            return {}
        part = probabilities.reliability_curve(probability[rows], outcome[rows])
        return {"expected_calibration_error": probabilities.expected_calibration_error(part)}

    around = jackknife_intervals(calibration_error, groups, bounds={"expected_calibration_error": _UNIT})
    return {
        "intervals": {name: interval.to_dict() for name, interval in around.items()},
        "brier": _interval(probabilities.brier(probability, outcome), groups, seed, _UNIT),
        "brier_of_half": float(half.mean()),
        "expected_calibration_error": probabilities.expected_calibration_error(curve),
        "reliability": curve,
    }


def _tied_rules(columns: Columns, rules: Iterable[str], where: Any = slice(None)) -> list[str]:
    """Rules that hardly ever decide, such as length where texts are equally long: no comparison."""
    return [rule for rule in rules if (columns[f"{rule}_outcome"][where] == 0).mean() > _MOST_TIES]


def _by_subset(columns: Columns, wins: dict[str, Any]) -> dict[str, Any]:
    subset = np.asarray(columns["subset"], object)
    names = list(dict.fromkeys(columns["subset"]))
    if len(names) < 2:
        return {}
    return {
        name: {"rows": int((subset == name).sum())}
        | {rule: float(values[subset == name].mean()) for rule, values in wins.items()}
        for name in names
    }


def _by_attribute(columns: Columns, wins: dict[str, Any], groups: Any, seed: int) -> dict[str, Any]:
    """Accuracy on the pairs of each attribute; empty where pairs are not about one of several."""
    about = np.asarray(columns.get("attribute", ()), object)
    names = list(dict.fromkeys(about.tolist()))
    if len(names) < 2:
        return {}
    return {
        name: {"rows": int((about == name).sum()), "groups": len(np.unique(groups[about == name]))}
        | {
            "accuracy": {
                rule: _interval(values[about == name], groups[about == name], seed, _UNIT)
                for rule, values in wins.items()
            },
            "ties": {rule: int((columns[f"{rule}_outcome"][about == name] == 0).sum()) for rule in wins},
            "tied_rules": _tied_rules(columns, wins, about == name),
        }
        for name in names
    }


def summarise_gate(columns: Columns) -> dict[str, Any]:
    """The gate's weights averaged over rows and over the rows of each subset, and its entropy.

    Returns:
        `rows`, `weights` by attribute, `subsets` of the same and `subset_rows`, `entropy` in nats and
        `entropy_share` of the maximum, that of equal weights; empty if the model has no gate.
    """
    names = [key.removeprefix("gate_") for key in columns if key.startswith("gate_")]
    if not names:
        return {}
    weights = np.stack([columns[f"gate_{name}"] for name in names], 1).astype(np.float64)
    nats = -float((weights * np.log(np.where(weights > 0, weights, 1.0))).sum(1).mean())
    subset = np.asarray(columns["subset"], object)
    kinds = list(dict.fromkeys(columns["subset"]))

    def by_name(rows: Any) -> dict[str, float]:
        return dict(zip(names, rows.mean(0).tolist(), strict=True))

    return {
        "rows": len(weights),
        "weights": by_name(weights),
        "subsets": {kind: by_name(weights[subset == kind]) for kind in kinds},
        "subset_rows": {kind: int((subset == kind).sum()) for kind in kinds},
        "entropy": nats,
        "entropy_share": nats / float(np.log(len(names))),
    }


def _interval(
    values: Any, groups: Any, seed: int, bounds: tuple[float, float] | None = None
) -> dict[str, Any]:
    return mean_interval(values, groups, seed=seed, bounds=bounds).to_dict()


def _ragged(rows: Sequence[Sequence[float]]) -> Ragged:
    values = list(itertools.chain.from_iterable(rows))
    return Ragged(np.array(values, np.float64), np.array([len(row) for row in rows], np.int64))
