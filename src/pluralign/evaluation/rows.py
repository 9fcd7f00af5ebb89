"""Per-row scores of a model and its baselines: the content of `scores.parquet`, from which all aggregates
are computed.

In: a model and a table. Out: a dict of columns, one entry per row of the table.

Ratings. Predicted distributions are compared with ratings on the scale of the ratings. Ratings on a grid
of step h get noise U(-h/2, h/2) with a fixed seed, as in the fit, because the coverage of integers by a
continuous distribution is biased; the closed interval on the original ratings is reported too. A
distribution over categories gets the same noise for its losses, so that they are comparable with those of
other families. It has atoms itself, so its coverage is randomised over them, each rating in its category.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pluralign.data import DistinctConversations
from pluralign.distributions import RewardDistribution
from pluralign.errors import DataError, RiskError
from pluralign.evaluation import metrics
from pluralign.evaluation.columns import rounding
from pluralign.evaluation.ensembles import distribution_columns, margin_columns
from pluralign.evaluation.spread import spread_distribution
from pluralign.heads import Attribute, Head
from pluralign.heads.categories import Categories
from pluralign.risk import RiskMeasure, parse

if TYPE_CHECKING:
    import datasets

    from pluralign.model import RewardModel

__all__ = ["COVERAGE", "LEVELS", "Columns", "pair_rows", "rating_rows"]

Columns = dict[str, Any]

COVERAGE = 0.9  # mass of the central interval, from the 5 % to the 95 % quantile
LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))  # the same grid for every family and every K
_ROWS_AT_ONCE = 8192  # a distribution with noise has a few hundred numbers per row


@torch.inference_mode()
def rating_rows(
    model: RewardModel,
    ratings: datasets.Dataset,
    *,
    risk: str | RiskMeasure = "mean",
    seed: int = 0,
    progress: bool | None = None,
) -> Columns:
    """Scores of one row per (response, attribute, pool of raters).

    Args:
        model: any family; one without attributes on rating scales gets a utility but no calibration.
        ratings: rows from `load_ratings`; `true_quantiles` is used if present.
        risk: the risk measure of the `utility` column.
        seed: random seed of the noise and of the randomised PIT.
        progress: True or False for a progress bar or none; None for one if stderr is a terminal.

    Returns:
        Columns of length N: id, subset, group, attribute, utility, low end and span of the scale, observed
        mean, per head (`model`, `constant`) the columns of `_calibration`, and, if the model has a gate,
        its weight of each attribute as `gate_<attribute>`.

    Raises:
        DataError: an attribute that the model was not fitted on, or ratings on another scale.
    """
    distinct = DistinctConversations()
    rows = ratings.select_columns(["prompt", "response"])
    item = torch.tensor([distinct.add(row["prompt"], row["response"]) for row in rows])
    inputs = model.read(distinct.conversations, progress=progress)
    utility = parse(risk)(model.head.distribution(*inputs))
    observed = _padded(list(ratings["ratings"]))
    columns: Columns = {name: list(ratings[name]) for name in ("id", "subset", "group", "attribute")}
    columns["kind"] = ["rating"] * len(ratings)
    columns["utility"] = _array(utility[item])
    scales = np.array(list(ratings["scale"]))
    columns["low"], columns["span"] = scales[:, 0], scales[:, 1] - scales[:, 0]
    columns["observed_mean"] = _array(observed.nanmean(1))
    columns |= _gate_columns(model.head, inputs.prompt[item])
    truth = _true_quantiles(ratings)
    attribute = np.asarray(ratings["attribute"])
    _check_attributes(model.head, ratings)
    for name, head in {"model": model.head, **model.baselines}.items():
        if not head.attributes:
            continue
        predicted = head.attribute_distributions(inputs.response)
        for a in head.attributes:
            where = np.flatnonzero(attribute == a.name)
            if not len(where):
                continue
            distribution = predicted[a.name][item[where]].to("cpu", torch.float64)
            known = truth[where] if truth is not None else None
            rated = observed[where]
            held = head.categories_of(a.name)
            for key, values in _calibration(distribution, rated, a, known, seed, held).items():
                column = columns.setdefault(f"{name}_{key}", _empty(len(ratings), values))
                column[where] = values
    return columns


def _check_attributes(head: Head, ratings: datasets.Dataset) -> None:
    known = {a.name: a for a in head.attributes}
    for name, low, high in {
        (n, s[0], s[1]) for n, s in zip(ratings["attribute"], ratings["scale"], strict=True)
    }:
        if not known:
            return
        if name not in known:
            raise DataError(
                f"attribute {name!r} is rated in this data, but the model was fitted on {', '.join(known)}; "
                f"select rows with where, or fit the model on this attribute"
            )
        if (low, high) != (known[name].low, known[name].high):
            raise DataError(
                f"attribute {name!r} is rated from {low:g} to {high:g} here, but the model was fitted on "
                f"{known[name].low:g} to {known[name].high:g}; convert the ratings to that scale"
            )


def _calibration(
    distribution: RewardDistribution,
    observed: Tensor,
    attribute: Attribute,
    truth: Tensor | None,
    seed: int,
    categories: Categories | None,
) -> Columns:
    """All measures of one attribute's distributions against its ratings, one entry per row."""
    spread = observed if attribute.step is None else metrics.dequantise(observed, attribute.step, seed=seed)
    step = None
    masses = distribution.point_masses()
    if categories is not None and masses is not None:
        observed = masses[0].gather(1, categories.places(observed)).where(~observed.isnan(), observed)
        step = attribute.step if categories.edges is None else None
    pit = metrics.pit_values(distribution, spread if categories is None else observed, seed=seed)
    crossing = getattr(distribution, "crossing_rate", None)
    measured = {
        "mean": distribution.mean(),
        "std": distribution.std(),
        "coverage": metrics.central_coverage(pit, COVERAGE),
        "closed_coverage": metrics.closed_coverage(distribution, observed, COVERAGE),
        "peaked": metrics.peaked(distribution, attribute.span),
        "crossing": crossing if crossing is not None else torch.zeros(len(distribution)),
    }
    measured |= _losses(distribution, spread, truth, step) | distribution_columns(distribution)
    columns: Columns = {key: _array(values) for key, values in measured.items()}
    columns["pit"] = np.empty(len(distribution), dtype=object)
    for i, row in enumerate(_array(pit)):
        columns["pit"][i] = row[~np.isnan(row)].tolist()
    return columns


