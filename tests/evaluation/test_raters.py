"""Texts with any number of raters: blocks, filling, and draws that do not depend on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pluralign as pl
from fake_backbone import FakeBackbone, ratings_rows
from pluralign.data.table_columns import Ragged
from pluralign.evaluation import metrics, raters
from pluralign.evaluation.columns import uniform_noise
from pluralign.evaluation.raters import blocks, filled, noise_of
from pluralign.evaluation.rows import rating_rows


def lists(*rows):
    return Ragged(
        np.concatenate([np.array(row, float) for row in rows]), np.array([len(row) for row in rows])
    )


def test_rows_are_filled_up_behind_their_last_rating():
    table = filled(lists([1, 2], [], [3, 4, 5]))
    nan = float("nan")
    torch.testing.assert_close(
        table, torch.tensor([[1, 2, nan], [nan] * 3, [3, 4, 5]]).double(), equal_nan=True
    )


@pytest.mark.parametrize("cells", [1, 20, 10_000])
def test_every_row_is_in_one_block_and_blocks_are_small(cells, monkeypatch):
    monkeypatch.setattr(raters, "_CELLS", cells)
    sizes = np.array([3, 1, 3, 2, 1000, 3, 1, 7, 0, 500])
    found = list(blocks(sizes, 4))
    assert sorted(np.concatenate(found).tolist()) == list(range(10))
    for rows in found:
        own = np.maximum(sizes[rows], 1)
        assert len(rows) <= 4
        assert own.max() <= 2 * own.min()
        assert len(rows) == 1 or len(rows) * own.max() <= cells


@pytest.mark.parametrize("dense", [0, 4, 10**9])
@pytest.mark.parametrize("cells", [1, 7, 400_000])
def test_draws_are_those_of_the_padded_table(dense, cells, monkeypatch):
    """However they are made: so numbers do not change with the table's longest row."""
    monkeypatch.setattr(raters, "_DENSE", dense)
    monkeypatch.setattr(raters, "_CELLS", cells)
    sizes = np.array([3, 0, 5, 1, 1, 4, 5])
    whole = uniform_noise((7, 6), 3, "pit")
    found = noise_of(sizes, 6, 3, "pit")
    assert found.values.tolist() == whole[np.arange(6) < sizes[:, None]].tolist()
    assert found.sizes.tolist() == sizes.tolist()


def test_curves_of_lists_are_those_of_the_padded_table():
    generator = np.random.default_rng(0)
    rows = [generator.random(size) for size in (3, 0, 1, 8, 2, 2)]
    u = lists(*rows)
    table, levels = filled(u), [0.0, 0.1, 0.5, 0.95, 1.0]
    one, other = metrics.coverage_curve(u, levels), metrics.coverage_curve(table, levels)
    for key in ("below", "central"):
        np.testing.assert_allclose(one[key], other[key])
    expected = [float(metrics.below_level(table, t).nanmean()) for t in levels]
    np.testing.assert_allclose(one["below"], expected)
    expected = [float(metrics.central_coverage(table, t).nanmean()) for t in levels]
    np.testing.assert_allclose(one["central"], expected)
    np.testing.assert_allclose(metrics.pit_histogram(u)["share"], metrics.pit_histogram(table)["share"])
    assert sum(metrics.pit_histogram(u)["share"]) == pytest.approx(1)


def test_one_text_with_ten_thousand_raters_leaves_the_others_as_they_are():
    """Its row is measured, and none is filled up to its length: no array of N x 10,000 is made."""
    rows = ratings_rows(40)
    model = pl.fit(
        "quantile", ratings=pl.load_ratings(rows), backbone=FakeBackbone(), cache=None, config={"l1": 0.01}
    )
    crowd = rows[0] | {"id": "crowd", "response": "1 1 crowd", "ratings": [1, 3, 5, 4] * 2_500}
    real, largest = raters.filled, []

    def watched(ratings):
        table = real(ratings)
        largest.append(table.numel())
        return table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pluralign.evaluation.calibration.filled", watched)
        found = rating_rows(model, pl.load_ratings([*rows, crowd]))
    assert max(largest) == 10_000
    alone = rating_rows(model, pl.load_ratings(rows))
    for key in ("model_mean", "model_closed_coverage", "constant_std", "observed_mean", "utility"):
        np.testing.assert_allclose(found[key][:-1], alone[key])
    assert len(found["model_pit"][-1]) == 10_000
    assert found["observed_mean"][-1] == 3.25
