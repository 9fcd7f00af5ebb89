"""The responses on which a model was most confidently wrong.

In: the examples of evaluations, with ratings. Out: those whose mean rating lies farthest from the predicted
mean, in predicted standard deviations. They are selected by the ratings, so they do not show how often a
model is wrong; coverage does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pluralign.report.evaluations import Evaluation

__all__ = ["overconfident"]

_SHOWN = 6
_LEAST = 2.0  # standard deviations


def overconfident(named: Mapping[str, Evaluation]) -> dict[str, Any]:
    """The most over-confident predictions of the first run that has any.

    Returns:
        `by` and `entries`, farthest first, each with `prompt`, `response`, `subset`, `attribute`,
        `predicted` (mean), `std`, `observed` (mean rating), `ratings` and `distance` (in stds); or `missing`.
    """
    any_ratings = False
    for name, evaluation in named.items():
        entries = []
        for line in evaluation.examples or ():
            for attribute, ratings in line.get("ratings", {}).items():
                quantiles = line["attributes"].get(attribute)
                if quantiles is None or not ratings or max(quantiles) <= min(quantiles):
                    continue
                any_ratings = True
                entries.append(_entry(line, attribute, np.asarray(quantiles), np.asarray(ratings)))
        entries = [entry for entry in entries if abs(entry["distance"]) >= _LEAST]
        if entries:
            entries.sort(key=lambda entry: -abs(entry["distance"]))
            return {"by": name, "entries": entries[:_SHOWN]}
    if any_ratings:
        return {"missing": f"No example's mean rating lies {_LEAST:g} predicted standard deviations off."}
    return {"missing": "There are no examples with ratings and a predicted distribution."}


def _entry(line: Mapping[str, Any], attribute: str, quantiles: Any, ratings: Any) -> dict[str, Any]:
    grid = (np.arange(200) + 0.5) / 200
    values = np.interp(grid, line["levels"], np.sort(quantiles))
    mean, std, observed = float(values.mean()), float(values.std()), float(ratings.mean())
    return {
        "prompt": line["prompt"][-1]["content"] if line["prompt"] else "",
        "response": line["response"],
        "subset": line.get("subset", ""),
        "attribute": attribute,
        "predicted": mean,
        "std": std,
        "observed": observed,
        "ratings": [float(rating) for rating in ratings],
        "distance": (observed - mean) / std,
    }
