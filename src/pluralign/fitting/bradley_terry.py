"""The Bradley-Terry recipe: pairs, or tables that give pairs, to a linear score.

In: pairs, comparisons or ratings. Out: a `BradleyTerryHead`. The penalty is chosen on held-out groups by
their Bradley-Terry loss, then the head is fitted on all pairs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pluralign.data import DistinctConversations, pairs_from_ratings, weighted_pairs
from pluralign.errors import ConstantHeadWarning, DataError
from pluralign.fitting.config import BradleyTerryConfig
from pluralign.fitting.inputs import Fitted, Inputs, best_penalty, fold_of, judged_folds
from pluralign.heads import BradleyTerryHead, ColumnScaling, Reference
from pluralign.solvers.bradley_terry import fit_bradley_terry

if TYPE_CHECKING:
    import datasets

__all__ = ["PairIndex", "fit", "fit_head", "pair_index", "training_pairs"]

_NOTHING = 1e-9  # logits per standard deviation of a column


@dataclass(frozen=True)
class PairIndex:
    """Pairs as indices into distinct conversations.

    Attributes:
        conversations: [N], the distinct texts.
        chosen: [P], index of the chosen side.
        rejected: [P], index of the rejected side.
        weight: [P], float64.
        groups: [P], the group of each pair.
    """

    conversations: list[list[dict[str, str]]]
    chosen: Tensor
    rejected: Tensor
    weight: Tensor
    groups: list[str]


def training_pairs(inputs: Inputs, config: BradleyTerryConfig) -> datasets.Dataset:
    """The weighted pairs of whatever was given: pairs first, then votes, then ratings.

    Raises:
        DataError: no two responses of one prompt differ in their mean rating.
    """
    if inputs.pairs is not None:
        return weighted_pairs(inputs.pairs)
    if inputs.votes is not None:
        return weighted_pairs(inputs.votes)
    if inputs.ratings is None:
        raise DataError("Bradley-Terry needs pairs, comparisons or ratings; received none")
    derived = pairs_from_ratings(
        inputs.ratings, margin=config.margin, max_pairs_per_group=config.max_pairs_per_group
    )
    if len(derived) == 0:
        raise DataError(
            "no pairs can be derived from these ratings: no two responses of one prompt, attribute and group "
            "have mean ratings far enough apart; give pairs, or several rated responses per prompt"
        )
    return weighted_pairs(derived)


def pair_index(pairs: datasets.Dataset) -> PairIndex:
    """Numbers the distinct conversations of a weighted pairs table."""
    distinct = DistinctConversations()
    sides: dict[str, list[int]] = {"chosen": [], "rejected": []}
    for row in pairs.select_columns(["prompt", "chosen", "rejected"]):
        for side, numbers in sides.items():
            numbers.append(distinct.add(row["prompt"], row[side]))
    return PairIndex(
        distinct.conversations,
        torch.tensor(sides["chosen"]),
        torch.tensor(sides["rejected"]),
        torch.tensor(list(pairs["weight"]), dtype=torch.float64),
        list(pairs["group"]),
    )


def fit(inputs: Inputs, config: BradleyTerryConfig) -> Fitted:
    """Fits a Bradley-Terry head on whatever pairs the data gives."""
    head, l2, num_pairs = fit_head(inputs, config)
    return Fitted(head, {}, {"l2": l2, "num_pairs": num_pairs})


def fit_head(inputs: Inputs, config: BradleyTerryConfig) -> tuple[BradleyTerryHead, float, int]:
    """The head, the penalty that was chosen and the number of pairs."""
    pairs = pair_index(training_pairs(inputs, config))
    response = inputs.embed(pairs.conversations).response
    scaling = ColumnScaling.fitted(response).to(response.device)
    features = scaling(response)
    # Rounding the difference, not the features, keeps chosen and rejected exactly antisymmetric.
    differences = features[pairs.chosen] - features[pairs.rejected]
    weight = pairs.weight.to(features.device)
    l2 = config.l2 if config.l2 is not None else _chosen_penalty(inputs, config, pairs, differences, weight)
    result = fit_bradley_terry(differences, l2=l2, sample_weight=weight)
    if float(result.coef.abs().max()) < _NOTHING:
        warnings.warn(
            "these pairs teach nothing: all of them are tied, or their two sides look alike to the backbone. "
            "Bradley-Terry scores all responses alike; heads of an ensemble would differ by chance alone",
            ConstantHeadWarning,
            stacklevel=5,
        )
    inputs.report(f"Bradley-Terry: {len(weight):,} weighted pairs, l2 {l2:g}, loss {result.objective:.4f}")
    head = BradleyTerryHead(scaling, result.coef.float())
    # Centred, but left in logits: the sigmoid of a difference of scores is the probability of preference.
    head.reference = Reference(Reference.of(head.raw(response, response)).mean)
    return head, l2, len(weight)


def _chosen_penalty(
    inputs: Inputs, config: BradleyTerryConfig, pairs: PairIndex, differences: Tensor, weight: Tensor
) -> float:
    fold = fold_of(pairs.groups, config.seed, what="l2").to(differences.device)

    # Every fit starts from 0: a start from another penalty's fit would be missing where the journal skips it.
    def held_out_loss(l2: float, k: int) -> float:
        train, test = fold != k, fold == k
        fitted = fit_bradley_terry(differences[train], l2=l2, sample_weight=weight[train], tol=1e-6)
        return float(weight[test] @ softplus(-(differences[test].double() @ fitted.coef)))

    def loss(l2: float) -> float:
        total = mass = 0.0
        for k in judged_folds(fold):
            key = f"bradley_terry l2={l2!r} fold={k} seed={config.seed} start=0"
            total += inputs.journal.remember(key, partial(held_out_loss, l2, k))
            mass += float(weight[fold == k].sum())
        return total / mass

    best, losses = best_penalty(config.l2_grid, loss)
    tried = ", ".join(f"{l2:g}: {value:.4f}" for l2, value in sorted(losses.items()))
    inputs.report(f"Bradley-Terry: l2 {best:g}, by held-out loss ({tried})")
    return best
