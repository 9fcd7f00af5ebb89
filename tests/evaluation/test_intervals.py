"""Intervals against scipy, statsmodels, closed forms, and their own coverage on simulated groups."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pluralign.errors import ArgumentError
from pluralign.evaluation.columns import group_codes
from pluralign.evaluation.intervals import difference_interval, mean_interval, student_t_quantile

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 20, 58, 99, 1000, 0.5])
@pytest.mark.parametrize("probability", [0.001, 0.025, 0.3, 0.5, 0.51, 0.9, 0.975, 0.9995])
def test_t_quantile_matches_scipy(df, probability):
    assert student_t_quantile(probability, df) == pytest.approx(
        stats.t.ppf(probability, df), rel=1e-8, abs=1e-12
    )


def test_t_quantile_of_many_degrees_is_normal():
    assert student_t_quantile(0.975, 1e6) == pytest.approx(stats.norm.ppf(0.975), rel=1e-5)


@pytest.mark.parametrize(
    ("probability", "df"), [(0.0, 3), (1.0, 3), (0.5, 0), (0.5, float("inf")), (0.5, float("nan"))]
)
def test_t_quantile_refuses(probability, df):
    with pytest.raises(ArgumentError):
        student_t_quantile(probability, df)


def test_t_interval_of_seeds_is_the_textbook_one():
    values = [0.71, 0.74, 0.69, 0.73, 0.75]
    low, high = stats.t.interval(0.9, 4, loc=np.mean(values), scale=stats.sem(values))
    interval = mean_interval(values, level=0.9)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-9)
    assert (interval.method, interval.groups, interval.rows) == ("t", 5, 5)


def test_t_interval_of_equal_groups_is_the_one_over_group_means():
    rows = np.random.default_rng(1).normal(size=(12, 7))
    means = rows.mean(1)
    low, high = stats.t.interval(0.95, 11, loc=means.mean(), scale=stats.sem(means))
    interval = mean_interval(rows.ravel(), np.repeat(np.arange(12), 7), method="t")
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-9)


def test_t_interval_of_unequal_groups_matches_cluster_robust_weighted_least_squares():
    linear_model = pytest.importorskip("statsmodels.api")
    generator = np.random.default_rng(2)
    groups = generator.integers(15, size=200)
    values = generator.normal(size=200) + generator.normal(size=15)[groups]
    weights = generator.uniform(0.2, 3, size=200)
    fit = linear_model.WLS(values, np.ones(200), weights=weights).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}, use_t=True
    )
    interval = mean_interval(values, groups, method="t", weights=weights)
    # statsmodels leaves out the small-sample factor G/(G-1) here; ours has it.
    half = stats.t.ppf(0.975, 14) * fit.bse[0] * np.sqrt(15 / 14)
    assert interval.estimate == pytest.approx(fit.params[0], rel=1e-12)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=1e-9)


def test_bootstrap_spread_is_the_group_standard_error():
    rows = np.random.default_rng(3).normal(size=(400, 3)) + np.random.default_rng(4).normal(size=(400, 1))
    interval = mean_interval(rows.ravel(), np.repeat(np.arange(400), 3), resamples=20_000)
    standard_error = rows.mean(1).std() / np.sqrt(400)
    assert interval.method == "bootstrap"
    assert (interval.high - interval.low) / (2 * stats.norm.ppf(0.975)) == pytest.approx(
        standard_error, rel=0.03
    )


def test_bootstrap_of_two_groups_holds_exactly_its_three_means():
    # Two equal groups with means 0 and 1: resampled means are 0, .5, 1 with probability 1/4, 1/2, 1/4.
    interval = mean_interval([0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"], method="bootstrap", level=0.4)
    assert (interval.low, interval.estimate, interval.high) == (0.5, 0.5, 0.5)
    wider = mean_interval([0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"], method="bootstrap", level=0.6)
    assert (wider.low, wider.high) == (0.0, 1.0)


@pytest.mark.parametrize(("method", "groups"), [("t", 15), ("bootstrap", 150)])
def test_intervals_cover_the_truth_when_rows_are_not_independent(method, groups):
    generator = np.random.default_rng(5)
    covered, row_covered = 0, 0
    for seed in range(300):
        sizes = generator.integers(1, 8, size=groups)
        labels = np.repeat(np.arange(groups), sizes)
        values = generator.normal(size=groups)[labels] + 0.5 * generator.normal(size=len(labels))
        covered += not mean_interval(values, labels, method=method, resamples=400, seed=seed).excludes(0)
        row_covered += not mean_interval(values, method="t").excludes(0)
    assert 0.90 <= covered / 300 <= 0.985
    assert row_covered / 300 < 0.8  # what taking rows as independent would give


def test_difference_is_paired():
    generator = np.random.default_rng(6)
    groups = np.repeat(np.arange(30), 4)
    shared = 10 * generator.normal(size=120)
    a, b = shared + 0.3 + 0.1 * generator.normal(size=120), shared
    paired = difference_interval(a, b, groups)
    assert paired.excludes(0)
    assert paired.low > 0.2
    assert paired.high < 0.4
    mirrored = difference_interval(b, a, groups)
    assert (mirrored.estimate, mirrored.low, mirrored.high) == pytest.approx(
        (-paired.estimate, -paired.high, -paired.low)
    )
    assert not difference_interval(a, a, groups).excludes(0)


@given(st.integers(0, 10_000))
def test_order_of_rows_and_names_of_groups_do_not_matter(seed):
    generator = np.random.default_rng(seed)
    values, groups = generator.normal(size=40), generator.integers(8, size=40)
    order = generator.permutation(40)
    names = np.array([f"topic {9 - g}" for g in groups])
    a = mean_interval(values, groups, method="t")
    b = mean_interval(values[order], names[order], method="t")
    assert (a.low, a.high) == pytest.approx((b.low, b.high), rel=1e-9, abs=1e-12)


def test_missing_rows_are_dropped_and_counted():
    interval = mean_interval([1.0, float("nan"), 3.0, 4.0], ["a", "a", "b", "c"])
    kept = mean_interval([1.0, 3.0, 4.0], ["a", "b", "c"])
    assert (interval.dropped, interval.rows) == (1, 3)
    assert (interval.low, interval.high) == (kept.low, kept.high)
    assert difference_interval([1.0, float("nan")], [2.0, 1.0], ["a", "b"]).dropped == 1


def test_weights_act_as_repeated_rows_within_groups():
    repeated = mean_interval([1.0, 1.0, 1.0, 0.0, 2.0], ["a", "a", "a", "b", "b"], method="t")
    weighted = mean_interval(
        [1.0, 0.0, 2.0, 99.0], ["a", "b", "b", "c"], method="t", weights=[3.0, 1.0, 1.0, 0.0]
    )
    expected = (repeated.estimate, repeated.low, repeated.high)
    assert (weighted.estimate, weighted.low, weighted.high) == pytest.approx(expected)
    assert weighted.groups == 2


def test_one_group_has_an_estimate_and_no_interval():
    interval = mean_interval([1.0, 2.0], ["a", "a"])
    assert (interval.estimate, interval.low, interval.high) == (1.5, None, None)
    assert "one group" in interval.reason
    assert not interval.excludes(0)


def test_is_json_and_takes_tensors():
    interval = mean_interval(torch.tensor([0.0, 1.0, 1.0]), ["a", "b", "c"])
    assert json.loads(json.dumps(interval.to_dict()))["groups"] == 3


def test_auto_switches_at_a_hundred_groups():
    assert mean_interval(np.arange(99.0)).method == "t"
    assert mean_interval(np.arange(100.0)).method == "bootstrap"


def test_seed_decides_the_bootstrap():
    values = np.random.default_rng(7).normal(size=200)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1)
    assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


@pytest.mark.parametrize(
    "arguments",
    [
        {"values": []},
        {"values": [[1.0]]},
        {"values": [float("nan")]},
        {"values": [1.0, float("inf")]},
        {"values": [1.0, 2.0], "groups": ["a"]},
        {"values": [1.0, 2.0], "weights": [1.0, -1.0]},
        {"values": [1.0, 2.0], "weights": [0.0, 0.0]},
        {"values": [1.0, 2.0], "method": "jackknife"},
        {"values": [1.0, 2.0], "level": 95},
        {"values": [1.0, 2.0], "resamples": 10},
    ],
)
def test_illegal_arguments(arguments):
    with pytest.raises(ArgumentError):
        mean_interval(**arguments)


def test_difference_refuses_other_rows():
    with pytest.raises(ArgumentError, match="same rows"):
        difference_interval([1.0, 2.0], [1.0])


def test_the_bootstrap_is_that_of_drawn_groups():
    """Means over the groups that numpy's own stream draws, one resample after the other."""
    generator = np.random.default_rng(7)
    values, groups = generator.normal(size=300), generator.integers(120, size=300)
    found = mean_interval(values, groups, method="bootstrap", resamples=200, seed=5)
    names = np.unique(groups)
    sums = np.array([values[groups == g].sum() for g in names])
    sizes = np.array([(groups == g).sum() for g in names])
    drawn = np.random.default_rng(5).integers(len(names), size=(200, len(names)))
    ends = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
    np.testing.assert_allclose([found.low, found.high], ends)


@pytest.mark.parametrize("method", ["bootstrap", "t"])
def test_numbers_of_groups_do_as_well_as_names(method):
    generator = np.random.default_rng(8)
    values, numbers = generator.normal(size=60), generator.integers(12, size=60)
    values[numbers == 4] = np.nan  # a number that no row is left of
    names = [f"group {number:02}" for number in numbers]
    one = mean_interval(values, names, method).to_dict()
    for labels in (group_codes(names), numbers, numbers - 5, 1000 * numbers):
        assert mean_interval(values, labels, method).to_dict() == pytest.approx(one)
    assert group_codes(["b", "a", "b", "é"]).tolist() == [1, 0, 1, 2]
