"""The weight of `robust:w` from disagreement and from ratings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

import pluralign as pl
from pluralign.distributions import GaussianEnsemble, Point
from pluralign.errors import ArgumentError, RiskError
from pluralign.risk import robust_weight_from_disagreement, robust_weight_from_ratings
from pluralign.risk.robust_weight import variance_between_heads

POSITIVE = st.floats(1e-3, 1e3)


def test_variance_is_that_of_the_heads_of_each_response():
    means = torch.tensor([[1.0, 3.0], [2.0, 2.0], [0.0, 6.0]])
    assert variance_between_heads(means).tolist() == [1.0, 0.0, 9.0]


@pytest.mark.parametrize(
    ("variance", "reference", "most", "weight"),
    [
        (2.0, 2.0, 0.6, 0.6),
        (1.0, 2.0, 0.6, 0.6),
        (8.0, 2.0, 0.6, 0.15),
        (0.0, 0.0, 1.0, 1.0),
        (1.0, 0.0, 1.0, 0.0),
    ],
)
def test_weight_falls_as_heads_come_apart(variance, reference, most, weight):
    assert robust_weight_from_disagreement(variance, reference, most) == pytest.approx(weight)


@given(POSITIVE, POSITIVE, POSITIVE, POSITIVE, st.floats(0, 1))
def test_weight_is_monotone_bounded_and_without_units(variance, more, reference, scale, most):
    weight = robust_weight_from_disagreement(variance, reference, most)
    assert 0 <= weight <= most
    assert robust_weight_from_disagreement(variance + more, reference, most) <= weight
    assert robust_weight_from_disagreement(scale * variance, scale * reference, most) == pytest.approx(weight)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(ArgumentError, match="variance: received"):
        robust_weight_from_disagreement(bad, 1.0)
    with pytest.raises(ArgumentError, match="reference_variance: received"):
        robust_weight_from_disagreement(1.0, bad)
    with pytest.raises(ArgumentError, match="most: received"):
        robust_weight_from_disagreement(1.0, 1.0, bad)


def ensemble(seed: int) -> GaussianEnsemble:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(200, 4, generator=generator)
    return GaussianEnsemble(means, 0.5 + torch.rand(200, 4, generator=generator))


@pytest.mark.parametrize("weight", [0.0, 0.35, 1.0])
def test_ratings_that_are_a_mixture_give_its_weight(weight):
    distribution = ensemble(0)
    ratings = pl.risk.Robust(weight)(distribution) + 2.5  # a constant changes nothing
    assert robust_weight_from_ratings(distribution, ratings) == pytest.approx(weight, abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_weight_is_the_bounded_least_squares_solution(seed):
    """scipy's, with a free constant as the second unknown."""
    distribution = ensemble(seed)
    ratings = distribution.mean() + 2 * torch.randn(200, generator=torch.Generator().manual_seed(100 + seed))
    worst, surest = (pl.risk.Robust(w)(distribution).double().numpy() for w in (0.0, 1.0))
    design = np.stack([surest - worst, np.ones(200)], 1)
    found = lsq_linear(design, ratings.double().numpy() - worst, bounds=([0, -np.inf], [1, np.inf]))
    assert robust_weight_from_ratings(distribution, ratings) == pytest.approx(found.x[0], abs=1e-5)


def test_what_cannot_be_decided_is_refused():
    distribution = ensemble(0)
    with pytest.raises(ArgumentError, match="ratings: received shape"):
        robust_weight_from_ratings(distribution, torch.zeros(3))
    with pytest.raises(ArgumentError, match="finite numbers"):
        robust_weight_from_ratings(distribution, torch.full((200,), math.nan))
    for offset in (0.0, 0.3):  # heads that are one, or one and a constant
        means = distribution.means[:, :1] + offset * torch.arange(3)
        alike = GaussianEnsemble(means, torch.tensor([2.0, 1.0, 2.0]).repeat(200, 1))
        with pytest.raises(ArgumentError, match="do not determine w"):
            robust_weight_from_ratings(alike, torch.arange(200.0))
    with pytest.raises(RiskError, match="compares heads"):
        robust_weight_from_ratings(Point([1.0, 2.0]), torch.zeros(2))