def _losses(
    distribution: RewardDistribution, ratings: Tensor, truth: Tensor | None, step: float | None
) -> dict[str, Tensor]:
    """Pinball loss, CRPS and distance to the true quantiles; categories `step` apart get noise first."""
    parts = []
    for start in range(0, len(distribution), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        part = distribution[rows]
        if step is not None:
            part = spread_distribution(part, step)
        losses = {
            "pinball": metrics.pinball_rows(part, ratings[rows], LEVELS),
            "crps": part.crps(ratings[rows]),
        }
        if truth is not None:
            losses["quantile_error"] = _quantile_error(part, truth[rows])
        parts.append(losses)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _quantile_error(distribution: RewardDistribution, truth: Tensor) -> Tensor:
    """Mean over the true levels k/(K+1) of |predicted quantile - true quantile|: [N]."""
    count = truth.shape[1]
    levels = torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)
    return (distribution.quantile(levels) - truth).abs().mean(1)


def _true_quantiles(ratings: datasets.Dataset) -> Tensor | None:
    """[N, K], or None if the rows do not all have the same number of them."""
    if "true_quantiles" not in ratings.column_names:
        return None
    rows = list(ratings["true_quantiles"])
    if len({0 if row is None else len(row) for row in rows}) > 1 or not rows[0]:
        return None
    return torch.tensor(rows, dtype=torch.float64)


def _padded(rows: Sequence[Sequence[float]]) -> Tensor:
    padded = torch.full((len(rows), max(map(len, rows))), float("nan"), dtype=torch.float64)
    for i, values in enumerate(rows):
        padded[i, : len(values)] = torch.tensor(values, dtype=torch.float64)
    return padded


