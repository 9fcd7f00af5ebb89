"""Attributes and gate weights by kind of prompt: the `subset` of the data.

In: evaluations. Out: averages per subset. Gate weights are from `results.json`, averaged over all rows, or if
it has none, averaged over `examples.jsonl`. Attributes are averaged over `scores.parquet`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pluralign.report.evaluations import Evaluation, Scores

__all__ = ["kinds_of_prompt"]


def kinds_of_prompt(named: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Per run: mean predicted and observed ratings by attribute and subset; gate weights by subset."""
    attributes = {
        name: table for name, e in named.items() if e.scores is not None and (table := _attributes(e.scores))
    }
    gates = {name: _gate(e) for name, e in named.items()}
    return {"attributes": attributes, "gates": gates}


def _attributes(scores: Scores) -> list[dict[str, Any]]:
    cells = []
    for attribute in dict.fromkeys(scores["attribute"]):
        for subset in sorted(set(scores["subset"][scores["attribute"] == attribute])):
            rows = (scores["attribute"] == attribute) & (scores["subset"] == subset)
            cells.append(
                {
                    "attribute": attribute,
                    "subset": subset,
                    "rows": int(rows.sum()),
                    "predicted": float(_shown(scores, "mean", rows).mean()),
                    "observed": float(scores["observed_mean"][rows].mean()),
                    "spread": float(_shown(scores, "std", rows).mean()),
                }
            )
    return cells


def _shown(scores: Scores, key: str, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Mean or std of what people are shown: on the grid of the ratings where they are on one."""
    rounded = scores.get(f"model_{key}_on_grid")
    if rounded is None or np.isnan(rounded[rows]).any():
        return scores[f"model_{key}"][rows]
    return rounded[rows]


def _gate(evaluation: Evaluation) -> dict[str, Any]:
    """For each table its rows (`subset`, `rows`, `weights`) and the entropy as a share; or `missing`."""
    gates, examples = evaluation.results.get("gate"), evaluation.examples
    names = list(examples[0]["attributes"]) if examples else []
    if gates:
        names = list(next(iter(gates.values()))["weights"])
        # Pairs from ratings have the same prompts as the ratings.
        shown = {k: v for k, v in gates.items() if k != "pairs_from_ratings" or "ratings" not in gates}
        return {"attributes": names, "tables": [_table(name, part) for name, part in shown.items()]}
    if gates is None and not examples:
        return {"missing": "There is no examples.jsonl, so gate weights are not known."}
    if gates is None and len(names) > 1:
        weights = np.array([e["gate"] for e in examples or ()], dtype=np.float64)
        if np.abs(weights - 1 / len(names)).max() >= 1e-4:
            subsets = np.array([e.get("subset", "") for e in examples or ()], dtype=object)
            return {"attributes": names, "tables": [_table_of_examples(weights, subsets)]}
    attributes = names or [name for name in evaluation.results["ratings"] if name != "all"]
    if len(attributes) < 2:
        return {"missing": "The model has one attribute, so there are no weights."}
    return {"missing": f"No gate: each of the {len(attributes)} attributes has weight 1/{len(attributes)}."}


def _table(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    counts = part.get("subset_rows", {})
    rows = [{"subset": "all", "rows": part.get("rows"), "weights": list(part["weights"].values())}]
    if len(part["subsets"]) > 1:
        rows += [
            {"subset": kind, "rows": counts.get(kind), "weights": list(weights.values())}
            for kind, weights in sorted(part["subsets"].items())
        ]
    return {"table": name, "rows": rows, "entropy": part["entropy_share"]}


def _table_of_examples(weights: npt.NDArray[np.float64], subsets: npt.NDArray[Any]) -> dict[str, Any]:
    kinds = sorted(set(subsets))
    rows = [{"subset": "all", "rows": len(weights), "weights": weights.mean(0).tolist()}]
    if len(kinds) > 1:
        rows += [
            {
                "subset": kind,
                "rows": int((subsets == kind).sum()),
                "weights": weights[subsets == kind].mean(0).tolist(),
            }
            for kind in kinds
        ]
    positive = np.clip(weights, 1e-12, None)
    entropy = -(positive * np.log(positive)).sum(1).mean() / np.log(weights.shape[1])
    return {"table": "examples", "rows": rows, "entropy": float(entropy)}
