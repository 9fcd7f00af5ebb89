"""Tuning the backbone under linear heads: quantiles, regression, Bradley-Terry.

In: data and a head that was fitted on the frozen backbone. Out: the losses of units, as the recipe of the
family has them: the mean over all units is the objective of the frozen fit (averaged over the attributes, and
without its penalty: groups that are held out stop the training instead).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pluralign import losses
from pluralign.errors import ConfigError
from pluralign.fitting.linear import bradley_terry, quantile, regression
from pluralign.fitting.linear.config import (
    QRM_LEVELS,
    BradleyTerryConfig,
    QuantileConfig,
    RegressionConfig,
)
from pluralign.fitting.linear.finishing import finished
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.fitting.tables.pairs import training_pairs
from pluralign.fitting.tables.targets import RatingTargets, rated_table, rating_targets
from pluralign.fitting.tuning.config import TuningConfig
from pluralign.fitting.tuning.problem import Entries, Problem, Stage, TuningRecipe
from pluralign.heads import BradleyTerryHead, Head, QuantileHead, RegressionHead
from pluralign.heads.base import RAW_UNITS

__all__ = ["BRADLEY_TERRY", "QUANTILE", "REGRESSION", "fit_unmixed", "pair_stage", "rated_entries"]


def fit_unmixed(fit: Callable[[Inputs, Any], Fitted], inputs: Inputs, config: Any) -> Fitted:
    """A fit without gate, debiasing, unit and baselines: these come after tuning."""
    fitted = fit(inputs, replace(config, gate=False, debias=None, baselines=False))
    parts = {name: None for name in ("gate", "debias") if hasattr(fitted.head, name)}
    return replace(fitted, head=fitted.head.with_parts(reference=RAW_UNITS, **parts))


def rated_entries(targets: RatingTargets, head: Head) -> tuple[Entries, Tensor, list[str]] | None:
    """The ratings of a part of the data, for the attributes of a head; None if it has none of these.

    Every attribute has the same weight, and in it every response that was rated.

    Args:
        targets: of the part.
        head: whose attributes count, in their order.

    Returns:
        The entries of the units, the units [U, 1] and the group of each.
    """
    names = [a.name for a in head.attributes]
    parts = [rows for rows in targets.attributes if rows.attribute.name in names]
    if not parts:
        return None
    rated = torch.unique(torch.cat([rows.item for rows in parts]))
    place = torch.full((len(targets.conversations),), -1, dtype=torch.long)
    place[rated] = torch.arange(len(rated))
    weight = [rows.weight * (len(rated) / len(parts) / rows.weight.sum()) for rows in parts]
    entries = Entries(
        torch.cat([place[rows.item] for rows in parts]),
        torch.cat([torch.full_like(rows.item, names.index(rows.attribute.name)) for rows in parts]),
        torch.cat([rows.target for rows in parts]).float(),
        torch.cat(weight).float(),
        len(rated),
    )
    return entries, rated[:, None], [targets.groups[i] for i in rated.tolist()]


def _weight_and_bias(head: Any) -> Sequence[str]:
    return ("weight", "bias")


def _rated_problem(
    targets: RatingTargets, head: Head, loss: Callable[[Any, Tensor, Tensor], Tensor]
) -> Problem | None:
    """The problem of a linear head on ratings; None if they are of none of its attributes.

    Args:
        targets: of the part of the data.
        head: whose attributes count.
        loss: from a head, its values for E ratings and the ratings to the loss of each, [E].
    """
    found = rated_entries(targets, head)
    if found is None:
        return None
    entries, units, groups = found

    def of_units(own: Any, vectors: Tensor, rows: Tensor) -> Tensor:
        place, attribute, target, weight = entries.of(rows)
        each = weight * loss(own, own.values(vectors[:, 0])[place, attribute], target)
        return torch.zeros(len(rows), dtype=each.dtype, device=each.device).index_add(0, place, each)

    return Problem(targets.conversations, units, groups, of_units)


# -- quantile --------------------------------------------------------------------------------------


def _quantile_start(inputs: Inputs, config: QuantileConfig) -> Fitted:
    return fit_unmixed(quantile.fit, inputs, config)


def _quantile_targets(inputs: Inputs, config: QuantileConfig) -> RatingTargets:
    ratings = rated_table(inputs, "quantile")
    return rating_targets(ratings, raters=config.raters, dequantise=config.dequantise, seed=config.seed)


def _quantile_problem(
    inputs: Inputs, config: QuantileConfig, head: QuantileHead, tuning: TuningConfig, *, held_out: bool
) -> Problem | None:
    def loss(own: QuantileHead, values: Tensor, target: Tensor) -> Tensor:
        return losses.pinball(values, target, own.levels.to(values))

    return _rated_problem(_quantile_targets(inputs, config), head, loss)


def _quantile_finish(
    head: QuantileHead, inputs: Inputs, config: QuantileConfig, held_out: Inputs | None
) -> Fitted:
    inputs = replace(inputs, ratings=rated_table(inputs, "quantile"))
    targets = _quantile_targets(inputs, config)
    return finished(head, inputs, config, config.levels, targets, inputs.embed(targets.conversations))


QUANTILE = TuningRecipe(
    lambda inputs, config: (Stage("quantile", _quantile_start, _weight_and_bias, _quantile_problem),),
    _quantile_finish,
)


# -- regression ------------------------------------------------------------------------------------


def _regression_start(inputs: Inputs, config: RegressionConfig) -> Fitted:
    return fit_unmixed(regression.fit, inputs, config)


def _regression_targets(inputs: Inputs, config: RegressionConfig, *, spread: bool) -> RatingTargets:
    ratings = rated_table(inputs, "regression")
    dequantise = spread and config.dequantise
    return rating_targets(ratings, raters=config.raters, dequantise=dequantise, seed=config.seed)


def _regression_problem(
    inputs: Inputs, config: RegressionConfig, head: RegressionHead, tuning: TuningConfig, *, held_out: bool
) -> Problem | None:
    def loss(own: RegressionHead, values: Tensor, target: Tensor) -> Tensor:
        return (values - target).square()

    return _rated_problem(_regression_targets(inputs, config, spread=False), head, loss)


def _regression_finish(
    head: RegressionHead, inputs: Inputs, config: RegressionConfig, held_out: Inputs | None
) -> Fitted:
    inputs = replace(inputs, ratings=rated_table(inputs, "regression"))
    if config.residual == "gaussian":
        head = head.with_parts(residual_std=_residual_std(head, config, held_out))
    targets = _regression_targets(inputs, config, spread=True)
    return finished(head, inputs, config, QRM_LEVELS, targets, inputs.embed(targets.conversations))


def _residual_std(head: RegressionHead, config: RegressionConfig, held_out: Inputs | None) -> Tensor:
    """Standard deviations of single ratings around the predictions on groups that training has not seen."""
    if held_out is None:
        raise ConfigError(
            "residual = 'gaussian' measures the spread of ratings on held-out groups: tune with held_out "
            "above 0"
        )
    targets = _regression_targets(held_out, config, spread=True)
    predicted = head.values(held_out.embed(targets.conversations).response).double()
    std = torch.zeros(len(head.attributes))
    for i, attribute in enumerate(head.attributes):
        rows = next((rows for rows in targets.attributes if rows.attribute.name == attribute.name), None)
        if rows is None:
            raise ConfigError(
                f"residual = 'gaussian': no held-out group has ratings of {attribute.name!r}; hold out a "
                "larger share"
            )
        error = (rows.target - predicted[rows.item, i].cpu()).square()
        std[i] = float((rows.weight @ error / rows.weight.sum()).sqrt())
    return std


REGRESSION = TuningRecipe(
    lambda inputs, config: (Stage("regression", _regression_start, _weight_and_bias, _regression_problem),),
    _regression_finish,
)


# -- Bradley-Terry ---------------------------------------------------------------------------------


def pair_stage(config: BradleyTerryConfig) -> Stage:
    """The training of backbone and one score on the pairs of whatever was given."""
    return Stage(
        "bradley_terry",
        lambda inputs, _: Fitted(bradley_terry.fit_head(inputs, config)[0]),
        lambda head: ("weight",),
        lambda inputs, _, head, tuning, held_out: _pair_problem(inputs, config, tuning),
    )


def _pair_problem(inputs: Inputs, config: BradleyTerryConfig, tuning: TuningConfig) -> Problem:
    pairs = training_pairs(inputs, config.margin, config.max_pairs_per_group)
    share = (pairs.weight * len(pairs) / pairs.weight.sum()).float()
    margin = None
    if tuning.margin_scale:
        if pairs.margin is None:
            raise ConfigError(
                "margin_scale needs margins, and these pairs have none: add a column margin, or fit on "
                "ratings"
            )
        margin = (tuning.margin_scale * pairs.margin).float()

    def of_units(own: BradleyTerryHead, vectors: Tensor, rows: Tensor) -> Tensor:
        scores = (own.scaling(vectors.flatten(0, 1)) @ own.weight).view(-1, 2) - own.reference.mean
        gap = None if margin is None else margin[rows.cpu()].to(scores)
        each = losses.bradley_terry(scores[:, 0], scores[:, 1], gap, tuning.label_smoothing)
        loss: Tensor = share[rows.cpu()].to(scores) * (each + tuning.centering * scores.sum(1).square())
        return loss

    units = torch.stack([pairs.chosen, pairs.rejected], 1)
    return Problem(pairs.conversations, units, pairs.groups, of_units)


def _pair_finish(
    head: BradleyTerryHead, inputs: Inputs, config: BradleyTerryConfig, held_out: Inputs | None
) -> Fitted:
    pairs = training_pairs(inputs, config.margin, config.max_pairs_per_group)
    response = inputs.embed(pairs.conversations).response
    return Fitted(bradley_terry.centered(head, response), {}, {"num_pairs": len(pairs)})


BRADLEY_TERRY = TuningRecipe(lambda inputs, config: (pair_stage(config),), _pair_finish)
