"""Ratings to categories: grids, bins, tables of rewards, and ratings that lie in none."""

from __future__ import annotations

import pytest
import torch

from pluralign.errors import ConfigError, DataError
from pluralign.fitting import CategoricalConfig
from pluralign.fitting.categorical.targets import category_rows
from pluralign.fitting.tables.category_ratings import is_six
from pluralign.fitting.tables.targets import AttributeRows
from pluralign.heads import CATEGORIES, Attribute


def rows(ratings, low=1.0, high=5.0, step=1.0, name="a"):
    """Ratings by response."""
    flat = torch.tensor([rating for given in ratings for rating in given], dtype=torch.float64)
    item = torch.tensor([3 * i for i, given in enumerate(ratings) for _ in given])
    attribute = Attribute(name, low, high, step)
    return AttributeRows(attribute, item, (flat - low) / (high - low), torch.ones(len(flat)))


def test_a_grid_is_its_own_categories():
    found = category_rows(rows([[1, 1, 5], [2], [4, 5]]), CategoricalConfig())
    assert found.categories.names == ("1", "2", "3", "4", "5")
    assert found.categories.values == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert found.categories.rewards == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert found.categories.edges is None
    assert found.item.tolist() == [0, 3, 6]
    assert found.raters.tolist() == [3, 1, 2]
    expected = torch.tensor([[2 / 3, 0, 0, 0, 1 / 3], [0, 1, 0, 0, 0], [0, 0, 0, 0.5, 0.5]])
    torch.testing.assert_close(found.target, expected)


def test_the_six_categories_take_the_papers_rewards():
    votes = rows([[0, 2], [5, 5]], 0.0, 5.0, None, "category")
    found = category_rows(votes, CategoricalConfig())
    assert is_six(found.attribute)
    assert found.categories.names == CATEGORIES
    assert found.categories.rewards == (1.0, 0.875, 0.5, 0.5, 0.375, 0.0)
    with pytest.raises(
        DataError, match=r"category: 1 ratings are outside all categories, among them 2.5; .*neutral"
    ):
        category_rows(rows([[0, 2.5]], 0.0, 5.0, 0.5, "category"), CategoricalConfig())


def test_a_table_of_rewards_by_name_or_number():
    by_number = CategoricalConfig(rewards={"0": -2.0, "1": 0.0, "2": 2.0})
    by_name = CategoricalConfig(rewards={"1.5": 0.0, "2": 2.0, "1": -2.0})
    for config in (by_number, by_name):
        found = category_rows(rows([[1, 1.5, 2]], 1.0, 2.0, 0.5), config)
        assert found.categories.rewards == (0.0, 0.5, 1.0)
        assert found.categories.values == (1.0, 1.5, 2.0)
    other = category_rows(rows([[1, 2]], 1.0, 2.0, 1.0), by_number)  # has other categories
    assert other.categories.rewards == (0.0, 1.0)


def test_bins_hold_equal_numbers_or_have_equal_width_and_keep_the_mean():
    values = [0.0, 0.1, 0.2, 0.3, 0.4, 0.9, 1.0, 4.0]
    quantile = category_rows(rows([values], 0.0, 4.0, None), CategoricalConfig(num_categories=4))
    torch.testing.assert_close(quantile.target, torch.full((1, 4), 0.25))
    assert quantile.categories.edges == pytest.approx((0.0, 0.2, 0.4, 1.0, 4.0))
    assert quantile.categories.values == pytest.approx((0.05, 0.25, 0.65, 2.5))
    equal = CategoricalConfig(num_categories=4, binning="equal")
    found = category_rows(rows([values], 0.0, 4.0, None), equal)
    assert found.categories.edges == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert found.categories.values[2] == 2.5  # nobody is there: its middle
    for part in (quantile, found):
        mean = part.target.double() @ torch.tensor(part.categories.values, dtype=torch.float64)
        assert mean.item() == pytest.approx(sum(values) / 8, abs=1e-6)


def test_fine_grids_are_binned_and_edges_decide_where_given():
    fine = rows([[float(k) for k in range(101)]], 0.0, 100.0, 1.0)
    assert len(category_rows(fine, CategoricalConfig()).categories) == 10
    config = CategoricalConfig(edges=(0.0, 50.0, 100.0))
    found = category_rows(fine, config)
    assert found.categories.names == ("0 to 50", "50 to 100")
    torch.testing.assert_close(found.target, torch.tensor([[50 / 101, 51 / 101]]))
    with pytest.raises(
        DataError, match="1 ratings are outside all categories, among them 120; allowed: .* 0 to 100"
    ):
        category_rows(rows([[50.0, 120.0]], 0.0, 200.0, None), config)


def test_many_equal_ratings_make_fewer_bins():
    found = category_rows(rows([[0.0] * 30 + [0.123, 0.9]], 0.0, 1.0, None), CategoricalConfig())
    assert len(found.categories) == 1
    assert found.categories.values[0] == pytest.approx(1.023 / 32)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("loss", "wasserstein"),
        ("cost", "matrix"),
        ("floor", -1.0),
        ("smoothing", 1.0),
        ("rewards", {"0": 1.0, "1": 1.0}),
        ("rewards", {"0": 1.0, "1": float("nan")}),
        ("edges", (0.0, 1.0)),
        ("edges", (0.0, 2.0, 1.0)),
        ("num_categories", 1),
        ("binning", "kmeans"),
        ("comparisons", "triples"),
        ("axis_weights", (0.0, 0.0)),
        ("axis_weights", (1.0, -1.0)),
        ("l2", 0.0),
        ("l2_grid", ()),
        ("steps", 0),
        ("lr", float("inf")),
        ("hidden", -1),
        ("regularization", 0.5),
        ("debias_coupling", "parity"),
    ],
)
def test_what_is_not_a_config(field, value):
    with pytest.raises(ConfigError, match=field):
        CategoricalConfig(**{field: value})
