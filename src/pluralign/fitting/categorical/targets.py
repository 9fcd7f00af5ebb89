"""From ratings to categories: which there are, the reward of each, and the crowd's share of each per
response.

In: the ratings of one attribute, from `targets`, without dequantisation. Out: categories and, per response,
the distribution of its raters over them.

Ratings on a grid are categories themselves; others are put into bins, whose edges are stored. A bin is
represented by the mean of its ratings, so that binning does not change the mean reward.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.fitting.categorical.config import CategoricalConfig
from pluralign.fitting.tables.category_ratings import bins_of, is_six, places_of
from pluralign.fitting.tables.targets import AttributeRows
from pluralign.heads.base import Attribute
from pluralign.heads.categories import CATEGORIES, CATEGORY_REWARDS, Categories

__all__ = [
    "CategoryRows",
    "categories_of",
    "category_rows",
    "rewards_in_order",
]

MOST_GRID_CATEGORIES = 21  # finer grids are binned, like continuous scales


@dataclass(frozen=True)
class CategoryRows:
    """The crowd's ratings of one attribute.

    Attributes:
        attribute: name, scale and grid step.
        categories: C of them.
        item: [R], index of the distinct conversation of each row.
        target: [R, C], the share of its raters in each category, float32.
        raters: [R], number of its raters.
    """

    attribute: Attribute
    categories: Categories
    item: Int[Tensor, " R"]
    target: Float[Tensor, "R C"]
    raters: Int[Tensor, " R"]

    def restricted(self, keep: Tensor) -> CategoryRows:
        """Only the rows where the mask [R] is true."""
        return replace(self, item=self.item[keep], target=self.target[keep], raters=self.raters[keep])


def category_rows(
    rows: AttributeRows, config: CategoricalConfig, categories: Categories | None = None
) -> CategoryRows:
    """Counts the raters of each response in each category.

    Args:
        rows: individual ratings, neither reduced nor dequantised.
        config: bins and rewards.
        categories: of the attribute; None to make them of these ratings.

    Raises:
        DataError: a rating is outside all categories.
    """
    ratings = rows.attribute.low + rows.attribute.span * rows.target
    if categories is None:
        categories = categories_of(rows.attribute, ratings, config)
    place = places_of(ratings, categories, rows.attribute.name)
    item, row = torch.unique(rows.item, return_inverse=True)
    counts = torch.zeros(len(item), len(categories), dtype=torch.float64)
    counts.index_put_((row, place), torch.ones(len(row), dtype=torch.float64), accumulate=True)
    raters = counts.sum(1)
    target = (counts / raters[:, None]).float()
    return CategoryRows(rows.attribute, categories, item, target, raters.long())


def categories_of(
    attribute: Attribute, ratings: Float[Tensor, " N"], config: CategoricalConfig
) -> Categories:
    """The categories of an attribute, from the grid of its ratings, the given edges, or bins.

    Args:
        attribute: name, scale and grid step.
        ratings: on the original scale.
        config: bins and rewards.
    """
    edges: tuple[float, ...] | None = None
    if is_six(attribute):
        names, values = CATEGORIES, tuple(float(k) for k in range(6))
    elif config.edges is None and attribute.step and attribute.span / attribute.step < MOST_GRID_CATEGORIES:
        count = round(attribute.span / attribute.step) + 1
        values = tuple(attribute.low + attribute.span * k / (count - 1) for k in range(count))
        names = tuple(f"{value:.6g}" for value in values)
    else:
        edges = config.edges or _edges(attribute, ratings, config)
        values = _bin_values(ratings, edges)
        names = tuple(f"{a:.6g} to {b:.6g}" for a, b in itertools.pairwise(edges))
    return Categories(names, values, _rewards(attribute, names, values, config), edges)


def _rewards(
    attribute: Attribute, names: Sequence[str], values: Sequence[float], config: CategoricalConfig
) -> tuple[float, ...]:
    """Rewards on [0, 1]: relative to the scale for ratings, to the table's own range for a table."""
    table = rewards_in_order(names, config.rewards or {})
    if table is None and is_six(attribute):
        table = CATEGORY_REWARDS
    if table is None:
        return tuple((value - attribute.low) / attribute.span for value in values)
    low, high = min(table), max(table)
    return tuple((reward - low) / (high - low) for reward in table)


def rewards_in_order(names: Sequence[str], table: Mapping[str, float]) -> Sequence[float] | None:
    """The rewards of a table by name or by number; None if its keys are not exactly these categories."""
    for keys in (names, [str(k) for k in range(len(names))]):
        if set(keys) == set(table):
            return [table[key] for key in keys]
    return None


def _edges(attribute: Attribute, ratings: Tensor, config: CategoricalConfig) -> tuple[float, ...]:
    """Bins with equal numbers of ratings (fewer bins if many ratings are equal), or of equal width."""
    shares = torch.linspace(0, 1, config.num_categories + 1, dtype=torch.float64)
    if config.binning == "equal":
        inner = attribute.low + attribute.span * shares[1:-1]
    else:
        ordered = ratings.sort().values
        inner = ordered[(shares[1:-1] * len(ordered)).long().clamp_max(len(ordered) - 1)]
    inside = sorted({value for value in inner.tolist() if attribute.low < value < attribute.high})
    return (attribute.low, *inside, attribute.high)


def _bin_values(ratings: Tensor, edges: Sequence[float]) -> tuple[float, ...]:
    """The mean of the ratings in each bin; its middle if it is empty."""
    bins = bins_of(ratings, edges)
    means = []
    for c, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = ratings[bins == c]
        means.append(float(inside.mean()) if len(inside) else (low + high) / 2)
    return tuple(means)
