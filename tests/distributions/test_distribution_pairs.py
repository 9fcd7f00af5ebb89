"""prob_greater and wasserstein for every pair of representations, against quadrature and scipy.stats."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from pluralign.distributions import Categorical, Empirical, GaussianEnsemble, Point, Quantiles
from pluralign.errors import ArgumentError
from property_examples import examples

LEVELS = torch.tensor([0.1, 0.3, 0.5, 0.8], dtype=torch.float64)


def random_distribution(kind, draw, rows=4):
    """A batch with values on a coarse grid, so that ties between distributions are common."""
    grid = torch.tensor(np.round(draw.normal(size=(rows, 4)) * 2) / 2)
    share = torch.tensor(draw.dirichlet(np.ones(4), size=rows))
    spread = torch.tensor(draw.choice([0.0, 0.01, 0.5, 3.0], size=(rows, 4)))
    return {
        "point": lambda: Point(grid[:, 0]),
        "quantiles": lambda: Quantiles(grid, LEVELS),
        "ensemble": lambda: GaussianEnsemble(grid, spread, share),
        "categorical": lambda: Categorical(share, grid),
        "empirical": lambda: Empirical(grid),
    }[kind]()


KINDS = st.sampled_from(["point", "quantiles", "ensemble", "categorical", "empirical"])
DRAWS = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def test_prob_greater(case, other_case):
    def greater(first, second):
        marks = second.points()
        return first.expect(lambda x: 0.5 * (second.cdf(x) + second.cdf(x, left=True)), marks)

    want = [greater(a, b) for a, b in zip(case.oracles, other_case.oracles, strict=True)]
    got = case.distribution.prob_greater(other_case.distribution)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=0, atol=1e-8)


def test_wasserstein(case, other_case, integral):
    def distance(first, second):
        def gap(x):
            return first.cdf(x) - second.cdf(x)

        marks = sorted({*first.points(), *second.points()})
        # Quadrature needs the sign changes; marks and a fine grid between them separate these.
        cells = [x for a, b in itertools.pairwise(marks) for x in np.linspace(a, b, 6)[:-1]]
        inner = [(a + 1e-12, b - 1e-12) for a, b in itertools.pairwise(cells)]
        zeros = [optimize.brentq(gap, a, b, xtol=1e-14) for a, b in inner if gap(a) * gap(b) < 0]
        return integral(lambda x: abs(gap(x)), marks[0], marks[-1], [*marks, *zeros])

    want = [distance(a, b) for a, b in zip(case.oracles, other_case.oracles, strict=True)]
    got = case.distribution.wasserstein(other_case.distribution)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=0, atol=1e-7)


@given(first=KINDS, second=KINDS, draw=DRAWS)
@settings(max_examples=examples(60), deadline=None)
def test_the_two_orders_sum_to_one_and_ties_count_half(first, second, draw):
    one, two = random_distribution(first, draw), random_distribution(second, draw)
    torch.testing.assert_close(
        one.prob_greater(two) + two.prob_greater(one), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-13
    )
    torch.testing.assert_close(
        one.prob_greater(one), torch.full((4,), 0.5, dtype=torch.float64), rtol=0, atol=1e-13
    )
    assert ((one.prob_greater(two) >= 0) & (one.prob_greater(two) <= 1)).all()


@given(kinds=st.tuples(KINDS, KINDS, KINDS), draw=DRAWS)
@settings(max_examples=examples(40), deadline=None)
def test_wasserstein_is_a_metric(kinds, draw):
    one, two, three = (random_distribution(kind, draw) for kind in kinds)
    direct = one.wasserstein(two)
    torch.testing.assert_close(direct, two.wasserstein(one), rtol=0, atol=1e-9)
    assert (one.wasserstein(one).abs() <= 1e-9).all()
    assert (direct <= one.wasserstein(three) + three.wasserstein(two) + 1e-7).all()
    # The gap of the means is the integral of the signed difference.
    assert (direct >= (one.mean() - two.mean()).abs() - 1e-9).all()


@given(first=KINDS, second=KINDS, draw=DRAWS, shift=st.floats(-5, 5))
@settings(max_examples=examples(40), deadline=None)
def test_a_common_affine_map_scales_the_distance_and_keeps_the_order(first, second, draw, shift):
    one, two = random_distribution(first, draw), random_distribution(second, draw)
    moved = [distribution.scale_shift(3.0, shift) for distribution in (one, two)]
    torch.testing.assert_close(moved[0].wasserstein(moved[1]), 3 * one.wasserstein(two), rtol=1e-6, atol=1e-7)


def test_against_scipy_stats_wasserstein():
    draw = np.random.default_rng(0)
    x, y, p = draw.normal(size=(5, 7)), draw.normal(size=(5, 4)), draw.dirichlet(np.ones(4), 5)
    got = Empirical(torch.tensor(x)).wasserstein(Categorical(torch.tensor(p), torch.tensor(y)))
    want = [stats.wasserstein_distance(x[b], y[b], None, p[b]) for b in range(5)]
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_two_gaussians_in_closed_form():
    """W1 of N(m, s^2) and N(m', s'^2) is E|(m - m') + (s - s') Z|, a folded normal mean."""
    mean, std = torch.tensor([[0.3], [0.0], [2.0]]).double(), torch.tensor([[1.0], [2.0], [0.5]]).double()
    other = GaussianEnsemble(torch.tensor([[0.0], [0.0], [0.0]]).double(), torch.ones(3, 1).double() * 0.7)
    got = GaussianEnsemble(mean, std).wasserstein(other)
    m, s = mean[:, 0].numpy(), (std[:, 0] - other.stds[:, 0]).abs().numpy()
    want = s * math.sqrt(2 / math.pi) * np.exp(-(m**2) / (2 * s**2)) + m * (1 - 2 * stats.norm.cdf(-m / s))
    np.testing.assert_allclose(got, want, atol=1e-9)
    greater = GaussianEnsemble(mean, std).prob_greater(other)
    np.testing.assert_allclose(greater, stats.norm.cdf(m / np.hypot(std[:, 0].numpy(), 0.7)), atol=1e-12)


@given(draw=DRAWS)
@example(draw=np.random.default_rng(56))  # two zeros between neighbouring knots
@settings(max_examples=6, deadline=None)
def test_distance_to_near_copies_where_cdfs_cross_often(draw):
    """Quantiles read off a mixture cross its CDF in every piece; a fine Riemann sum is the oracle."""
    distribution = GaussianEnsemble(
        torch.tensor(draw.normal(size=(1, 3))), torch.tensor(draw.uniform(0.05, 1, size=(1, 3)))
    )
    levels = torch.arange(1, 40, dtype=torch.float64) / 40
    copy = Quantiles(distribution.quantile(levels), levels)
    x = torch.linspace(-12, 12, 400_001, dtype=torch.float64)[None]
    want = (distribution.cdf(x) - copy.cdf(x)).abs().mean(-1) * 24
    torch.testing.assert_close(distribution.wasserstein(copy), want, rtol=0, atol=3e-6)


def test_prob_greater_of_short_pieces_does_not_cancel():
    """Pieces far narrower than the Gaussian, where a difference of integrals would lose all digits."""
    for width in (1e-14, 1e-9, 1e-4):
        values = torch.tensor([[0.5, 0.5 + width]], dtype=torch.float64)
        normal = GaussianEnsemble(torch.zeros(1, 1).double(), torch.ones(1, 1).double())
        got = Quantiles(values, [0.25, 0.75]).prob_greater(normal).item()
        assert got == pytest.approx(stats.norm.cdf(0.5 + width / 2), abs=1e-13 + width**2)


def test_independence_is_not_the_same_rater():
    """The same distribution compared with itself is a coin toss, whatever one rater would say."""
    distribution = Categorical([[0.3, 0.7]], [0.0, 1.0])
    assert distribution.prob_greater(distribution).item() == pytest.approx(0.5)


def test_mixed_dtypes_are_widened():
    one, two = Point(torch.tensor([0.1])), Point(torch.tensor([0.3]).double())
    assert one.wasserstein(two).dtype == torch.float64
    assert two.prob_greater(one).dtype == torch.float64


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match=r"received \[2\] and \[3\]"):
        Point([1.0, 2.0]).wasserstein(Point([1.0, 2.0, 3.0]))
    with pytest.raises(ArgumentError, match="expected a RewardDistribution, received float"):
        Point([1.0]).prob_greater(1.0)
