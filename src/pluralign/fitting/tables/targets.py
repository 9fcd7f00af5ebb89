"""From rating tables to regression targets: which text, which attribute, which number, with what weight.

In: the validated ratings table. Out: the distinct conversations and, per attribute, rows (text, target,
weight) with every scale mapped to [0, 1].

Several raters of one response are rows with weight 1/(their number), so that their disagreement is learned
while every response has the same total weight; or they are first reduced to their mean or majority.

Ratings on a grid of step h are spread by U(-h/2, h/2): a quantile regression on integers pins its levels
to integers (Machado and Santos Silva 2005, "Quantiles for Counts").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pluralign.data import DistinctConversations, grid_step, ratings_from_votes
from pluralign.errors import DataError
from pluralign.families import families_for
from pluralign.fitting.tables.inputs import Inputs
from pluralign.heads.base import Attribute

if TYPE_CHECKING:
    import datasets

__all__ = ["AttributeRows", "RatingTargets", "rated_table", "rating_targets"]


@dataclass(frozen=True)
class AttributeRows:
    """The ratings of one attribute.

    Attributes:
        attribute: name, scale and grid step.
        item: [R], index of the distinct conversation of each rating.
        target: [R], the rating mapped to [0, 1] (dequantised: up to half a step beyond), float64.
        weight: [R], one over the number of ratings of that conversation, float64.
    """

    attribute: Attribute
    item: Tensor
    target: Tensor
    weight: Tensor

    def restricted(self, keep: Tensor) -> AttributeRows:
        """Only the rows where the mask [R] is true."""
        return replace(self, item=self.item[keep], target=self.target[keep], weight=self.weight[keep])


@dataclass(frozen=True)
class RatingTargets:
    """A ratings table, ready for regression.

    Attributes:
        conversations: [N], the distinct texts.
        groups: [N], the group of each.
        attributes: the ratings, by attribute in order of first appearance.
    """

    conversations: list[list[dict[str, str]]]
    groups: list[str]
    attributes: tuple[AttributeRows, ...]


def rated_table(inputs: Inputs, family: str) -> datasets.Dataset:
    """The ratings, or those derived from the votes for both sides of each comparison.

    Raises:
        DataError: there are neither ratings nor votes.
    """
    if inputs.ratings is not None:
        return inputs.ratings
    if inputs.votes is not None:
        return ratings_from_votes(inputs.votes)
    raise DataError(
        f"the {family} family needs ratings, or comparisons with votes; pairs say which response is better, "
        f"but not how good it is. Use {' or '.join(families_for('pairs'))} for pairs."
    )


def rating_targets(
    ratings: datasets.Dataset, *, raters: str = "raw", dequantise: bool = True, seed: int = 0
) -> RatingTargets:
    """Converts a ratings table to regression targets.

    Args:
        ratings: rows as returned by `pluralign.load_ratings`.
        raters: `raw` keeps every rating; `mean` one per response; `majority` the most frequent (ties: the
            mean of the most frequent).
        dequantise: spread ratings that lie on a grid; means are left unchanged.
        seed: seed of the spreading.

    Raises:
        DataError: the table is empty.
    """
    if len(ratings) == 0:
        raise DataError("the ratings table is empty: at least one row is needed")
    distinct = DistinctConversations()
    groups: list[str] = []
    scales: dict[str, tuple[float, float]] = {}
    collected: dict[str, dict[int, list[float]]] = {}
    for row in ratings.select_columns(["prompt", "response", "attribute", "ratings", "scale", "group"]):
        item = distinct.add(row["prompt"], row["response"])
        if item == len(groups):
            groups.append(row["group"])
        scales.setdefault(row["attribute"], (row["scale"][0], row["scale"][1]))
        # Two pools of raters of the same response are one crowd here; select one with `where`.
        collected.setdefault(row["attribute"], {}).setdefault(item, []).extend(row["ratings"])
    generator = torch.Generator().manual_seed(seed)
    attributes = tuple(
        _attribute_rows(name, scales[name], by_item, raters, dequantise, generator)
        for name, by_item in collected.items()
    )
    return RatingTargets(distinct.conversations, groups, attributes)


def _attribute_rows(
    name: str,
    scale: tuple[float, float],
    by_item: dict[int, list[float]],
    raters: str,
    dequantise: bool,
    generator: torch.Generator,
) -> AttributeRows:
    low, high = scale
    reduce = _REDUCERS[raters]
    reduced = {item: reduce(values) for item, values in by_item.items()}
    flat = [value for values in reduced.values() for value in values]
    step = grid_step([v for values in by_item.values() for v in values], (low, high))
    attribute = Attribute(name, low, high, step)
    target = torch.tensor(flat, dtype=torch.float64)
    if dequantise and step is not None and raters != "mean":
        target = target + step * (torch.rand(len(target), generator=generator, dtype=torch.float64) - 0.5)
    counts = torch.tensor([len(values) for values in reduced.values()])
    return AttributeRows(
        attribute,
        torch.tensor(list(reduced)).repeat_interleave(counts),
        (target - low) / (high - low),
        (1 / counts.double()).repeat_interleave(counts),
    )


def _majority(values: Sequence[float]) -> list[float]:
    ranked = Counter(values).most_common()
    top = [value for value, count in ranked if count == ranked[0][1]]
    return [sum(top) / len(top)]


_REDUCERS: dict[str, Callable[[Sequence[float]], Any]] = {
    "raw": list,
    "mean": lambda values: [sum(values) / len(values)],
    "majority": _majority,
}