def _empty(size: int, like: Any) -> Any:
    return np.full(size, None, dtype=object) if like.dtype == object else np.full(size, np.nan)


@torch.inference_mode()
def pair_rows(
    model: RewardModel,
    pairs: datasets.Dataset,
    *,
    risk: str | RiskMeasure = "mean",
    progress: bool | None = None,
) -> Columns:
    """Scores of one row per pair, with the outcomes of the model, its baselines and length.

    Returns:
        Columns of length N: id, subset, group, the attribute if the table has it; utilities and
        `probability` of the chosen side; outcomes 1 (chosen wins), 0 (tie), -1 for `model`, for each baseline
        that the risk measure applies to and that is not the same for every text, for `length` (characters)
        and, if the pairs are about one of several attributes of the model, for `own_attribute` (its predicted
        mean of that attribute); and, if the model has a gate, its weight of each attribute as
        `gate_<attribute>`.
    """
    distinct = DistinctConversations()
    index = {
        side: torch.tensor(
            [distinct.add(r["prompt"], r[side]) for r in pairs.select_columns(["prompt", side])]
        )
        for side in ("chosen", "rejected")
    }
    inputs = model.read(distinct.conversations, progress=progress)
    columns: Columns = {name: list(pairs[name]) for name in ("id", "subset", "group")}
    columns["kind"] = ["pair"] * len(pairs)
    chosen, rejected = index["chosen"], index["rejected"]
    columns |= _gate_columns(model.head, inputs.prompt[chosen])
    distribution = model.head.distribution(*inputs)
    utility = parse(risk)(distribution)
    columns["utility_chosen"], columns["utility_rejected"] = (
        _array(utility[chosen]),
        _array(utility[rejected]),
    )
    columns["probability"] = _array(
        model.head.preference_probability(distribution[chosen], distribution[rejected])
    )
    columns |= margin_columns(model.head, distribution[chosen], distribution[rejected])
    rules = {"model": utility}
    for name, head in model.baselines.items():
        value = _utility(head.distribution(*inputs), risk)
        if value is not None:
            rules[name] = value
    rules["length"] = torch.tensor([float(len(c[-1]["content"])) for c in distinct.conversations])
    for name, value in rules.items():
        columns[f"{name}_outcome"] = _array(metrics.pair_outcomes(value[chosen], value[rejected]))
    if "attribute" in pairs.column_names and None not in pairs["attribute"]:
        columns["attribute"] = list(pairs["attribute"])
        columns |= _own_attribute(model.head, inputs.response, columns["attribute"], chosen, rejected)
    return columns


def _own_attribute(
    head: Head, response: Tensor, about: Sequence[str], chosen: Tensor, rejected: Tensor
) -> Columns:
    """The winner by the predicted mean of the attribute that each pair is about; empty for one attribute."""
    names = [a.name for a in head.attributes]
    if len(names) < 2 or not set(about) <= set(names):
        return {}
    distributions = head.attribute_distributions(response)
    means = torch.stack([distributions[name].mean() for name in names], 1)
    own = torch.tensor([names.index(name) for name in about])
    outcomes = metrics.pair_outcomes(means[chosen, own], means[rejected, own])
    return {"own_attribute_outcome": _array(outcomes)}


def _utility(reward: RewardDistribution, risk: str | RiskMeasure) -> Tensor | None:
    """A baseline's utility; None if the measure does not apply to it, or it is the same for every text."""
    mean = reward.mean()
    if reward.is_point:
        return mean
    if bool(((mean - mean[0]).abs() <= rounding(mean) * mean.abs()).all()):
        return None
    try:
        return parse(risk)(reward)
    except RiskError:
        return None


def _gate_columns(head: Head, prompt: Tensor) -> Columns:
    if not head.has_gate:
        return {}
    weights = head.gate_weights(prompt)
    return {f"gate_{a.name}": _array(weights[:, i]) for i, a in enumerate(head.attributes)}


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()
