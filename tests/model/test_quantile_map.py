"""QuantileMap: references become standard normal, the map increases, distributions are pushed exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pluralign.distributions import Categorical, Empirical, GaussianEnsemble, Point, Quantiles
from pluralign.errors import ArgumentError
from pluralign.model.quantile_map import LEVELS, QuantileMap

RNG = np.random.default_rng(0)


def test_points_get_the_normal_scores_of_their_midranks():
    rewards = torch.tensor([3.0, -1.0, 3.0, 10.0, 0.0], dtype=torch.float64)
    scores = QuantileMap.of(Point(rewards))(rewards)
    midranks = (stats.rankdata(rewards.numpy()) - 0.5) / 5
    np.testing.assert_allclose(scores.numpy(), stats.norm.ppf(midranks), atol=1e-9)


def test_a_gaussian_source_is_standardised():
    means = torch.tensor(RNG.normal(5, 3, size=(400, 1)))
    distribution = GaussianEnsemble(means, torch.full_like(means, 4.0))
    scale = QuantileMap.of(distribution)
    x = torch.linspace(-5, 15, 50, dtype=torch.float64)
    exact = stats.norm.ppf(stats.norm.cdf((x.numpy()[:, None] - means.numpy()[:, 0]) / 4).mean(1))
    np.testing.assert_allclose(scale(x).numpy(), exact, atol=2e-3)
    pushed = scale.push(distribution)
    assert float(pushed.mean().mean()) == pytest.approx(0, abs=0.01)
    marginal = pushed.mean().var(unbiased=False) + pushed.std().square().mean()
    assert float(marginal) == pytest.approx(1, abs=0.03)


def test_a_monotone_change_of_the_source_changes_nothing():
    rewards = torch.tensor(RNG.normal(size=60))
    there = QuantileMap.of(Point(rewards))(rewards)
    warped = rewards.exp() * 100
    torch.testing.assert_close(QuantileMap.of(Point(warped))(warped), there)


@pytest.mark.parametrize("num_references", [300, 3000])
def test_a_monotone_change_moves_no_reference_far_however_heavy_its_tail(num_references):
    rewards = torch.tensor(RNG.normal(size=num_references))
    there = QuantileMap.of(Point(rewards))(rewards)
    warped = (3 * rewards).exp()
    there_too = QuantileMap.of(Point(warped))(warped)
    assert float((there_too - there).abs().max()) < 0.7  # within the outermost two of 255 knots
    assert float((there_too - there).abs().quantile(0.98)) < 0.02
    levels = torch.arange(0.05, 1, 0.05, dtype=torch.float64)
    values = rewards[:, None] + torch.special.ndtri(levels)
    plain, bent = Quantiles(values, levels), Quantiles(values.exp(), levels)
    means = [QuantileMap.of(distribution).push(distribution).mean() for distribution in (plain, bent)]
    assert float((means[0] - means[1]).abs().max()) < 0.2


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40).filter(lambda xs: max(xs) - min(xs) > 1e-3),
    st.lists(st.floats(-1e5, 1e5), min_size=2, max_size=20),
)
def test_it_increases_everywhere_and_beyond_the_references(reference, asked):
    scale = QuantileMap.of(Point(torch.tensor(reference, dtype=torch.float64)))
    x = torch.tensor(asked, dtype=torch.float64).sort().values
    assert bool((scale(x).diff() >= 0).all())
    low, high = min(reference), max(reference)
    moved = scale(torch.tensor([low - 1, low, high, high + 1], dtype=torch.float64)).diff()
    std = float(np.std(reference))
    assert float(moved[0]) == pytest.approx(1 / std, rel=1e-2)
    assert float(moved[2]) == pytest.approx(1 / std, rel=1e-2)


def test_distributions_go_through_exactly():
    scale = QuantileMap.of(Point(torch.tensor(RNG.normal(size=200))))
    values = torch.tensor(RNG.normal(size=(4, 5))).sort(1).values
    levels = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    torch.testing.assert_close(scale.push(Quantiles(values, levels)).quantile(levels), scale(values))
    torch.testing.assert_close(scale.push(Point(values[:, 0])).mean(), scale(values[:, 0]))
    keep = torch.tensor([[True] * 5, [True] * 3 + [False] * 2] * 2)
    pushed = scale.push(Empirical(values, keep))
    torch.testing.assert_close(pushed.mean()[1], scale(values[1, :3]).mean())
    probs = torch.tensor([[0.2, 0.8]] * 4, dtype=torch.float64)
    torch.testing.assert_close(
        scale.push(Categorical(probs, values[:, :2])).mean(), (probs * scale(values[:, :2])).sum(1)
    )
    gaussian = GaussianEnsemble(values[:, :1], torch.ones(4, 1, dtype=torch.float64))
    torch.testing.assert_close(scale.push(gaussian).quantile(LEVELS), scale(gaussian.quantile(LEVELS)))


def test_categories_keep_few_knots_and_their_midranks():
    probs = torch.tensor(RNG.dirichlet(np.ones(3), size=500))
    distribution = Categorical(probs, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    share = probs.mean(0).numpy()
    expected = stats.norm.ppf(share.cumsum() - share / 2)
    scale = QuantileMap.of(distribution)
    assert scale.knots.tolist() == [1.0, 2.0, 3.0]
    np.testing.assert_allclose(scale.scores.numpy(), expected, atol=1e-9)


def test_a_constant_source_has_no_scale():
    with pytest.raises(ArgumentError, match="same reward"):
        QuantileMap.of(Point(torch.ones(30)))
    with pytest.raises(ArgumentError, match="must be increasing"):
        QuantileMap(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]), 1.0)
