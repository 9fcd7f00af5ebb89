"""Per-row scores of pairs: who wins by a model, by its baselines and by length.

In: a model and a table of pairs, or of ratings that give pairs. Out: a dict of columns, one entry per pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pluralign.data.bridges import pair_ids
from pluralign.data.rated_pairs import RatedPairs
from pluralign.data.table_columns import arrow_column, column_values
from pluralign.distributions import RewardDistribution
from pluralign.errors import RiskError
from pluralign.evaluation import metrics
from pluralign.evaluation.columns import rounding
from pluralign.evaluation.ensembles import margin_columns
from pluralign.evaluation.texts import Columns, Texts, gate_columns, host_array
from pluralign.heads import Head
from pluralign.risk import RiskMeasure, parse

if TYPE_CHECKING:
    import datasets

    from pluralign.model import RewardModel

__all__ = ["pair_rows", "rated_pair_rows"]

_PAIRS_AT_ONCE = 65_536  # whose distributions are held at a time


@torch.inference_mode()
def pair_rows(
    model: RewardModel,
    pairs: datasets.Dataset,
    *,
    risk: str | RiskMeasure = "mean",
    progress: bool | None = None,
) -> Columns:
    """Scores one row per pair, with the outcomes of the model, its baselines and length.

    Returns:
        Columns of length N: id, subset, group, where the table has it the attribute; utilities and
        `probability` of the chosen side; outcomes 1 (chosen wins), 0 (tie), -1 for `model`, each baseline to
        which the risk measure applies and that tells texts apart, `length` (characters) and, where the pairs
        are about one of several attributes of the model, `own_attribute` (its predicted mean of that
        attribute); and, where the model has a gate, its weight of each attribute as `gate_<attribute>`.
    """
    texts = Texts.read(model, pairs, "chosen", "rejected", progress=progress)
    columns: Columns = {name: column_values(pairs, name) for name in ("id", "subset", "group")}
    if "attribute" in pairs.column_names and not arrow_column(pairs, "attribute").null_count:
        columns["attribute"] = column_values(pairs, "attribute")
    chosen, rejected = texts.numbers
    return _pair_columns(model, texts, columns, chosen, rejected, risk)


@torch.inference_mode()
def rated_pair_rows(
    model: RewardModel,
    ratings: datasets.Dataset,
    pairs: RatedPairs,
    texts: Texts,
    *,
    risk: str | RiskMeasure = "mean",
) -> Columns:
    """As `pair_rows` of the pairs that ratings give, without a table of them.

    Args:
        model: any family.
        ratings: canonical ratings.
        pairs: of these.
        texts: the responses of the ratings.
        risk: the risk measure by which responses are compared.
    """
    columns: Columns = {"id": pair_ids(ratings, pairs)}
    for name in ("subset", "group", "attribute"):
        values = column_values(ratings, name)
        columns[name] = [values[row] for row in pairs.better.tolist()]
    (item,) = texts.numbers
    chosen, rejected = (item[torch.from_numpy(rows)] for rows in (pairs.better, pairs.worse))
    return _pair_columns(model, texts, columns, chosen, rejected, risk)


def _pair_columns(
    model: RewardModel,
    texts: Texts,
    columns: Columns,
    chosen: Tensor,
    rejected: Tensor,
    risk: str | RiskMeasure,
) -> Columns:
    """The columns of the table, and what is measured of each pair of texts."""
    inputs = texts.inputs
    columns["kind"] = ["pair"] * len(chosen)
    columns |= gate_columns(model.head, inputs.prompt[chosen])
    distribution = model.head.distribution(*inputs)
    utility = parse(risk)(distribution)
    columns["utility_chosen"], columns["utility_rejected"] = (
        host_array(utility[chosen]),
        host_array(utility[rejected]),
    )
    columns |= _compared(model, distribution, chosen, rejected)
    rules = {"model": utility}
    for name, head in model.baselines.items():
        other = head.distribution(*inputs)
        value = _utility(other, risk)
        if value is not None:
            rules[name] = value
            alone = model.with_head(head)
            columns[f"{name}_probability"] = _compared(alone, other, chosen, rejected)["probability"]
    rules["length"] = torch.tensor([float(len(c[-1]["content"])) for c in texts.conversations])
    for name, value in rules.items():
        columns[f"{name}_outcome"] = host_array(metrics.pair_outcomes(value[chosen], value[rejected]))
    if "attribute" in columns:
        columns |= _own_attribute(model.head, inputs.response, columns["attribute"], chosen, rejected)
    return columns


def _compared(
    model: RewardModel, distribution: RewardDistribution, chosen: Tensor, rejected: Tensor
) -> Columns:
    """The probability that the chosen side is preferred, and what the heads of an ensemble say."""
    parts: list[Columns] = []
    for start in range(0, len(chosen), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        first, second = distribution[chosen[part]], distribution[rejected[part]]
        probability = host_array(model.preferred(first, second))
        parts.append({"probability": probability} | margin_columns(model.head, first, second))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _own_attribute(
    head: Head, response: Tensor, about: Sequence[str], chosen: Tensor, rejected: Tensor
) -> Columns:
    """Who wins by the predicted mean of the attribute that each pair is about; nothing to add for one."""
    names = [a.name for a in head.attributes]
    if len(names) < 2 or not set(about) <= set(names):
        return {}
    distributions = head.attribute_distributions(response)
    means = torch.stack([distributions[name].mean() for name in names], 1)
    own = torch.tensor([names.index(name) for name in about])
    outcomes = metrics.pair_outcomes(means[chosen, own], means[rejected, own])
    return {"own_attribute_outcome": host_array(outcomes)}


def _utility(reward: RewardDistribution, risk: str | RiskMeasure) -> Tensor | None:
    """A baseline's utility; None where the measure does not apply to it, or it is the same for every text."""
    mean = reward.mean()
    if reward.is_point:
        return mean
    if bool(((mean - mean[0]).abs() <= rounding(mean) * mean.abs()).all()):
        return None
    try:
        return parse(risk)(reward)
    except RiskError:
        return None
