"""A sample of evaluated responses with their text: the lines of `examples.jsonl`.

In: a model, the tables it is evaluated on, and how much it expects raters to disagree. Out: one dict per
response.

Of the ratings, three tenths of the sample are the responses with the largest and the smallest predicted
disagreement, half each; a tenth are all responses of a few prompts, so that these can be compared; the rest
are spaced evenly over the table. The choice does not depend on the ratings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pluralign.data import conversation
from pluralign.data.table_columns import arrow_column, take
from pluralign.evaluation.calibration import LEVELS
from pluralign.evaluation.texts import Columns

if TYPE_CHECKING:
    import datasets

    from pluralign.model import RewardModel

__all__ = ["MAX_EXAMPLES", "example_lines"]

MAX_EXAMPLES = 200
_EXTREMES = 0.15  # share of the sample from each end of the predicted spread
_WHOLE = 0.1  # share of the sample that are all responses of a few prompts
_MOST_RIVALS = 8  # responses of one prompt
_SEARCHED = 2000  # first rows of a table, in which such prompts are looked for
_SIDES = {"ratings": ("response",), "pairs": ("chosen", "rejected"), "votes": ("response_a", "response_b")}

Texts = dict[str, dict[str, Any]]  # the data of each response, by prompt and text


@torch.inference_mode()
def example_lines(
    model: RewardModel,
    tables: Mapping[str, datasets.Dataset],
    scores: Columns | None = None,
    limit: int = MAX_EXAMPLES,
) -> list[dict[str, Any]]:
    """Text, predicted distribution, attributes, gate weights and ratings of a sample of responses.

    Args:
        model: any family.
        tables: `ratings`, `pairs` or `votes`, and their rows.
        scores: the columns of `rating_rows` for the ratings; if they have no predicted spread, the whole
            sample is spaced evenly over the table.
        limit: maximum number of responses, at least the number of tables.

    Returns:
        Dicts with `prompt`, `response`, `subset`; `levels` [T] and at these levels the quantiles of `reward`
        (on the reference scale) and of each of `attributes` (on its rating scale); `grid`, for each attribute
        whose ratings are on one the `ratings` that people can give and the predicted `shares`; `gate`, one
        weight per attribute; and for rated responses, by attribute, `scales`, `ratings` and, where the data
        has them, `true_quantiles` at levels k/(K + 1).
    """
    texts: Texts = {}
    for kind, table in tables.items():
        room = limit // len(tables)
        spread = _spread(scores) if kind == "ratings" else None
        found: Texts = {}
        whole = _rivals(table, int(_WHOLE * room)) if kind == "ratings" else []
        for row in table.select(list(dict.fromkeys([*whole, *_rows(len(table), room, spread)]))):
            for side in _SIDES[kind]:
                facts = {"prompt": row["prompt"], "response": row[side], "subset": row["subset"]}
                found.setdefault(_key(row["prompt"], row[side]), facts)
        texts = dict(list(found.items())[:room]) | texts
    if "ratings" in tables:
        _add_ratings(texts, tables["ratings"])
    return _with_predictions(model, list(texts.values()))


def _rows(count: int, limit: int, spread: Any) -> list[int]:
    """Rows of the sample: both ends of the spread, then an even grid."""
    ends = int(_EXTREMES * limit) if spread is not None else 0
    order = np.argsort(spread, kind="stable").tolist() if ends else []
    even = range(0, count, max(1, count // max(1, limit - 2 * ends)))
    return list(dict.fromkeys([*order[:ends], *order[::-1][:ends], *even]))


def _rivals(table: datasets.Dataset, limit: int) -> list[int]:
    """Rows of prompts with several responses, those with the most first; one row for each response."""
    head = table.select(range(min(len(table), _SEARCHED)))
    prompts: dict[str, dict[str, int]] = {}
    for row, (prompt, response) in enumerate(zip(head["prompt"], head["response"], strict=True)):
        prompts.setdefault(json.dumps(prompt), {}).setdefault(response, row)
    several = sorted((of for of in prompts.values() if len(of) > 1), key=lambda of: -len(of))
    rows: list[int] = []
    for of in several:
        found = list(of.values())[:_MOST_RIVALS]
        if len(rows) + len(found) > limit:
            break
        rows += found
    return rows


def _spread(scores: Columns | None) -> Any:
    return None if scores is None or "model_std" not in scores else scores["model_std"] / scores["span"]


def _add_ratings(texts: Texts, ratings: datasets.Dataset) -> None:
    """The ratings of each response, by attribute; pools of raters are combined."""
    kinds: dict[str, set[str]] = {}
    import pyarrow as pa
    import pyarrow.compute as pc

    names = [c for c in ("attribute", "scale", "ratings", "true_quantiles") if c in ratings.column_names]
    columns = {name: arrow_column(ratings, name) for name in ("prompt", "response", "subset", *names)}
    shown = pa.array([facts["response"] for facts in texts.values()], columns["response"].type)
    near = np.flatnonzero(np.asarray(pc.is_in(columns["response"], shown)))
    for row in pa.table({name: take(column, near) for name, column in columns.items()}).to_pylist():
        key = _key(row["prompt"], row["response"])
        facts = texts.get(key)
        if facts is None:
            continue
        kinds.setdefault(key, set()).add(row["subset"])
        facts.setdefault("scales", {})[row["attribute"]] = list(row["scale"])
        facts.setdefault("ratings", {}).setdefault(row["attribute"], []).extend(row["ratings"])
        if row.get("true_quantiles"):
            facts.setdefault("true_quantiles", {})[row["attribute"]] = list(row["true_quantiles"])
    for key, subsets in kinds.items():
        texts[key]["subset"] = ", ".join(sorted(subsets))


def _with_predictions(model: RewardModel, texts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    inputs = model.read([conversation(text["prompt"], text["response"]) for text in texts])
    reward = model.head.distribution(*inputs).to(dtype=torch.float64)
    rounded = model.predicted_attributes(inputs.response, on_grid=True)
    on_grid = [a.name for a in model.head.attributes if model.head.grid_step(a) is not None]
    attributes = {
        name: _rounded(distribution.to(dtype=torch.float64).quantile(levels))
        for name, distribution in model.predicted_attributes(inputs.response).items()
    }
    grid = {
        name: (masses[0][0].tolist(), _rounded(masses[1]))
        for name in on_grid
        if (masses := rounded[name].point_masses()) is not None
    }
    quantiles, gate = _rounded(reward.quantile(levels)), _rounded(model.head.gate_weights(inputs.prompt))
    return [
        dict(text)
        | {
            "levels": list(LEVELS),
            "reward": quantiles[i],
            "attributes": {name: values[i] for name, values in attributes.items()},
            "grid": {name: {"ratings": r, "shares": shares[i]} for name, (r, shares) in grid.items()},
            "gate": gate[i],
        }
        for i, text in enumerate(texts)
    ]


def _rounded(values: Tensor) -> list[list[float]]:
    return [[round(float(x), 6) for x in row] for row in values]


def _key(prompt: Any, response: str) -> str:
    return json.dumps([prompt, response])
