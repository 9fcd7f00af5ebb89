"""The data of curves and scatter plots: averages over the rows of `scores.parquet`, and single examples.

In: columns of rated responses, [N] each, or examples. Out: plain numbers. No metrics are defined here: those
of a row are from the evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pluralign.report.evaluations import Scores

__all__ = ["agreement_by_spread", "error_shares", "true_and_predicted"]

_BINS = 5
_FEWEST = 20  # minimum number of rows per bin
_FEWEST_DOTS = 10  # of a cloud, and responses of a histogram: fewer show single texts, no tendency
_SHOWN_LEVELS = (0.1, 0.5, 0.9)


def agreement_by_spread(scores: Scores) -> list[dict[str, float]]:
    """Coverage of the central interval, from the least to the most predicted spread.

    The rows are divided into five parts of equal size by predicted standard deviation, as a share of the
    scale if the file has its span.

    Returns:
        Per part: `rows`, mean `spread`, and mean `model` and `constant` coverage; empty if a part would have
        fewer than 20 rows.
    """
    if "model_coverage" not in scores or len(scores["model_std"]) < _BINS * _FEWEST:
        return []
    spread = scores["model_std"] / scores.get("span", np.ones_like(scores["model_std"]))
    order = np.argsort(spread, kind="stable")
    bins = []
    for rows in np.array_split(order, _BINS):
        entry = {"rows": len(rows), "spread": float(spread[rows].mean())}
        for head in ("model", "constant"):
            if f"{head}_coverage" in scores:
                entry[head] = float(scores[f"{head}_coverage"][rows].mean())
        bins.append(entry)
    return bins


def error_shares(scores: Scores) -> dict[str, Any] | None:
    """Histogram of the distance between predicted and true quantiles of each response.

    Returns:
        `edges` [21] in points of the scale and, per head, the `share` of responses in each bin; None if the
        true quantiles of ten responses are not known.
    """
    heads = [h for h in ("model", "constant") if f"{h}_quantile_error" in scores]
    if "model" not in heads:
        return None
    errors = {h: e[np.isfinite(e)] for h in heads for e in (scores[f"{h}_quantile_error"],)}
    if len(errors["model"]) < _FEWEST_DOTS:
        return None
    edges = np.linspace(0, max(float(e.max()) for e in errors.values() if len(e)) or 1.0, 21)
    return {
        "edges": edges.tolist(),
        "share": {h: (np.histogram(e, edges)[0] / len(e)).tolist() for h, e in errors.items() if len(e)},
        "median": {h: float(np.median(e)) for h, e in errors.items() if len(e)},
    }


def true_and_predicted(examples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The true and the predicted 10 %, 50 % and 90 % quantile of every example whose truth is known.

    Quantiles between the given levels are linear in the level. True quantiles are at levels k/(K + 1).

    Returns:
        Per level: `level`, `true` and `predicted`; empty if fewer than ten are known.
    """
    points = [
        (example, name, true)
        for example in examples
        for name, true in example.get("true_quantiles", {}).items()
        if true and name in example["attributes"]
    ]
    if len(points) < _FEWEST_DOTS:
        return []
    clouds = []
    for level in _SHOWN_LEVELS:
        cloud: dict[str, Any] = {"level": level, "true": [], "predicted": []}
        for example, name, true in points:
            levels = np.arange(1, len(true) + 1) / (len(true) + 1)
            cloud["true"].append(float(np.interp(level, levels, true)))
            predicted = sorted(example["attributes"][name])
            cloud["predicted"].append(float(np.interp(level, example["levels"], predicted)))
        clouds.append(cloud)
    return clouds
