"""Categorical: probabilities of atoms in any order."""

from __future__ import annotations

import math

import pytest
import torch

from pluralign.distributions import Categorical
from pluralign.errors import ArgumentError


def test_atoms_in_any_order_and_equal_atoms():
    distribution = Categorical([[0.25, 0.25, 0.5]], [3.0, 1.0, 3.0])
    plain = Categorical([[0.25, 0.75]], [1.0, 3.0])
    assert distribution.wasserstein(plain).item() == 0.0
    assert distribution.quantile(torch.tensor([0.25, 0.26])).tolist() == [[1.0, 3.0]]
    assert distribution.cdf(3.0).item() == 1.0
    assert distribution.cdf_left(3.0).item() == pytest.approx(0.25)


def test_atoms_without_probability_are_never_reached():
    """Ten tenths add up to less than 1 in floating point; the eleventh atom must not appear."""
    probs = torch.tensor([[0.0] + [0.1] * 10 + [0.0]], dtype=torch.float64)
    distribution = Categorical(probs, torch.arange(12, dtype=torch.float64))
    assert distribution.quantile(0.0).item() == 1.0
    assert distribution.quantile(1.0).item() == 10.0
    assert distribution.entropic(1e9).item() == pytest.approx(1.0)
    samples = distribution.sample(2000, generator=torch.Generator().manual_seed(0))
    assert samples.min() >= 1
    assert samples.max() <= 10


def test_rows_may_have_their_own_atoms():
    distribution = Categorical([[0.5, 0.5], [0.5, 0.5]], [[0.0, 1.0], [10.0, 30.0]])
    assert distribution.mean().tolist() == [0.5, 20.0]
    moved = distribution.scale_shift(torch.tensor([1.0, 0.1]), torch.tensor([0.0, -1.0]))
    torch.testing.assert_close(moved.mean(), torch.tensor([0.5, 1.0]))


def test_rounded_probabilities_are_normalised():
    distribution = Categorical(torch.tensor([[0.3333, 0.3333, 0.3333]]), [0.0, 1.0, 2.0])
    assert distribution.probs.sum().item() == pytest.approx(1.0)
    assert distribution.mean().item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("probs", "atoms", "message"),
    [
        ([[0.5, 0.6]], [0.0, 1.0], "sum to 1"),
        ([[1.5, -0.5]], [0.0, 1.0], "not negative"),
        ([[math.nan, 1.0]], [0.0, 1.0], "finite"),
        ([[0.5, 0.5]], [0.0, math.inf], "atoms must be finite"),
        ([[0.5, 0.5]], [0.0], r"atoms must have shape \[2\] or \[1, 2\], received \[1\]"),
        ([0.5, 0.5], [0.0, 1.0], r"probs must have shape \[B, C\], received \[2\]"),
    ],
)
def test_bad_input(probs, atoms, message):
    with pytest.raises(ArgumentError, match=message):
        Categorical(probs, atoms)
