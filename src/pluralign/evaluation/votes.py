"""Comparisons with votes: the probabilities that a model gives a, tie and b, beside the shares of its raters.

In: a model and a table of comparisons. Out: a dict of columns, one entry per comparison; and their
aggregates, with intervals over groups. Pairs that a majority decides are in `pairs`; here every vote counts,
ties too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pluralign.data.table_columns import column_values, ragged
from pluralign.evaluation.columns import Floats, group_codes
from pluralign.evaluation.intervals import difference_interval, mean_interval
from pluralign.evaluation.texts import Columns, Texts, host_array
from pluralign.evaluation.three_way import OUTCOMES, three_way, three_way_brier, three_way_log_loss

if TYPE_CHECKING:
    import datasets

    from pluralign.model import RewardModel

__all__ = ["summarise_votes", "vote_rows"]

_LOSSES = {"log_loss": three_way_log_loss, "brier": three_way_brier}
_BOUNDS = {"brier": (0.0, 2.0)}


@torch.inference_mode()
def vote_rows(model: RewardModel, votes: datasets.Dataset, *, progress: bool | None = None) -> Columns:
    """Shares of the votes of each comparison, and the probabilities of the model and its baselines.

    Returns:
        Columns of length N: id, subset, group; `observed_a`, `observed_tie`, `observed_b`; and, likewise,
        those of the model and of each baseline that predicts ties. Empty if the model does not.
    """
    heads = {name: one for name, one in {"model": model.head, **model.baselines}.items() if one.predicts_ties}
    if "model" not in heads:
        return {}
    texts = Texts.read(model, votes, "response_a", "response_b", progress=progress)
    first, second = texts.numbers
    columns: Columns = {name: column_values(votes, name) for name in ("id", "subset", "group")}
    columns["kind"] = ["vote"] * len(votes)
    columns |= _named("observed", _shares(votes))
    for name, head in heads.items():
        distribution = head.distribution(*texts.inputs)
        predict = model.predicted_votes if name == "model" else head.vote_probabilities
        probs = predict(distribution[first], distribution[second])
        assert probs is not None  # it predicts ties
        columns |= _named(name, host_array(probs.double()))
    return columns


def summarise_votes(columns: Columns, *, seed: int = 0) -> dict[str, Any]:
    """Log loss and Brier score of the model with intervals, beside its baselines and what knows nothing.

    Returns:
        As `three_way` of the model, without its plain means; `groups`; `log_loss` and `brier`, each with
        intervals of the `model`, of `constant` (the shares that it was fitted on), where it has one, and
        `uniform`, and the model's paired `difference` from each. A loss that is infinite is null.
    """
    groups = group_codes(columns["group"])
    observed = _read(columns, "observed")
    given = {key.removesuffix("_tie") for key in columns if key.endswith("_tie")} - {"observed"}
    probs = {name: _read(columns, name) for name in sorted(given)} | {
        "uniform": np.full_like(observed, 1 / 3)
    }
    summary: dict[str, Any] = three_way(probs["model"], observed)
    plain = ("base_rates", "uniform", "log_loss", "brier", "floor")
    summary = {key: value for key, value in summary.items() if key not in plain}
    for measure, loss in _LOSSES.items():
        rows = {name: loss(values, observed) for name, values in probs.items()}
        rows = {name: values for name, values in rows.items() if np.isfinite(values).all()}
        if bounds := _BOUNDS.get(measure):
            rows = {name: np.clip(values, *bounds) for name, values in rows.items()}  # but for rounding
        own = rows.get("model")
        summary[measure] = {
            "value": {
                name: mean_interval(values, groups, seed=seed, bounds=bounds).to_dict()
                for name, values in rows.items()
            },
            "difference": {
                name: difference_interval(own, values, groups, seed=seed).to_dict()
                for name, values in rows.items()
                if own is not None and name != "model"
            },
        }
    return summary | {"groups": len(np.unique(groups))}


def _shares(votes: datasets.Dataset) -> Floats:
    """[N, 3], as `three_way.vote_shares`, from a column that was checked when it was loaded."""
    given = ragged(votes, "votes")
    row = np.repeat(np.arange(len(votes)), given.sizes)
    counts = [np.bincount(row, given.values == vote, len(votes)) for vote in (1, 0, -1)]
    return np.asarray(np.stack(counts, 1) / given.sizes[:, None], np.float64)


def _named(name: str, values: Floats) -> Columns:
    return {f"{name}_{outcome}": values[:, place] for place, outcome in enumerate(OUTCOMES)}


def _read(columns: Columns, name: str) -> Floats:
    return np.stack([columns[f"{name}_{outcome}"] for outcome in OUTCOMES], 1)
