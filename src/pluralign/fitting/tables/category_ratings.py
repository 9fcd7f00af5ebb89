"""Ratings in categories: the category and the reward of each.

In: ratings, and the `Categories` of their attributes. Out: category indices, and tables in which more is
better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pluralign.data.arrow import data_set
from pluralign.data.table_columns import column_values, ragged
from pluralign.errors import DataError
from pluralign.heads.base import Attribute
from pluralign.heads.categories import CATEGORY_ATTRIBUTE, Categories

if TYPE_CHECKING:
    import datasets

__all__ = ["bins_of", "is_six", "places_of", "ratings_as_rewards"]

_ROUNDING = 1e-4  # of a step, as for all grids


def is_six(attribute: Attribute) -> bool:
    """Whether ratings of an attribute are numbers of the paper's six categories."""
    return (attribute.name, attribute.low, attribute.high) == (CATEGORY_ATTRIBUTE, 0.0, 5.0)


def bins_of(ratings: Tensor, edges: Sequence[float]) -> Tensor:
    """The bin of each rating; -1 or the number of bins if it lies outside."""
    ends = torch.tensor(edges, dtype=torch.float64)
    bins = torch.searchsorted(ends, ratings.contiguous(), right=True) - 1
    return torch.where(ratings == ends[-1], len(edges) - 2, bins)


def places_of(ratings: Tensor, categories: Categories, name: str) -> Tensor:
    """The category of each rating.

    Raises:
        DataError: a rating is outside all categories.
    """
    if categories.edges is not None:
        place = bins_of(ratings, categories.edges)
        off = (place < 0) | (place >= len(categories))
        allowed = f"ratings from {categories.edges[0]:g} to {categories.edges[-1]:g}, as edges says"
    else:
        values = torch.tensor(categories.values, dtype=torch.float64)
        distance, place = (ratings[:, None] - values).abs().min(1)
        off = distance > _ROUNDING * float(values.diff().min())
        allowed = ", ".join(
            f"{value:g} ({category})" for value, category in zip(values, categories.names, strict=True)
        )
    if bool(off.any()):
        found = ", ".join(f"{value:g}" for value in sorted(set(ratings[off].tolist()))[:5])
        raise DataError(
            f"{name}: {int(off.sum()):,} ratings are outside all categories, among them {found}; allowed: "
            f"{allowed}"
        )
    return place


def ratings_as_rewards(ratings: datasets.Dataset, categories: Mapping[str, Categories]) -> datasets.Dataset:
    """The same table with rewards on [0, 1] for attributes whose category numbers do not increase with
    quality.

    The first of the six categories is the best one, so pairs and scores must not be based on the numbers.
    Attributes whose rewards increase with the rating are unchanged.

    Args:
        ratings: canonical ratings.
        categories: of each attribute.

    Raises:
        DataError: a rating is outside all categories.
    """
    turned = {name: c for name, c in categories.items() if list(c.rewards) != sorted(c.rewards)}
    names = np.array(column_values(ratings, "attribute"), dtype=object)
    if not turned.keys() & set(names):
        return ratings
    given, scales = ragged(ratings, "ratings"), ragged(ratings, "scale")
    values, ends = given.values.copy(), scales.values.copy().reshape(-1, 2)
    of_rating = np.repeat(names, given.sizes)
    for name, known in turned.items():
        own = of_rating == name
        place = places_of(torch.from_numpy(values[own]), known, name)
        values[own] = np.asarray(known.rewards, np.float64)[place.numpy()]
        ends[names == name] = [0.0, 1.0]
    table = ratings.with_format("arrow")[:]
    for name, new in (
        ("ratings", replace(given, values=values)),
        ("scale", replace(scales, values=ends.ravel())),
    ):
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        table = table.set_column(place, field, new.arrow().cast(field.type))
    return data_set(table)
