"""Ratings to categories: which there are, what each is worth, and the crowd's share of each per response.

In: the ratings of one attribute, as `targets` gives them, undisturbed. Out: categories and, per response, the
distribution of its raters over them. It does not know embeddings, heads or losses.

Ratings on a grid are categories as they are; others fall into bins, whose ends are kept. The rating that
stands for a bin is the mean of the ratings in it, so that binning does not move the mean reward.
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

MOST_GRID_CATEGORIES = 21  # finer grids are binned, as continuous scales are


@dataclass(frozen=True)
class CategoryRows:
    """What the crowd said of one attribute.

    Attributes:
        attribute: name, scale and grid step.
        categories: C of them.
        item: [R], which distinct conversation each row is of.
        target: [R, C], the share of its raters in each category, float32.
        raters: [R], how many they are.
    """

    attribute: Attribute
    categories: Categories
    item: Int[Tensor, " R"]
    target: Float[Tensor, "R C"]
    raters: Int[Tensor, " R"]

    def restricted(self, keep: Tensor) -> CategoryRows:
        """Only the rows where the mask [R] is true."""
        return replace(self, item=self.item[keep], target=self.target[keep], raters=self.raters[keep])


def category_rows(rows: AttributeRows, config: CategoricalConfig) -> CategoryRows:
    """Counts the raters of each response in each category.

    Args:
        rows: ratings one by one, neither reduced nor dequantised.
        config: bins and rewards.

    Raises:
        DataError: a rating lies in no category.
    """
    ratings = rows.attribute.low + rows.attribute.span * rows.target
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
    """The categories of an attribute, from the grid of its ratings, the edges given, or bins.

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
    """On [0, 1]: of the scale for ratings, of the table's own range for a table."""
    table = rewards_in_order(names, config.rewards or {})
    if table is None and is_six(attribute):
        table = CATEGORY_REWARDS
    if table is None:
        return tuple((value - attribute.low) / attribute.span for value in values)
    low, high = min(table), max(table)
    return tuple((reward - low) / (high - low) for reward in table)


def rewards_in_order(names: Sequence[str], table: Mapping[str, float]) -> Sequence[float] | None:
    """The rewards of a table by name or by number; None where its keys are not just these categories."""
    for keys in (names, [str(k) for k in range(len(names))]):
        if set(keys) == set(table):
            return [table[key] for key in keys]
    return None


def _edges(attribute: Attribute, ratings: Tensor, config: CategoricalConfig) -> tuple[float, ...]:
    """Bins of equal numbers of ratings, fewer where many are equal, or of equal width."""
    shares = torch.linspace(0, 1, config.num_categories + 1, dtype=torch.float64)
    if config.binning == "equal":
        inner = attribute.low + attribute.span * shares[1:-1]
    else:
        ordered = ratings.sort().values
        inner = ordered[(shares[1:-1] * len(ordered)).long().clamp_max(len(ordered) - 1)]
    inside = sorted({value for value in inner.tolist() if attribute.low < value < attribute.high})
    return (attribute.low, *inside, attribute.high)


def _bin_values(ratings: Tensor, edges: Sequence[float]) -> tuple[float, ...]:
    """The mean of the ratings in each bin; its middle where there are none."""
    bins = bins_of(ratings, edges)
    means = []
    for c, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = ratings[bins == c]
        means.append(float(inside.mean()) if len(inside) else (low + high) / 2)
    return tuple(means)
