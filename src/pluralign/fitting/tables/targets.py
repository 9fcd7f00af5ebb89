"""From rating tables to regression targets: which text, which attribute, which number, with what weight.

In: the validated ratings table. Out: the distinct conversations and, per attribute, rows (text, target,
weight) with every scale mapped to [0, 1].

Several raters of one response are rows with weight 1/(their number), so that their disagreement is learned
while every response has the same total weight; or they are first reduced to their mean or majority.

Ratings on a grid of step h are spread by U(-h/2, h/2): a quantile regression on integers pins its levels
to integers (Machado and Santos Silva 2005, "Quantiles for Counts").
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pluralign.data import distinct_conversations, grid_step, ratings_from_votes
from pluralign.data.table_columns import (
    arrow_column,
    by_appearance,
    column_values,
    ragged,
    take,
    text_codes,
)
from pluralign.errors import ConstantHeadWarning, DataError
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

    def warn_if_constant(self, stacklevel: int) -> None:
        """Warns where all ratings are the same; `stacklevel` as in `warnings`."""
        if self.target.numel() and float(self.target.min()) == float(self.target.max()):
            warnings.warn(
                f"every rating of {self.attribute.name!r} is the same; the model will predict that constant",
                ConstantHeadWarning,
                stacklevel=stacklevel + 1,
            )


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
    conversations, (item,) = distinct_conversations(ratings, "response")
    groups = column_values(ratings, "group")
    first = by_appearance(item)[1]
    names = arrow_column(ratings, "attribute")
    named, first_named = by_appearance(text_codes(names)[0])
    scales = take(arrow_column(ratings, "scale"), first_named).to_pylist()
    given = ragged(ratings, "ratings")
    generator = torch.Generator().manual_seed(seed)
    attributes = []
    for number, (name, scale) in enumerate(zip(take(names, first_named).to_pylist(), scales, strict=True)):
        rows = np.flatnonzero(named == number)
        # Two pools of raters of one response are one crowd here; select one with `where` to keep them apart.
        place, first_of = by_appearance(item[rows])
        of_rows = given[rows[np.argsort(place, kind="stable")]]
        counts = np.bincount(place, given.sizes[rows]).astype(np.int64)
        by_item = _Collected(item[rows][first_of], of_rows.values, counts)
        attributes.append(_attribute_rows(name, (scale[0], scale[1]), by_item, raters, dequantise, generator))
    return RatingTargets(conversations, [groups[row] for row in first.tolist()], tuple(attributes))


class _Collected(NamedTuple):
    """The ratings of one attribute: which texts [T], their ratings [R], and how many each of them has [T]."""

    item: NDArray[np.int64]
    values: NDArray[np.float64]
    counts: NDArray[np.int64]

    def reduced(self, raters: str) -> _Collected:
        """One rating per text, unless `raters` is raw."""
        if raters == "raw":
            return self
        ends = self.counts.cumsum()
        each = [part.tolist() for part in np.split(self.values, ends[:-1])]
        return _Collected(self.item, np.array([_REDUCERS[raters](one) for one in each]), np.ones_like(ends))


def _attribute_rows(
    name: str,
    scale: tuple[float, float],
    given: _Collected,
    raters: str,
    dequantise: bool,
    generator: torch.Generator,
) -> AttributeRows:
    low, high = scale
    step = grid_step(given.values, (low, high))
    item, values, sizes = (torch.from_numpy(part) for part in given.reduced(raters))
    target = values
    if dequantise and step is not None and raters != "mean":
        target = target + step * (torch.rand(len(target), generator=generator, dtype=torch.float64) - 0.5)
    return AttributeRows(
        Attribute(name, low, high, step),
        item.repeat_interleave(sizes),
        (target - low) / (high - low),
        (1 / sizes.double()).repeat_interleave(sizes),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _majority(values: Sequence[float]) -> float:
    ranked = Counter(values).most_common()
    return _mean([value for value, count in ranked if count == ranked[0][1]])


_REDUCERS: dict[str, Callable[[Sequence[float]], float]] = {"mean": _mean, "majority": _majority}
