"""From tables that give pairs to indices: which text was preferred to which, with what weight.

In: pairs, comparisons or ratings. Out: distinct conversations and, per pair, the two sides, a weight and a
group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pluralign.data import DistinctConversations, pairs_from_ratings, weighted_pairs
from pluralign.errors import DataError
from pluralign.fitting.tables.inputs import Inputs

if TYPE_CHECKING:
    import datasets

__all__ = ["PairIndex", "pair_index", "training_pairs"]


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


def training_pairs(inputs: Inputs, margin: float, max_pairs_per_group: int) -> datasets.Dataset:
    """The weighted pairs from the given tables: from pairs first, otherwise from votes, otherwise from
    ratings.

    Args:
        inputs: inputs of the fit.
        margin: smallest difference of mean ratings, in units of their scale, for which ratings become a pair.
        max_pairs_per_group: maximum number of pairs from the ratings of one group.

    Raises:
        DataError: no two responses of one prompt differ in their mean rating.
    """
    if inputs.pairs is not None:
        return weighted_pairs(inputs.pairs)
    if inputs.votes is not None:
        return weighted_pairs(inputs.votes)
    if inputs.ratings is None:
        raise DataError("Bradley-Terry needs pairs, comparisons or ratings; received none")
    derived = pairs_from_ratings(inputs.ratings, margin=margin, max_pairs_per_group=max_pairs_per_group)
    if len(derived) == 0:
        raise DataError(
            "no pairs can be derived from these ratings: no two responses of one prompt, attribute and group "
            "have mean ratings far enough apart; provide pairs, or several rated responses per prompt"
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
