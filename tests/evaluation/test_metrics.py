"""Pair outcomes, calibration and rank correlation against scipy, closed forms and known distributions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pluralign.distributions import Categorical, Empirical, GaussianEnsemble, Quantiles
from pluralign.errors import ArgumentError
from pluralign.evaluation.metrics import (
    below_level,
    central_coverage,
    closed_coverage,
    coverage_curve,
    dequantise,
    pair_outcomes,
    peaked,
    pinball_rows,
    pit_histogram,
    pit_values,
    spearman,
)

NAN = float("nan")
stats = pytest.importorskip("scipy.stats")


def gaussian(rows: int, mean: float = 0.0, std: float = 1.0) -> GaussianEnsemble:
    shape = (rows, 1)
    return GaussianEnsemble(
        torch.full(shape, mean, dtype=torch.float64), torch.full(shape, std, dtype=torch.float64)
    )


# --- pairs


def test_numbers_that_differ_by_rounding_tie():
    """One unit of the last place, up and down, at any size; in the precision in which they were computed."""
    for dtype in (torch.float32, torch.float64):
        size = torch.tensor([1e-6, 1.0, 3e5], dtype=dtype).repeat(2)
        near = torch.nextafter(size, torch.tensor([0.0] * 3 + [1e9] * 3, dtype=dtype))
        assert pair_outcomes(size, near).tolist() == [0] * 6
        assert pair_outcomes(-size, -near).tolist() == [0] * 6
        assert pair_outcomes(size, size * (1 - 100 * torch.finfo(dtype).eps)).tolist() == [1] * 6
    assert pair_outcomes([1.0, 1.0], [1.0 - 1e-7, 1.0 + 1e-7]).tolist() == [1, -1]  # as float64 they differ
    infinity = float("inf")
    assert pair_outcomes([infinity, infinity, 1.0], [-infinity, 1.0, infinity]).tolist() == [1, 1, -1]
    assert pair_outcomes(torch.tensor([5_000_000]), torch.tensor([5_000_001])).tolist() == [-1]


def test_only_strictly_greater_wins():
    assert pair_outcomes([2.0, 1.0, 1.0, float("inf")], [1.0, 2.0, 1.0, float("inf")]).tolist() == [
        1,
        -1,
        0,
        0,
    ]


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1))
def test_swapping_the_sides_swaps_wins_and_losses(pairs):
    a, b = zip(*pairs, strict=True)
    assert (pair_outcomes(a, b) == -pair_outcomes(b, a)).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: pair_outcomes([NAN], [0.0]),
        lambda: pair_outcomes([1.0, 2.0], [0.0]),
        lambda: pair_outcomes([], []),
        lambda: spearman([1.0], [1.0]),
        lambda: spearman([1.0, NAN], [1.0, 2.0]),
        lambda: dequantise([1.0], -1.0),
        lambda: dequantise([1.0], NAN),
        lambda: dequantise([[[1.0]]], 1.0),
        lambda: pit_values(gaussian(2), [0.5]),
        lambda: central_coverage([0.5], 1.5),
        lambda: coverage_curve([NAN], [0.5]),
        lambda: pit_histogram([0.5], bins=0),
        lambda: peaked(gaussian(1), scale_width=0.0),
    ],
)
def test_illegal_arguments(call):
    with pytest.raises(ArgumentError):
        call()


# --- rank correlation


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(-5, 5, allow_subnormal=False)), min_size=2, max_size=40)
)
def test_spearman_matches_scipy_with_ties(rows):
    x, y = np.array(rows).T
    ours = spearman(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


# --- PIT


@pytest.mark.parametrize("family", ["gaussian", "categorical", "empirical"])
def test_pit_of_the_true_distribution_is_uniform_with_and_without_atoms(family):
    rows = 4000
    generator = torch.Generator().manual_seed(0)
    if family == "gaussian":
        distribution = gaussian(rows, 2.0, 3.0)
    elif family == "categorical":
        probs = torch.distributions.Dirichlet(torch.ones(5, dtype=torch.float64)).sample((rows,))
        distribution = Categorical(probs, torch.arange(1, 6, dtype=torch.float64))
    else:
        distribution = Empirical(torch.randint(0, 4, (rows, 6), generator=generator).double())
    u = pit_values(distribution, distribution.sample(2, generator=generator), seed=5)
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 0.01


def test_pit_of_a_continuous_distribution_is_its_cdf():
    y = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(pit_values(gaussian(7), y), stats.norm.cdf(y), atol=1e-9)


def test_pit_at_an_atom_fills_its_jump_and_follows_the_seed():
    distribution = Categorical(
        torch.tensor([[0.2, 0.5, 0.3]]).double().expand(5000, 3), torch.tensor([1.0, 2, 3]).double()
    )
    u = pit_values(distribution, torch.full((5000,), 2.0), seed=1)
    assert stats.kstest(((u - 0.2) / 0.5).numpy(), "uniform").pvalue > 0.01
    assert torch.equal(u, pit_values(distribution, torch.full((5000,), 2.0), seed=1))
    assert not torch.equal(u, pit_values(distribution, torch.full((5000,), 2.0), seed=2))


def test_pit_keeps_shape_and_missing_raters():
    u = pit_values(gaussian(2), [[0.0, NAN], [NAN, 1.0]])
    assert u.isnan().tolist() == [[False, True], [True, False]]


def test_dequantised_grid_ratings_are_calibrated_under_the_smoothed_distribution_and_raw_ones_are_not():
    # An integer plus U(-1/2, 1/2) has a piecewise linear CDF with knots at the half-integers.
    p = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    rows = 4000
    edges = torch.tensor(np.cumsum(p)[:-1])
    levels = torch.cat([torch.tensor([1e-6]).double(), edges, torch.tensor([1 - 1e-6]).double()])
    values = torch.tensor([0.5, 1.5, 2.5, 3.5, 4.5, 5.5]).double().expand(rows, 6)
    ratings = np.random.default_rng(0).choice(np.arange(1.0, 6.0), p=p, size=rows)
    distribution = Quantiles(values, levels)
    spread = dequantise(ratings, step=1.0)
    assert stats.kstest(pit_values(distribution, spread).numpy(), "uniform").pvalue > 0.01
    assert pit_histogram(pit_values(distribution, ratings))["share"].count(0.0) >= 5


def test_dequantise_is_seeded_centred_and_keeps_missing():
    ratings = torch.tensor([[1.0, 2.0], [3.0, NAN]]).repeat(500, 1)
    spread = dequantise(ratings, 0.5, seed=3)
    noise = (spread - ratings)[~ratings.isnan()]
    assert noise.abs().max() <= 0.25
    assert abs(float(noise.mean())) < 0.02
    assert noise.std() == pytest.approx(0.5 / 12**0.5, rel=0.05)
    assert torch.equal(spread.isnan(), ratings.isnan())
    assert torch.equal(spread.nan_to_num(), dequantise(ratings, 0.5, seed=3).nan_to_num())


def test_one_seed_serves_dequantising_and_pit():
    noise = dequantise(torch.zeros(1000), 1.0, seed=7)
    distribution = Categorical(torch.ones(1000, 1).double(), torch.zeros(1).double())
    assert abs(spearman(noise, pit_values(distribution, torch.zeros(1000), seed=7))) < 0.1


def test_a_step_per_row_and_a_step_of_zero():
    spread = dequantise([[1.0, 2.0], [3.0, 4.0]], [[0.0], [2.0]])
    assert spread[0].tolist() == [1.0, 2.0]
    assert (spread[1] != torch.tensor([3.0, 4.0])).all()


# --- coverage


def test_coverage_counts_raters_within_rows():
    u = [[0.01, 0.5], [0.97, NAN], [NAN, NAN]]
    covered = central_coverage(u, 0.9)
    assert covered[:2].tolist() == [0.5, 0.0]
    assert covered[2].isnan()
    assert below_level(u, 0.5)[:2].tolist() == [1.0, 0.0]


def test_coverage_curve_of_a_too_narrow_distribution_is_the_normal_formula():
    rows = 20_000
    ratings = np.random.default_rng(1).normal(size=rows)
    levels = [0.05, 0.5, 0.9]
    curve = coverage_curve(pit_values(gaussian(rows, std=0.5), ratings), levels)
    np.testing.assert_allclose(curve["below"], stats.norm.cdf(0.5 * stats.norm.ppf(levels)), atol=0.012)
    central = 1 - 2 * stats.norm.sf(0.5 * stats.norm.ppf(0.5 + np.array(levels) / 2))
    np.testing.assert_allclose(curve["central"], central, atol=0.012)
    assert json.loads(json.dumps(curve)) == curve


def test_curves_give_each_row_the_same_weight():
    pit = [[0.05, 0.05, 0.05], [0.95, NAN, NAN], [NAN, NAN, NAN]]
    assert coverage_curve(pit, [0.5])["below"] == [0.5]
    assert pit_histogram(pit, bins=2)["share"] == pytest.approx([0.5, 0.5])


def test_closed_interval_flatters_a_distribution_with_atoms():
    # The true distribution on an integer grid covers far more than its nominal mass with closed ends.
    probs = torch.tensor([[0.04, 0.2, 0.5, 0.22, 0.04]]).double().expand(4000, 5)
    distribution = Categorical(probs, torch.arange(1, 6).double())
    ratings = distribution.sample(1, generator=torch.Generator().manual_seed(0)).squeeze(1)
    assert closed_coverage(distribution, ratings, 0.8).mean() == pytest.approx(0.92, abs=0.015)
    assert central_coverage(pit_values(distribution, ratings), 0.8).mean() == pytest.approx(0.8, abs=0.02)


def test_pit_histogram_sums_to_one_and_counts_the_ends():
    histogram = pit_histogram([0.0, 0.1, 0.25, 1.0], bins=4)
    assert histogram["share"] == [0.5, 0.25, 0.0, 0.25]
    assert histogram["edges"] == [0.0, 0.25, 0.5, 0.75, 1.0]


# --- pinball and peakedness


def test_pinball_rows_by_hand_over_ragged_raters():
    distribution = Quantiles(
        torch.tensor([[0.0, 1.0], [0.0, 1.0]]).double(), torch.tensor([0.25, 0.75]).double()
    )
    rows = pinball_rows(distribution, [[2.0, 0.5], [-1.0, NAN]], [0.25, 0.75])
    # y = 2: (.25 * 2 + .75 * 1)/2 = .625; y = .5: (.25 * .5 + .25 * .5)/2 = .125; y = -1: (.75 + .25 * 2)/2.
    assert rows.tolist() == pytest.approx([0.375, 0.625])


def test_pinball_over_a_fine_grid_is_half_the_crps():
    distribution = gaussian(3)
    ratings = torch.tensor([-1.0, 0.2, 2.0]).double()
    levels = (torch.arange(2000).double() + 0.5) / 2000
    assert (2 * pinball_rows(distribution, ratings, levels)).tolist() == pytest.approx(
        distribution.crps(ratings).tolist(), abs=1e-3
    )


def test_rows_without_ratings_are_nan():
    assert pinball_rows(gaussian(2), [1.0, NAN], [0.5]).isnan().tolist() == [False, True]
    assert closed_coverage(gaussian(2), [0.0, NAN], 0.9).isnan().tolist() == [False, True]


def test_peaked_compares_the_central_interval_with_the_scale():
    stds = torch.tensor([[0.01], [1.0]]).double()
    distribution = GaussianEnsemble(torch.zeros(2, 1).double(), stds)
    assert peaked(distribution, scale_width=4.0).tolist() == [1.0, 0.0]
    width = 2 * stats.norm.ppf(0.95)
    assert peaked(distribution[1:], scale_width=width / 0.049).tolist() == [1.0]
    assert peaked(distribution[1:], scale_width=width / 0.051).tolist() == [0.0]


def test_arrays_tensors_and_half_precision_distributions_give_float64():
    distribution = Quantiles(torch.tensor([[0.0, 1.0]], dtype=torch.float32), torch.tensor([0.25, 0.75]))
    assert pit_values(distribution, np.array([0.5])).dtype == torch.float64
    assert pit_values(distribution, torch.tensor([0.5], requires_grad=True)).tolist() == pytest.approx([0.5])
