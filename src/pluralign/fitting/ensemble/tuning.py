"""Tuning the backbone under a Gaussian ensemble: a Bradley-Terry stage first, as published, then the heads.

In: data and settings. Out: the losses of units.

    ratings   stage 1: backbone and one Bradley-Terry score, where the ratings give pairs; stage 2: backbone
              and H Gaussian heads on the ratings, from their fit on the backbone of stage 1
    pairs     stage 1 only; then the heads are fitted on the tuned backbone, which stays as it is

A head has its own resample of the groups in stage 2 as in its frozen fit. Paper: Yan et al. 2024, arXiv
2409.15360, whose backbone is trained in stage 1; training it further in stage 2 is this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pluralign.errors import DataError
from pluralign.fitting.ensemble import recipe
from pluralign.fitting.ensemble.config import GaussianEnsembleConfig
from pluralign.fitting.ensemble.heads import head_shares
from pluralign.fitting.ensemble.targets import loss_of, row_shares
from pluralign.fitting.linear.config import BradleyTerryConfig
from pluralign.fitting.linear.tuning import fit_unmixed, pair_stage
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.fitting.tables.pairs import training_pairs
from pluralign.fitting.tables.targets import RatingTargets, rated_table, rating_targets
from pluralign.fitting.tuning.config import TuningConfig
from pluralign.fitting.tuning.problem import Entries, Problem, Stage, TuningRecipe
from pluralign.heads.gaussian_ensemble import GaussianEnsembleHead

__all__ = ["GAUSSIAN_ENSEMBLE"]


def _stages(inputs: Inputs, config: GaussianEnsembleConfig) -> Sequence[Stage]:
    first = BradleyTerryConfig(l2=config.l2, margin=config.margin, seed=config.seed)
    if not recipe.uses_ratings(inputs, config):
        return (pair_stage(first),)
    second = Stage("gaussian_heads", _start, _trained, _problem)
    try:
        training_pairs(inputs, first.margin, first.max_pairs_per_group)
    except DataError as error:
        inputs.report(f"no Bradley-Terry stage: {error}")
        return (second,)
    return (pair_stage(first), second)


def _start(inputs: Inputs, config: GaussianEnsembleConfig) -> Fitted:
    fitted = fit_unmixed(recipe.fit, inputs, config)
    head = fitted.head
    equal = {"head_scale": torch.ones(head.num_heads), "head_shift": torch.zeros(head.num_heads)}
    return replace(fitted, head=head.with_parts(**equal))


def _trained(head: GaussianEnsembleHead) -> Sequence[str]:
    return [f"members.{name}" for name, p in head.members.named_parameters() if p.numel()]


def _targets(inputs: Inputs, config: GaussianEnsembleConfig) -> RatingTargets:
    ratings = rated_table(inputs, "gaussian_ensemble")
    return rating_targets(ratings, raters=config.raters, dequantise=config.dequantise, seed=config.seed)


def _problem(
    inputs: Inputs,
    config: GaussianEnsembleConfig,
    head: GaussianEnsembleHead,
    tuning: TuningConfig,
    *,
    held_out: bool,
) -> Problem | None:
    targets = _targets(inputs, config)
    names = [a.name for a in head.attributes]
    parts = [rows for rows in targets.attributes if rows.attribute.name in names]
    if not parts:
        return None
    count = len(targets.conversations)
    present = torch.zeros(count, len(names))
    for rows in parts:
        present[rows.item, names.index(rows.attribute.name)] = 1.0
    every = present[:, :, None].expand(-1, -1, head.num_heads)
    share = row_shares(every) if held_out else head_shares(config, present, targets.groups)
    share = share / (len(parts) * head.num_heads)
    weight = []
    for rows in parts:
        total = torch.zeros(count, dtype=torch.float64).index_add_(0, rows.item, rows.weight)
        own = (rows.weight / total[rows.item]).float()
        weight.append(own[:, None] * share[rows.item, names.index(rows.attribute.name)])
    entries = Entries(
        torch.cat([rows.item for rows in parts]),
        torch.cat([torch.full_like(rows.item, names.index(rows.attribute.name)) for rows in parts]),
        torch.cat([rows.target for rows in parts]).float(),
        torch.cat(weight),
        count,
    )
    loss = _squared_error if held_out and config.loss == "reparameterized_mse" else loss_of(config)

    def of_units(own: GaussianEnsembleHead, vectors: Tensor, rows: Tensor) -> Tensor:
        place, attribute, target, shares = entries.of(rows)
        means, stds = (part[place, attribute] for part in own.values(vectors[:, 0]))
        center, scale = own.target_center[attribute, None], own.target_scale[attribute, None]
        points = ((target[:, None] - center) / scale).expand_as(means)
        each = shares * loss((means - center) / scale, stds / scale, points)
        return torch.zeros(len(rows), dtype=each.dtype, device=each.device).index_add(0, place, each.sum(1))

    return Problem(targets.conversations, torch.arange(count)[:, None], targets.groups, of_units)


def _squared_error(mean: Tensor, std: Tensor, target: Tensor) -> Tensor:
    return (mean - target).square()


def _finish(
    head: GaussianEnsembleHead, inputs: Inputs, config: GaussianEnsembleConfig, held_out: Inputs | None
) -> Fitted:
    if not recipe.uses_ratings(inputs, config):
        return recipe.fit(inputs, config)
    inputs = replace(inputs, ratings=rated_table(inputs, "gaussian_ensemble"))
    targets = _targets(inputs, config)
    embedded = inputs.embed(targets.conversations)
    fitted = recipe.finished(head, inputs, config, targets, embedded)
    return replace(fitted, summary={"target": "ratings", **fitted.summary})


GAUSSIAN_ENSEMBLE = TuningRecipe(_stages, _finish)
