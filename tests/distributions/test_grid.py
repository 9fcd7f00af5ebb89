"""Distributions rounded to a grid of ratings: against scipy, samples, and the spreading that they undo."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

import pluralign as pl
from pluralign.distributions import rounded_to_grid
from pluralign.errors import ArgumentError
from pluralign.evaluation.spread import spread_distribution

DOUBLE = torch.float64


def test_a_gaussian_has_the_mass_of_each_cell_and_the_ends_take_the_tails():
    distribution = pl.GaussianEnsemble(
        torch.tensor([[2.2], [5.4]], dtype=DOUBLE), torch.tensor([[1.3], [0.8]], dtype=DOUBLE)
    )
    rounded = rounded_to_grid(distribution, 1, 5, 0.5)
    assert rounded.atoms[0].tolist() == [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    for row, (mean, std) in enumerate([(2.2, 1.3), (5.4, 0.8)]):
        cdf = scipy.stats.norm(mean, std).cdf([1.25 + 0.5 * k for k in range(8)])
        expected = torch.tensor([0.0, *cdf, 1.0], dtype=DOUBLE).diff()
        torch.testing.assert_close(rounded.probs[row], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "distribution",
    [
        pl.Quantiles(torch.tensor([[0.3, 2.0, 2.6, 4.9, 6.1]], dtype=DOUBLE), [0.05, 0.3, 0.5, 0.7, 0.95]),
        pl.GaussianEnsemble(
            torch.tensor([[1.0, 4.0]], dtype=DOUBLE), torch.tensor([[0.5, 2.0]], dtype=DOUBLE)
        ),
        pl.Empirical(torch.tensor([[0.0, 1.4, 3.3, 3.6, 8.0]], dtype=DOUBLE)),
        pl.Point(torch.tensor([3.7], dtype=DOUBLE)),
        pl.Categorical(torch.tensor([[0.2, 0.5, 0.3]], dtype=DOUBLE), torch.tensor([1.0, 2.6, 4.0])),
    ],
    ids=lambda d: type(d).__name__,
)
def test_every_representation_is_its_sample_rounded_and_cut(distribution):
    rounded = rounded_to_grid(distribution, 1, 5, 1)
    drawn = distribution.sample(200_000, generator=torch.Generator().manual_seed(0))[0]
    nearest = drawn.round().clamp(1, 5).long() - 1
    expected = torch.bincount(nearest, minlength=5).double() / len(drawn)
    torch.testing.assert_close(rounded.probs[0], expected, atol=5e-3, rtol=0)
    assert isinstance(rounded, pl.Categorical)
    assert rounded.dtype == DOUBLE


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=9), st.floats(-100, 100), st.floats(0.1, 50))
def test_rounding_undoes_spreading(weights, low, step):
    count = len(weights)
    atoms = low + step * torch.arange(count, dtype=DOUBLE)
    given_probs = torch.tensor([weights], dtype=DOUBLE)
    given_probs = given_probs / given_probs.sum()
    spread = spread_distribution(pl.Categorical(given_probs, atoms), step)
    back = rounded_to_grid(spread, low, float(atoms[-1]), step)
    # 200 levels stand for the spread distribution, so that each border of a cell is known to half of 1/200
    torch.testing.assert_close(back.probs, given_probs, atol=0.01, rtol=0)
    torch.testing.assert_close(back.atoms[0], atoms, atol=1e-9 * (abs(low) + step * count), rtol=0)


def test_what_is_on_the_grid_stays_and_what_lies_between_is_shared():
    on_grid = pl.Categorical(torch.tensor([[0.1, 0.6, 0.3]]), torch.tensor([5.0, 1.0, 2.0]))
    torch.testing.assert_close(
        rounded_to_grid(on_grid, 1, 5, 1).probs, torch.tensor([[0.6, 0.3, 0.0, 0.0, 0.1]])
    )
    assert rounded_to_grid(pl.Point([2.5]), 1, 5, 1).probs.tolist() == [[0, 0.5, 0.5, 0, 0]]


def test_it_moves_with_the_scale_and_carries_gradients():
    values = torch.tensor([[1.0, 2.2, 3.9]], dtype=DOUBLE, requires_grad=True)
    rounded = rounded_to_grid(pl.Quantiles(values, [0.2, 0.5, 0.8]), 1, 5, 1)
    moved = rounded_to_grid(pl.Quantiles(10 * values - 3, [0.2, 0.5, 0.8]), 7, 47, 10)
    torch.testing.assert_close(moved.probs, rounded.probs)
    rounded.mean().sum().backward()
    assert bool((values.grad >= 0).all() and (values.grad > 0).any())  # higher quantiles, a higher mean


def test_an_empty_batch():
    empty = rounded_to_grid(pl.Point(torch.zeros(0)), 0, 1, 0.25)
    assert empty.batch_shape == (0,)
    assert empty.probs.shape == (0, 5)


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [
        (1, 5, 0.3),
        (1, 5, 0),
        (1, 5, -1),
        (5, 1, 1),
        (1, 1, 1),
        (0, 1, 1e-300),
        (0, float("inf"), 1),
        (0, 1, 2),
    ],
)
def test_a_step_that_does_not_divide_the_scale(low, high, step):
    with pytest.raises(ArgumentError, match="in steps of"):
        rounded_to_grid(pl.Point([2.5]), low, high, step)
