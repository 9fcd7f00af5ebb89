"""Distances to raters: against scipy, unbiasedness by enumeration, and the floor by its definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import dirichlet_multinomial, energy_distance, wasserstein_distance

import pluralign as pl
from pluralign.errors import ArgumentError
from pluralign.evaluation import crowd

ATOMS = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
NAN = math.nan


def distribution(*probs: float) -> pl.Categorical:
    return pl.Categorical(torch.tensor([probs], dtype=torch.float64), ATOMS[: len(probs)])


def test_category_probs_take_the_nearest_atom():
    normal = pl.GaussianEnsemble(
        torch.tensor([[2.2]], dtype=torch.float64), torch.tensor([[0.8]], dtype=torch.float64)
    )
    found = crowd.category_probs(normal, ATOMS)
    edges = [-math.inf, 1.5, 2.5, 3.5, 4.5, math.inf]
    expected = [
        0.5 * (math.erf((b - 2.2) / 0.8 / 2**0.5) - math.erf((a - 2.2) / 0.8 / 2**0.5))
        for a, b in itertools.pairwise(edges)
    ]
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float64))
    exact = distribution(0.1, 0.2, 0.3, 0.15, 0.25)
    torch.testing.assert_close(crowd.category_probs(exact, ATOMS), exact.probs)
    torch.testing.assert_close(crowd.on_categories(normal, ATOMS).probs, found)


def test_rater_counts_leave_missing_raters_out():
    counts = crowd.rater_counts([[1, 5, 5], [2, NAN, 3], [4.4, 4.6, 9]], ATOMS)
    assert counts.tolist() == [[1, 0, 0, 0, 2], [0, 1, 1, 0, 0], [0, 0, 0, 1, 2]]


def test_distances_agree_with_scipy():
    generator = np.random.default_rng(0)
    for _ in range(20):
        probs = generator.dirichlet(np.ones(5))
        raters = generator.integers(1, 6, size=generator.integers(2, 9)).astype(float)
        one = distribution(*probs)
        w1 = wasserstein_distance(ATOMS.numpy(), raters, probs)
        assert crowd.wasserstein_to_raters(one, raters[None]).item() == pytest.approx(w1, abs=1e-12)
        # scipy's energy distance is that of the two samples; ours takes out what few raters add to it.
        squared = energy_distance(ATOMS.numpy(), raters, probs) ** 2 / 2
        apart = np.abs(raters[:, None] - raters).mean()
        expected = squared + apart / 2 - apart * len(raters) / (len(raters) - 1) / 2
        assert crowd.energy_distance(one, raters[None]).item() == pytest.approx(expected, abs=1e-12)


def test_energy_distance_is_unbiased_for_every_number_of_raters():
    truth, guess = np.array([0.5, 0.3, 0.2]), distribution(0.2, 0.5, 0.3)
    exact = float((np.cumsum(truth - np.array([0.2, 0.5, 0.3]))[:-1] ** 2).sum())
    for count in (2, 3, 4):
        drawn = list(itertools.product(range(3), repeat=count))
        weights = np.array([truth[list(one)].prod() for one in drawn])
        ratings = torch.tensor(drawn, dtype=torch.float64) + 1
        many = pl.Categorical(guess.probs.expand(len(drawn), -1), ATOMS[:3])
        mean = float(weights @ crowd.energy_distance(many, ratings).numpy())
        assert mean == pytest.approx(exact, abs=1e-12)
    assert crowd.energy_distance(guess, [[2.0, NAN]]).isnan().all()


def test_majority_accuracy_shares_ties():
    ratings = [[1, 1, 2], [1, 2, NAN], [3, 3, 1], [2, 2, 2]]
    probs = torch.tensor([[0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1], [0.4, 0.4, 0.2]])
    assert crowd.majority_accuracy(probs, ratings, ATOMS[:3]).tolist() == [1, 1, 0, 0.5]
    probs[3, 1] = torch.nextafter(probs[3, 1], torch.tensor(0.0))
    assert crowd.majority_accuracy(probs, ratings, ATOMS[:3]).tolist() == [1, 1, 0, 0.5]


def test_dirichlet_is_the_maximum_of_scipys_likelihood():
    generator = np.random.default_rng(1)
    distributions = generator.dirichlet([0.8, 2.0, 0.5, 1.0], size=400)
    counts = np.stack([generator.multinomial(generator.integers(3, 9), p) for p in distributions])
    alpha = crowd.fit_dirichlet(torch.from_numpy(counts).double())

    def likelihood(a):
        return dirichlet_multinomial.logpmf(counts, a, counts.sum(1)).sum()

    best = likelihood(alpha.numpy())
    for c, step in itertools.product(range(4), (0.97, 1.03)):
        moved = alpha.numpy().copy()
        moved[c] *= step
        assert likelihood(moved) < best
    torch.testing.assert_close(alpha, torch.tensor([0.8, 2.0, 0.5, 1.0]).double(), rtol=0.35, atol=0)


def test_the_floor_is_what_the_true_distribution_scores():
    generator = np.random.default_rng(2)
    distributions = generator.dirichlet([1.0, 1.5, 2.0, 1.0, 0.5], size=4000)
    ratings = np.stack([generator.choice(5, size=5, p=p) for p in distributions]) + 1.0
    truth = pl.Categorical(torch.from_numpy(distributions), ATOMS)
    scored = float(crowd.wasserstein_to_raters(truth, ratings).mean())
    floor = crowd.wasserstein_floor(crowd.rater_counts(ratings, ATOMS), ATOMS)
    assert floor == pytest.approx(scored, rel=0.03)
    halves = float(crowd.split_half_distance(ratings).mean())
    assert halves > 1.3 * floor  # the raters' own distance is no floor
    # With many raters per response the floor goes to 0 as one over the square root of their number.
    many = crowd.wasserstein_floor(crowd.rater_counts(np.repeat(ratings, 16, axis=1), ATOMS), ATOMS)
    assert many < floor


def test_split_halves_do_not_overlap():
    found = crowd.split_half_distance([[1, 5, NAN, NAN], [1, 1, 5, 5], [3, NAN, NAN, NAN]], seed=3)
    assert found[0] == 4
    assert found[1] in (0, 4)
    assert found[2].isnan()


def test_bad_input():
    with pytest.raises(ArgumentError, match="increase"):
        crowd.category_probs(distribution(0.5, 0.5), torch.tensor([2.0, 1.0]))
    with pytest.raises(ArgumentError, match="row 1 has no rating"):
        crowd.wasserstein_to_raters(distribution(0.5, 0.5)[:1], [[1.0], [NAN]])
    with pytest.raises(ArgumentError, match="two raters"):
        crowd.fit_dirichlet(torch.tensor([[1.0, 0.0]]))
