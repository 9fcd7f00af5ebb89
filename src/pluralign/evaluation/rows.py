"""Per-row scores of a model and its baselines: the content of `scores.parquet`, from which all aggregates
are computed.

In: a model and a table. Out: a dict of columns, one entry per row of the table.

Ratings. Predicted distributions are compared with ratings on the scale of the ratings. Ratings on a grid
of step h are spread by U(-h/2, h/2) with a fixed seed, as they are for the fit, because a continuous
distribution never covers an integer fairly; so the closed interval on the ratings as they are is given too.
A distribution over categories is spread likewise for its losses, so that they compare with those of other
families. It has atoms itself, so its coverage is randomised over these, each rating standing in its category.
The losses `pinball_on_grid` and `crps_on_grid` are the other way round: every distribution is rounded to the
grid, and the ratings are as they are. They are about what people are shown; the first, about what was fitted.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pluralign.data.table_columns import arrow_column, column_values, ragged
from pluralign.distributions import RewardDistribution
from pluralign.evaluation.calibration import COVERAGE, LEVELS, Rated, calibration
from pluralign.evaluation.pairs import pair_rows
from pluralign.evaluation.texts import Columns, Texts, gate_columns, host_array
from pluralign.heads import Attribute
from pluralign.model.calibrating import check_rated_attributes
from pluralign.risk import RiskMeasure, parse

if TYPE_CHECKING:
    import datasets

    from pluralign.model import RewardModel

__all__ = ["COVERAGE", "LEVELS", "Columns", "pair_rows", "rating_rows"]

_ROWS_AT_ONCE = 8192  # a spread distribution has some hundred numbers per row


@torch.inference_mode()
def rating_rows(
    model: RewardModel,
    ratings: datasets.Dataset,
    *,
    risk: str | RiskMeasure = "mean",
    seed: int = 0,
    progress: bool | None = None,
    texts: Texts | None = None,
) -> Columns:
    """Scores of one row per (response, attribute, pool of raters).

    Args:
        model: any family; one without attributes on rating scales gets a utility but no calibration.
        ratings: rows from `load_ratings`; `true_quantiles` is used if present.
        risk: the risk measure of the `utility` column.
        seed: of the spreading and of the randomised PIT.
        progress: True or False for a progress bar or none; None for one where stderr is a terminal.
        texts: the responses, where they have been read.

    Returns:
        Columns of length N: id, subset, group, attribute, utility, low end and span of the scale, observed
        mean, per head (`model`, `constant`, of a calibrated model also `uncalibrated`) what `calibration`
        measures, and, where the model has a gate, its weight of each attribute as `gate_<attribute>`.

    Raises:
        DataError: an attribute that the model was not fitted on, or ratings on another scale.
    """
    texts = Texts.read(model, ratings, "response", progress=progress) if texts is None else texts
    (item,), inputs = texts.numbers, texts.inputs
    utility = parse(risk)(model.head.distribution(*inputs))
    observed = ragged(ratings, "ratings")
    names = ("id", "subset", "group", "attribute")
    columns: Columns = {name: column_values(ratings, name) for name in names}
    columns["kind"] = ["rating"] * len(ratings)
    columns["utility"] = host_array(utility[item])
    low, high = ragged(ratings, "scale").values.reshape(-1, 2).T
    columns["low"], columns["span"] = low.copy(), high - low
    row_of = np.repeat(np.arange(len(ratings)), observed.sizes)
    columns["observed_mean"] = np.bincount(row_of, observed.values, len(ratings)) / observed.sizes
    columns |= gate_columns(model.head, inputs.prompt[item])
    attribute = np.asarray(columns["attribute"], dtype=object)
    check_rated_attributes(model.head, ratings)
    truth, width = _true_quantiles(ratings), int(observed.sizes.max())

    @cache
    def rated(a: Attribute) -> tuple[NDArray[np.int64], Rated]:
        where = np.flatnonzero(attribute == a.name)
        known = None if truth is None else truth[where]
        return where, Rated.drawn(a, observed[where], known, width=width, seed=seed)

    before = {"uncalibrated": model.head} if model.calibration else {}
    for name, head in {"model": model.head, **before, **model.baselines}.items():
        if not head.attributes:
            continue
        own = name == "model"
        predicted = (
            model.predicted_attributes(inputs.response)
            if own
            else head.attribute_distributions(inputs.response)
        )
        for a in head.attributes:
            where, given = rated(a)
            if not len(where):
                continue
            of_rows = partial(_some, predicted[a.name], item[where])
            found = calibration(of_rows, given, head.categories_of(a.name), head.grid_step(a), _ROWS_AT_ONCE)
            for key, values in found.items():
                column = columns.setdefault(f"{name}_{key}", _empty(len(ratings), values))
                column[where] = values
    return columns


def _some(distribution: RewardDistribution, item: Tensor, rows: Tensor) -> RewardDistribution:
    """The distributions of the texts that some rows have."""
    return distribution[item[rows]].to("cpu", torch.float64)


def _true_quantiles(ratings: datasets.Dataset) -> Tensor | None:
    """[N, K], or None if the rows do not all have the same number of them."""
    if "true_quantiles" not in ratings.column_names:
        return None
    if arrow_column(ratings, "true_quantiles").null_count == len(ratings):
        return None
    truth = ragged(ratings, "true_quantiles")
    if truth.sizes[0] == 0 or len(set(truth.sizes.tolist())) > 1:
        return None
    return torch.tensor(truth.values.reshape(len(ratings), -1))


def _empty(size: int, like: Any) -> Any:
    return np.full(size, None, dtype=object) if like.dtype == object else np.full(size, np.nan)
