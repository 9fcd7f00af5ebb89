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
from pluralign.evaluation.group_errors import group_error, interval_ends, ratio_influence, two_sided_p
from pluralign.evaluation.intervals import difference_interval, mean_interval
from pluralign.evaluation.student_t import student_t_quantile, student_t_tail

stats = pytest.importorskip("scipy.stats")
optimize = pytest.importorskip("scipy.optimize")


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 20, 58, 99, 1000, 0.5])
@pytest.mark.parametrize("probability", [0.001, 0.025, 0.3, 0.5, 0.51, 0.9, 0.975, 0.9995])
def test_t_quantile_matches_scipy(df, probability):
    assert student_t_quantile(probability, df) == pytest.approx(
        stats.t.ppf(probability, df), rel=1e-8, abs=1e-12
    )


@pytest.mark.parametrize("df", [0.5, 1, 4.3, 75])
@pytest.mark.parametrize("t", [-40.0, -1.3, 0.0, 1e-200, 0.2, 3.0, 1e200, float("inf")])
def test_t_tail_matches_scipy(df, t):
    assert student_t_tail(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-8, abs=1e-12)


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


def test_t_interval_of_equal_groups_matches_cluster_robust_least_squares():
    linear_model = pytest.importorskip("statsmodels.api")
    generator = np.random.default_rng(2)
    groups = np.repeat(np.arange(15), 8)
    values = generator.normal(size=120) + generator.normal(size=15)[groups]
    weights = np.tile(generator.uniform(0.2, 3, size=8), 15)
    fit = linear_model.WLS(values, np.ones(120), weights=weights).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}, use_t=True
    )
    interval = mean_interval(values, groups, method="t", weights=weights)
    # statsmodels leaves out the small-sample factor G/(G-1) here; CR2 of equal groups is that factor.
    half = stats.t.ppf(0.975, 14) * fit.bse[0] * np.sqrt(15 / 14)
    assert interval.estimate == pytest.approx(fit.params[0], rel=1e-12)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_t_interval_of_unequal_groups_is_that_of_dense_matrices(seed):
    """CR2 and its degrees of freedom from N x N matrices of the rows, for one effect per group."""
    generator = np.random.default_rng(seed)
    groups = generator.integers(8, size=60) ** 2 // 8
    values, weights = generator.normal(size=60) + groups, generator.uniform(0.1, 2, size=60)
    names = np.unique(groups)
    member = (groups[:, None] == names).astype(float)  # [N, G]
    covariance = member @ member.T
    residual = np.eye(60) - np.outer(np.ones(60), weights / weights.sum())
    pick = (member * weights[:, None]).T @ residual / weights.sum()  # [G, N]: influence of each group
    wanted = np.diag((member * weights[:, None]).T @ covariance @ (member * weights[:, None]))
    have = np.diag(pick @ covariance @ pick.T) * weights.sum() ** 2
    adjusted = np.sqrt(wanted / have)[:, None] * pick
    spread = np.linalg.eigvalsh(adjusted @ covariance @ adjusted.T)
    df = spread.sum() ** 2 / (spread**2).sum()
    half = stats.t.ppf(0.975, df) * np.linalg.norm(adjusted @ values)
    interval = mean_interval(values, groups, method="t", weights=weights)
    assert interval.estimate == pytest.approx(np.average(values, weights=weights))
    assert [interval.estimate - interval.low, interval.high - interval.estimate] == pytest.approx([half] * 2)
    assert interval.effective_groups == pytest.approx(
        weights.sum() ** 2 / ((member.T @ weights) ** 2).sum(), rel=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_an_interval_of_skewed_groups_ends_where_halls_transform_meets_the_quantile(seed):
    """The ends by root finding on the transform as it is printed, of groups of one row."""
    x = np.exp(np.random.default_rng(seed).normal(size=12)) * (-1) ** seed
    reach, spread = stats.t.ppf(0.975, 11), x.std(ddof=1) / np.sqrt(12)
    g = stats.skew(x, bias=False) / np.sqrt(12)

    def beyond(truth, end):
        t = (x.mean() - truth) / spread
        return t + g * (t * t / 3 + 1 / 6) + g * g * t**3 / 27 - end

    ends = x.mean() - 1e3 * spread, x.mean() + 1e3 * spread
    low, high = (optimize.brentq(beyond, *ends, args=(end,), xtol=1e-13) for end in (reach, -reach))
    found = mean_interval(x, np.arange(12))
    assert found.method == "skewed_t"
    assert found.low == pytest.approx(min(low, x.mean() - reach * spread), rel=1e-9)
    assert found.high == pytest.approx(max(high, x.mean() + reach * spread), rel=1e-9)
    plain = mean_interval(x, np.arange(12), method="t")
    assert (found.high - found.low) > (plain.high - plain.low)


def test_an_interval_of_symmetric_groups_is_students():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    found, plain = mean_interval(x, range(5)), mean_interval(x, range(5), method="t")
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), rel=1e-12)


