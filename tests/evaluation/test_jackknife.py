"""The jackknife: of a mean it is the interval of the mean, and it covers a rank correlation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pluralign.evaluation.intervals import mean_interval
from pluralign.evaluation.jackknife import jackknife_intervals
from pluralign.evaluation.metrics import spearman


@pytest.mark.parametrize("seed", range(4))
def test_of_a_mean_it_is_the_interval_of_the_mean(seed):
    generator = np.random.default_rng(seed)
    values, groups = np.exp(generator.normal(size=60)), generator.integers(12, size=60) ** 2 // 8
    names = [f"g{g:02}" for g in groups]
    found = jackknife_intervals(lambda rows: {"mean": float(values[rows].mean())}, names)["mean"]
    expected = mean_interval(values, names)
    assert found.estimate == pytest.approx(expected.estimate)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.groups, found.rows, found.method) == (expected.groups, 60, "jackknife")
    assert found.effective_groups == pytest.approx(expected.effective_groups)


def test_bounds_are_kept():
    values = np.array([1.0, 1.0, 1.0, 0.9, 0.2])
    found = jackknife_intervals(
        lambda r: {"mean": float(values[r].mean())}, range(5), bounds={"mean": (0, 1)}
    )
    assert found["mean"].high == 1
    assert found["mean"].low >= 0


def test_many_groups_are_dealt_into_blocks_whatever_their_order():
    values, groups = np.random.default_rng(1).normal(size=400), np.arange(400) // 2
    order = np.random.default_rng(2).permutation(400)

    def interval(rows):
        return jackknife_intervals(lambda r: {"mean": float(values[rows][r].mean())}, groups[rows])["mean"]

    found, other = interval(np.arange(400)), interval(order)
    expected = mean_interval(values, groups)
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.25)
    assert (found.low, found.high) == pytest.approx((other.low, other.high))


def test_it_covers_the_rank_correlation_of_a_bivariate_normal():
    rho = 0.5
    true = 6 / np.pi * np.arcsin(rho / 2)
    generator, covered = np.random.default_rng(3), 0
    for _ in range(100):
        x, y = generator.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=60).T
        found = jackknife_intervals(lambda r, x=x, y=y: {"s": spearman(x[r], y[r])}, range(60))["s"]
        assert found.estimate == pytest.approx(stats.spearmanr(x, y)[0])
        covered += not found.excludes(true)
    assert 0.88 <= covered / 100 <= 0.99


def test_what_has_no_interval_says_why():
    one = jackknife_intervals(lambda rows: {"n": float(len(rows)), "never": None}, ["g"] * 5)
    assert set(one) == {"n"}
    assert (one["n"].low, one["n"].high) == (None, None)
    assert "only one group" in one["n"].reason
    x, y = np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])
    gone = jackknife_intervals(lambda rows: {"s": spearman(x[rows], y[rows])}, ["a", "b", "c"])["s"]
    assert gone.estimate == pytest.approx(stats.spearmanr(x, y)[0])
    assert (gone.low, gone.reason) == (None, "not defined without some of the groups")
