"""The Bradley-Terry recipe: from pairs, or tables that give pairs, to a linear score.

In: pairs, comparisons or ratings. Out: a `BradleyTerryHead`. The penalty is chosen on held-out groups by
their Bradley-Terry loss, then the head is fitted on all pairs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache

from torch import Tensor
from torch.nn.functional import softplus

from pluralign.errors import ConstantHeadWarning
from pluralign.fitting.linear.config import BradleyTerryConfig
from pluralign.fitting.tables.inputs import Fitted, Inputs
from pluralign.fitting.tables.pairs import training_pairs
from pluralign.fitting.train.search import fold_of, search_penalty
from pluralign.heads import BradleyTerryHead, Reference
from pluralign.solvers.bradley_terry import fit_bradley_terry
from pluralign.solvers.pair_design import PairDesign, pair_margins

__all__ = ["centered", "fit", "fit_head"]

_NOTHING = 1e-9  # logits per standard deviation of a column


def fit(inputs: Inputs, config: BradleyTerryConfig) -> Fitted:
    """Fits a Bradley-Terry head on all pairs that the data gives."""
    head, l2, num_pairs = fit_head(inputs, config)
    return Fitted(head, {}, {"l2": l2, "num_pairs": num_pairs})


def fit_head(inputs: Inputs, config: BradleyTerryConfig) -> tuple[BradleyTerryHead, float, int]:
    """The head, the penalty that was chosen and the number of pairs."""
    pairs = training_pairs(inputs, config.margin, config.max_pairs_per_group)
    embedded, scaling, features = inputs.features(pairs.conversations)
    sides = pairs.chosen.to(features.device), pairs.rejected.to(features.device)
    weight = pairs.weight.to(features.device)
    l2 = (
        config.l2
        if config.l2 is not None
        else _chosen_penalty(inputs, config, pairs.groups, features, sides, weight)
    )
    result = fit_bradley_terry(PairDesign(features, *sides), l2=l2, sample_weight=weight)
    if float(result.coef.abs().max()) < _NOTHING:
        warnings.warn(
            "nothing can be learned from these pairs: all of them are tied, or their two sides have the same "
            "embedding. Bradley-Terry gives all responses the same score; heads of an ensemble would differ "
            "only by chance",
            ConstantHeadWarning,
            stacklevel=5,
        )
    inputs.report(f"Bradley-Terry: {len(weight):,} weighted pairs, l2 {l2:g}, loss {result.objective:.4f}")
    head = centered(BradleyTerryHead(scaling, result.coef.float()), embedded.response)
    return head, l2, len(weight)


def centered(head: BradleyTerryHead, response: Tensor) -> BradleyTerryHead:
    """The head with a mean score of 0 over responses [N, D].

    Its scores stay in logits: the sigmoid of a difference is the probability of preference.
    """
    return head.with_parts(reference=Reference(head.in_units_of(response, response).reference.mean))


def _chosen_penalty(
    inputs: Inputs,
    config: BradleyTerryConfig,
    groups: Sequence[str],
    features: Tensor,
    sides: tuple[Tensor, Tensor],
    weight: Tensor,
) -> float:
    fold = fold_of(groups, config.seed, what="l2").to(features.device)
    chosen, rejected = sides

    @cache
    def design(k: int) -> PairDesign:
        return PairDesign(features, chosen[fold != k], rejected[fold != k])

    # Every fit starts from 0: a start from another penalty's fit would be missing where the journal skips it.
    def held_out_loss(l2: float, k: int) -> float:
        train, test = fold != k, fold == k
        fitted = fit_bradley_terry(design(k), l2=l2, sample_weight=weight[train], tol=1e-6)
        losses = softplus(-pair_margins(features, chosen[test], rejected[test], fitted.coef))
        return float(weight[test] @ losses / weight[test].sum())

    best, _ = search_penalty(
        config.l2_grid,
        fold,
        weight,
        held_out_loss,
        family="bradley_terry",
        what="l2",
        loss="loss",
        journal=inputs.journal,
        settings=f"seed={config.seed} mean",
        report=inputs.report,
    )
    return best
