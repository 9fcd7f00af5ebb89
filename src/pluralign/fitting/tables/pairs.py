"""From tables that give pairs to indices: which text was preferred to which, with what weight.

In: pairs, comparisons or ratings. Out: distinct conversations and, per pair, the two sides, a weight and a
group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pluralign.data import distinct_conversations, weighted_pairs
from pluralign.data.rated_pairs import rated_pairs
from pluralign.data.table_columns import by_appearance, column_values
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
        margin: [P], by how much the chosen side is better: the difference of mean ratings, or the column
            `margin` of the pairs; None where neither is known.
    """

    conversations: list[list[dict[str, str]]]
    chosen: Tensor
    rejected: Tensor
    weight: Tensor
    groups: list[str]
    margin: Tensor | None = None

    def __len__(self) -> int:
        return len(self.chosen)


def training_pairs(inputs: Inputs, margin: float, max_pairs_per_group: int) -> PairIndex:
    """The weighted pairs of whatever was given: pairs first, then votes, then ratings.

    Args:
        inputs: inputs of the fit.
        margin: smallest difference of mean ratings, in units of their scale, for which ratings become a pair.
        max_pairs_per_group: maximum number of pairs from the ratings of one group.

    Raises:
        DataError: no two responses of one prompt differ in their mean rating.
    """
    given = inputs.pairs if inputs.pairs is not None else inputs.votes
    if given is not None:
        return pair_index(weighted_pairs(given))
    if inputs.ratings is None:
        raise DataError("Bradley-Terry needs pairs, comparisons or ratings; received none")
    index = _index_of_ratings(inputs.ratings, margin, max_pairs_per_group)
    if not len(index):
        raise DataError(
            "no pairs can be derived from these ratings: no two responses of one prompt, attribute and group "
            "have mean ratings far enough apart; provide pairs, or several rated responses per prompt"
        )
    return index


def pair_index(pairs: datasets.Dataset) -> PairIndex:
    """Numbers the distinct conversations of a weighted pairs table."""
    conversations, (chosen, rejected) = distinct_conversations(pairs, "chosen", "rejected")
    margins = column_values(pairs, "margin") if "margin" in pairs.column_names else [None]
    known = None not in margins
    return PairIndex(
        conversations,
        torch.from_numpy(chosen),
        torch.from_numpy(rejected),
        torch.tensor(column_values(pairs, "weight"), dtype=torch.float64),
        column_values(pairs, "group"),
        torch.tensor(margins, dtype=torch.float64) if known else None,
    )


def _index_of_ratings(ratings: datasets.Dataset, margin: float, max_pairs_per_group: int) -> PairIndex:
    """As `pair_index` of the pairs that the ratings give, without a table of them."""
    pairs = rated_pairs(ratings, margin=margin, max_pairs_per_group=max_pairs_per_group)
    conversations, (item,) = distinct_conversations(ratings, "response")
    sides = np.stack([item[pairs.better], item[pairs.worse]], 1)
    number, first = by_appearance(sides.ravel())
    chosen, rejected = number.reshape(-1, 2).T
    groups = column_values(ratings, "group")
    return PairIndex(
        [conversations[i] for i in sides.ravel()[first].tolist()],
        torch.from_numpy(chosen.copy()),
        torch.from_numpy(rejected.copy()),
        torch.ones(len(pairs.better), dtype=torch.float64),
        [groups[row] for row in pairs.better.tolist()],
        torch.from_numpy(pairs.margin.copy()),
    )
