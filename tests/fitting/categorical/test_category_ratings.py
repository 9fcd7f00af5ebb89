"""Ratings in categories: their places, and what they are worth where more is not better."""

from __future__ import annotations

import pytest
import torch

import pluralign as pl
from pluralign.errors import DataError
from pluralign.fitting.tables.category_ratings import is_six, places_of, ratings_as_rewards
from pluralign.heads import CATEGORIES, Attribute, Categories

SIX = Categories(CATEGORIES, (0.0, 1.0, 2.0, 3.0, 4.0, 5.0), (1.0, 0.875, 0.5, 0.5, 0.375, 0.0))
GRID = Categories(("1", "3", "5"), (1.0, 3.0, 5.0), (0.0, 0.5, 1.0))
BINS = Categories(("low", "high"), (0.2, 0.8), (0.0, 1.0), edges=(0.0, 0.5, 1.0))


def test_the_six_categories_are_known_by_name_and_scale():
    assert is_six(Attribute("category", 0.0, 5.0))
    assert not is_six(Attribute("category", 1.0, 5.0))
    assert not is_six(Attribute("quality", 0.0, 5.0))


def test_a_rating_lies_on_the_grid_or_in_a_bin_or_is_refused():
    assert places_of(torch.tensor([5.0, 1.0, 3.0]).double(), GRID, "a").tolist() == [2, 0, 1]
    assert places_of(torch.tensor([0.0, 0.5, 1.0]).double(), BINS, "a").tolist() == [0, 1, 1]
    for categories, rating in ((GRID, 2.0), (BINS, 1.5)):
        with pytest.raises(
            DataError, match=f"a: 1 ratings are outside all categories, among them {rating:g}"
        ):
            places_of(torch.tensor([rating]).double(), categories, "a")


def test_numbers_of_categories_become_rewards_where_more_is_not_better():
    ratings = [
        {"prompt": "p", "response": f"{i}", "attribute": name, "ratings": given, "scale": scale}
        for i, (name, given, scale) in enumerate([("category", [0, 5, 2], [0, 5]), ("a", [1, 5], [1, 5])])
    ]
    table = pl.load_ratings(ratings)
    worth = ratings_as_rewards(table, {"category": SIX, "a": GRID})
    assert worth["ratings"] == [[1.0, 0.0, 0.5], [1.0, 5.0]]
    assert worth["scale"] == [[0.0, 1.0], [1.0, 5.0]]
    assert ratings_as_rewards(table, {"a": GRID}) is table