@given(st.integers(0, 10_000), st.floats(0.5, 0.999))
def test_an_interval_holds_zero_exactly_if_the_p_value_is_large(seed, level):
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 9, size=6).astype(float)
    sums = sizes * np.exp(generator.normal(size=6)) - generator.uniform(0, 2) * sizes
    shares, estimate = sizes / sizes.sum(), sums.sum() / sizes.sum()
    error = group_error(ratio_influence(sums, sizes), shares)
    for skewed in (False, True):
        low, high = interval_ends(estimate, error, level, skewed=skewed)
        p = two_sided_p(estimate, error, skewed=skewed)
        if abs(p - (1 - level)) > 1e-9:
            assert (low <= 0 <= high) == (p > 1 - level)


def test_groups_that_agree_have_the_p_value_of_their_signs():
    error = group_error(np.zeros(6), np.full(6, 1 / 6))
    assert two_sided_p(1.0, error) == 2**-5
    assert two_sided_p(0.0, error) == 1


def test_under_five_groups_there_is_a_sentence():
    values = [1.0, 2.0, 4.0, 3.0]
    found = mean_interval(values, list("abcd"))
    assert (found.estimate, found.low, found.high) == (2.5, None, None)
    assert "4 groups: an interval over groups needs at least 5" in found.reason
    assert mean_interval(values, list("abcd"), method="t").high > 4  # where somebody insists
    assert mean_interval(values).low is not None  # seeds
    assert mean_interval([*values, 2.0], list("abcde")).low is not None


def test_bounds_are_kept():
    few = [1.0, 1.0, 1.0, 1.0, 0.0]
    assert mean_interval(few, range(5)).high > 1
    inside = mean_interval(few, range(5), bounds=(0, 1))
    assert inside.high == 1
    assert inside.low >= 0
    sure = mean_interval([1.0] * 30, range(30), bounds=(0, 1))
    assert (sure.method, sure.high) == ("exact", 1)
    assert sure.low == pytest.approx(stats.binomtest(30, 30).proportion_ci(method="exact").low)
    never = mean_interval([0.0] * 30, range(30), bounds=(0, 1))
    assert (never.low, never.high) == pytest.approx((0, 1 - sure.low))
    with pytest.raises(ArgumentError, match="outside of bounds"):
        mean_interval([0.5, 1.5], bounds=(0, 1))
    with pytest.raises(ArgumentError, match="lower and a higher"):
        mean_interval([0.5, 0.5], bounds=(1, 0))


def test_bootstrap_spread_is_the_group_standard_error():
    rows = np.random.default_rng(3).normal(size=(400, 3)) + np.random.default_rng(4).normal(size=(400, 1))
    interval = mean_interval(rows.ravel(), np.repeat(np.arange(400), 3), method="bootstrap", resamples=20_000)
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


def test_auto_is_students_t_of_seeds_and_regards_skewness_of_groups():
    assert mean_interval(np.arange(99.0)).method == "t"
    assert mean_interval(np.arange(99.0), np.arange(99)).method == "skewed_t"


def test_seed_decides_the_bootstrap():
    values = np.random.default_rng(7).normal(size=200)
    first, again, other = (mean_interval(values, method="bootstrap", seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


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
