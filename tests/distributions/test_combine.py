"""Vincentization averages quantile functions, the mixture averages CDFs; these are not the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign.distributions import Quantiles, mixture, vincentize
from pluralign.errors import ArgumentError
from property_examples import examples

LEVELS = torch.arange(1, 10, dtype=torch.float64) / 10
DRAWS = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def problem(draw, rows=3, attributes=4):
    """Sorted values on a coarse grid, so that knots coincide, and gate weights."""
    values = np.sort(np.round(draw.normal(size=(rows, attributes, 9)) * 3) / 2, -1)
    return torch.tensor(values), torch.tensor(draw.dirichlet(np.ones(attributes), rows))


@given(DRAWS)
@settings(max_examples=examples(30), deadline=None)
def test_vincentize_averages_quantile_functions_at_every_level(draw):
    values, gate = problem(draw)
    grid = torch.linspace(0.01, 0.99, 37, dtype=torch.float64)
    distributions = Quantiles(values.flatten(0, 1), LEVELS)
    want = (gate.unsqueeze(-1) * distributions.quantile(grid).reshape(3, 4, -1)).sum(1)
    torch.testing.assert_close(vincentize(values, gate, LEVELS).quantile(grid), want)


@given(DRAWS)
@settings(max_examples=examples(60), deadline=None)
def test_mixture_inverts_the_average_of_cdfs(draw):
    """Q is the smallest x with F(x) >= t: F(Q) reaches t and F just below Q does not pass it."""
    values, gate = problem(draw)
    quantiles = mixture(values, gate, LEVELS).values
    distributions = Quantiles(values.flatten(0, 1), LEVELS)
    points = quantiles.unsqueeze(1).expand(-1, 4, -1).flatten(0, 1)

    def mixed(cdf):
        return (gate.unsqueeze(-1) * cdf.reshape(3, 4, -1)).sum(1)

    assert (mixed(distributions.cdf(points)) >= LEVELS - 1e-9).all()
    assert (mixed(distributions.cdf_left(points)) <= LEVELS + 1e-9).all()
    below = mixed(distributions.cdf(points - 1e-6))
    assert (below <= LEVELS + 1e-9).all()


@given(DRAWS)
@settings(max_examples=examples(30), deadline=None)
def test_one_attribute_or_equal_attributes_are_returned_as_they_are(draw):
    values, gate = problem(draw)
    same = values[:, :1].expand(-1, 4, -1)
    for combine in (vincentize, mixture):
        torch.testing.assert_close(combine(same, gate, LEVELS).values, values[:, 0], rtol=0, atol=1e-7)
        alone = torch.zeros_like(gate)
        alone[:, 2] = 1.0
        torch.testing.assert_close(combine(values, alone, LEVELS).values, values[:, 2], rtol=0, atol=1e-7)


def test_only_the_mixture_keeps_two_opinions_apart():
    values = torch.stack([torch.linspace(-10.1, -9.9, 9), torch.linspace(9.9, 10.1, 9)])[None].double()
    gate = torch.tensor([[0.5, 0.5]]).double()
    middle, apart = vincentize(values, gate, LEVELS), mixture(values, gate, LEVELS)
    assert middle.std().item() < 0.1
    assert apart.std().item() > 8
    assert apart.values[0, :5].max() < -9
    assert apart.values[0, 5:].min() > 9
    assert middle.mean().item() == pytest.approx(0, abs=1e-6)


def test_vincentize_keeps_the_average_of_means():
    values, gate = problem(np.random.default_rng(0))
    means = Quantiles(values.flatten(0, 1), LEVELS).mean().reshape(3, 4)
    torch.testing.assert_close(vincentize(values, gate, LEVELS).mean(), (gate * means).sum(-1))


def test_scaled_gates_scale_the_average_and_leave_the_mixture():
    values, gate = problem(np.random.default_rng(1))
    twice = vincentize(values, 2 * gate, LEVELS).values
    torch.testing.assert_close(twice, 2 * vincentize(values, gate, LEVELS).values)
    torch.testing.assert_close(mixture(values, 2 * gate, LEVELS).values, mixture(values, gate, LEVELS).values)


@pytest.mark.parametrize("combine", [vincentize, mixture])
def test_crossing_is_reported_as_the_mean_over_attributes(combine):
    values = torch.tensor([[[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]])
    distribution = combine(values, torch.tensor([[0.5, 0.5]]), [0.25, 0.5, 0.75])
    assert distribution.crossing_rate.tolist() == [0.5]
    torch.testing.assert_close(distribution.values, torch.tensor([[0.0, 1.0, 2.0]]))


@pytest.mark.parametrize("combine", [vincentize, mixture])
@pytest.mark.parametrize(
    ("values", "gate", "message"),
    [
        (torch.zeros(2, 3), torch.ones(2, 3), r"values must have shape \[B, A, K\]"),
        (torch.zeros(2, 3, 2), torch.ones(2, 2), r"weights must have shape \[2, 3\], received \[2, 2\]"),
        (torch.zeros(2, 3, 2), -torch.ones(2, 3), "not negative"),
        (torch.zeros(2, 3, 2), torch.zeros(2, 3), "needs a positive one"),
        (torch.full((2, 3, 2), math.nan), torch.ones(2, 3), "values must be finite"),
    ],
)
def test_bad_input(combine, values, gate, message):
    with pytest.raises(ArgumentError, match=message):
        combine(values, gate, [0.3, 0.6])


@pytest.mark.parametrize("combine", [vincentize, mixture])
def test_no_rows_stay_no_rows(combine):
    distribution = combine(torch.zeros(0, 3, 2), torch.zeros(0, 3), [0.25, 0.75])
    assert distribution.batch_shape == (0,)
    assert distribution.values.shape == (0, 2)
