"""Tuning the backbone under categories: of ratings by the configured loss, of comparisons by cross-entropy.

In: data and a head that was fitted on the frozen backbone, whose categories are kept. Out: the losses of
units: a response with the crowd's shares of each attribute, or a pair with its votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pluralign.fitting.categorical import recipe
from pluralign.fitting.categorical.comparisons import comparisons_of
from pluralign.fitting.categorical.config import CategoricalConfig
from pluralign.fitting.categorical.targets import CategoryRows, category_rows
from pluralign.fitting.linear.tuning import fit_unmixed
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.fitting.tables.targets import RatingTargets, rated_table, rating_targets
from pluralign.fitting.tuning.config import TuningConfig
from pluralign.fitting.tuning.problem import Problem, Stage, TuningRecipe
from pluralign.heads import CategoricalHead
from pluralign.losses import cross_entropy, smooth_neighbours

__all__ = ["CATEGORICAL", "known_rows"]


def _stages(inputs: Inputs, config: CategoricalConfig) -> Sequence[Stage]:
    if recipe.compares(inputs, config):
        return (Stage("comparisons", _start, _trained, _compared),)
    return (Stage("categories", _start, _trained, _rated),)


def _start(inputs: Inputs, config: CategoricalConfig) -> Fitted:
    return fit_unmixed(recipe.fit, inputs, config)


def _trained(head: CategoricalHead) -> Sequence[str]:
    return [f"logits.{name}" for name, _ in head.logits.named_parameters()]


# -- ratings ---------------------------------------------------------------------------------------


def known_rows(
    inputs: Inputs, config: CategoricalConfig, head: CategoricalHead
) -> tuple[RatingTargets, dict[int, CategoryRows]]:
    """The crowd's shares, by the place of the attribute in the head."""
    targets = rating_targets(rated_table(inputs, "categorical"), raters="raw", dequantise=False)
    names = [a.name for a in head.attributes]
    known = {
        names.index(one.attribute.name): one for one in targets.attributes if one.attribute.name in names
    }
    return targets, {i: category_rows(rows, config, head.categories[i]) for i, rows in sorted(known.items())}


def _rated(
    inputs: Inputs, config: CategoricalConfig, head: CategoricalHead, tuning: TuningConfig, *, held_out: bool
) -> Problem | None:
    targets, rows = known_rows(inputs, config, head)
    if not rows:
        return None
    count = len(targets.conversations)
    place = {i: torch.full((count,), -1, dtype=torch.long) for i in rows}
    for i, part in rows.items():
        place[i][part.item] = torch.arange(len(part.item))
    smoothed = {i: recipe.smoothed_target(part, config) for i, part in rows.items()}
    share = {i: count / (len(rows) * len(part.item)) for i, part in rows.items()}

    def of_units(own: CategoricalHead, vectors: Tensor, units: Tensor) -> Tensor:
        scaled = own.scaling(vectors[:, 0])
        total = torch.zeros(len(units), dtype=scaled.dtype, device=scaled.device)
        for i, part in rows.items():
            found = place[i][units.cpu()]
            kept = torch.nonzero(found >= 0)[:, 0]
            if not len(kept):
                continue
            logits = own.logits[i](scaled[kept.to(scaled.device)])
            score = recipe.score_of(part, config, scaled.device)
            each = share[i] * score(logits, smoothed[i][found[kept]].to(logits))
            total = total.index_add(0, kept.to(total.device), each.to(total))
        return total

    return Problem(targets.conversations, torch.arange(count)[:, None], targets.groups, of_units)


# -- comparisons -----------------------------------------------------------------------------------


def _compared(
    inputs: Inputs, config: CategoricalConfig, head: CategoricalHead, tuning: TuningConfig, *, held_out: bool
) -> Problem:
    comparisons = comparisons_of(inputs.votes)
    target = smooth_neighbours(comparisons.target, config.smoothing)

    def of_units(own: CategoricalHead, vectors: Tensor, units: Tensor) -> Tensor:
        model = own.comparison
        assert model is not None  # the head of a fit on comparisons
        scores = model.score(own.scaling(vectors.flatten(0, 1))).view(-1, 2)
        logits = model.logits(scores[:, 0] - scores[:, 1])
        return cross_entropy(logits, target[units.cpu()].to(logits))

    units = torch.stack([comparisons.first, comparisons.second], 1)
    return Problem(comparisons.conversations, units, comparisons.groups, of_units)


# -- after -----------------------------------------------------------------------------------------


def _finish(
    head: CategoricalHead, inputs: Inputs, config: CategoricalConfig, held_out: Inputs | None
) -> Fitted:
    if recipe.compares(inputs, config):
        comparisons = comparisons_of(inputs.votes)
        embedded = inputs.embed(comparisons.conversations)
        model = head.comparison
        assert model is not None
        with torch.no_grad():  # an opponent of score 0 is the average response
            model.center.add_(model.score(head.scaling(embedded.response)).mean())
        return recipe.finished_comparisons(head, inputs, config, comparisons, embedded)
    votes = inputs.votes if inputs.ratings is None else None
    inputs = replace(inputs, ratings=rated_table(inputs, "categorical"))
    targets, rows = known_rows(inputs, config, head)
    embedded = inputs.embed(targets.conversations)
    return recipe.finished_ratings(head, inputs, config, targets, list(rows.values()), embedded, votes)


CATEGORICAL = TuningRecipe(_stages, _finish)
