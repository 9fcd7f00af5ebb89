"""Ratings tables to regression rows: weights, scales, spreading, rater reductions, texts that repeat."""

from __future__ import annotations

import pytest
import torch

import pluralign as pl
from pluralign.errors import DataError
from pluralign.fitting.tables.targets import rating_targets


def table(*rows):
    base = {"prompt": "p", "attribute": "a", "scale": [1, 5], "group": "g"}
    return pl.load_ratings([base | {"id": f"{i}"} | row for i, row in enumerate(rows)])


def test_every_response_weighs_1_whatever_the_number_of_its_raters():
    targets = rating_targets(
        table({"response": "x", "ratings": [1, 2, 5]}, {"response": "y", "ratings": [4]}), dequantise=False
    )
    (rows,) = targets.attributes
    assert rows.item.tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(rows.target, torch.tensor([0, 0.25, 1, 0.75], dtype=torch.float64))
    torch.testing.assert_close(rows.weight, torch.tensor([1 / 3, 1 / 3, 1 / 3, 1], dtype=torch.float64))
    assert (rows.attribute.low, rows.attribute.high, rows.attribute.step) == (1.0, 5.0, 1.0)


def test_spreading_moves_grid_ratings_by_at_most_half_a_step_and_repeats_by_seed():
    data = table(*({"response": f"r{i}", "ratings": [1 + i % 5] * 3} for i in range(40)))
    plain = rating_targets(data, dequantise=False).attributes[0].target
    spread = rating_targets(data, seed=3).attributes[0].target
    moved = (spread - plain) * 4  # in units of the rating scale
    assert 0.45 < float(moved.abs().max()) <= 0.5
    assert abs(float(moved.mean())) < 0.15
    assert torch.equal(spread, rating_targets(data, seed=3).attributes[0].target)
    assert not torch.equal(spread, rating_targets(data, seed=4).attributes[0].target)


def test_continuous_ratings_are_not_spread():
    data = table({"response": "x", "ratings": [1.137, 2.71]}, {"response": "y", "ratings": [3.1416]})
    rows = rating_targets(data).attributes[0]
    torch.testing.assert_close(rows.target, (torch.tensor([1.137, 2.71, 3.1416]).double() - 1) / 4)
    assert rows.attribute.step is None


@pytest.mark.parametrize(
    ("raters", "expected"), [("mean", [2.5, 4.0]), ("majority", [1.0, 4.0]), ("raw", [1, 1, 3, 5, 4, 4])]
)
def test_rater_reductions(raters, expected):
    data = table({"response": "x", "ratings": [1, 1, 3, 5]}, {"response": "y", "ratings": [4, 4]})
    rows = rating_targets(data, raters=raters, dequantise=False).attributes[0]
    torch.testing.assert_close(rows.target * 4 + 1, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(rows.weight.sum(), torch.tensor(2.0, dtype=torch.float64))


def test_a_tied_majority_is_the_mean_of_the_most_frequent():
    data = table({"response": "x", "ratings": [1, 1, 5, 5, 2]}, {"response": "y", "ratings": [2]})
    assert float(rating_targets(data, raters="majority", dequantise=False).attributes[0].target[0]) == 0.5


def test_means_are_not_spread():
    data = table({"response": "x", "ratings": [1, 2]}, {"response": "y", "ratings": [3]})
    torch.testing.assert_close(
        rating_targets(data, raters="mean").attributes[0].target, torch.tensor([0.125, 0.5]).double()
    )


def test_two_pools_of_one_response_are_one_crowd_and_texts_are_kept_once():
    data = table(
        {"response": "x", "ratings": [1, 2], "subset": "expert"},
        {"response": "x", "ratings": [5, 5], "subset": "crowd"},
        {"response": "x", "ratings": [3], "attribute": "b"},
        {"response": "x", "prompt": "other", "ratings": [3]},
    )
    targets = rating_targets(data, dequantise=False)
    assert len(targets.conversations) == 2
    a, b = targets.attributes
    assert (a.attribute.name, b.attribute.name) == ("a", "b")
    assert a.item.tolist() == [0, 0, 0, 0, 1]
    assert a.weight.tolist() == [0.25, 0.25, 0.25, 0.25, 1.0]
    assert b.item.tolist() == [0]


def test_restricting_drops_rows():
    data = table(
        {"response": "x", "ratings": [1, 2], "group": "g"}, {"response": "y", "ratings": [3], "group": "h"}
    )
    rows = rating_targets(data, dequantise=False).attributes[0]
    part = rows.restricted(rows.item == 1)
    assert part.item.tolist() == [1]
    assert part.weight.tolist() == [1.0]
    assert part.attribute == rows.attribute


def test_no_rows():
    with pytest.raises(DataError, match="empty"):
        rating_targets(table({"response": "x", "ratings": [1]}).select([]))
