"""Weights as shares, of any size."""

from __future__ import annotations

import pytest
import torch

from pluralign.distributions import mixture
from pluralign.distributions.special import as_shares


@pytest.mark.parametrize("size", [1.0, 1e308, 1e39, 1e-40, 5e-324])
def test_only_the_ratios_of_weights_count(size):
    found = as_shares(torch.tensor([size, size], dtype=torch.float64))
    assert found.tolist() == [0.5, 0.5]


def test_one_weight_of_the_largest_takes_all():
    found = as_shares(torch.tensor([1e308, 1.0, 1e308, 1e308], dtype=torch.float64))
    assert found.tolist() == pytest.approx([1 / 3, 0.0, 1 / 3, 1 / 3])


def test_rows_do_not_change_each_other():
    found = as_shares(torch.tensor([[3e38, 3e38], [1.0, 3.0]]))
    assert found.tolist() == [[0.5, 0.5], [0.25, 0.75]]


def test_a_mixture_of_weights_whose_sum_overflows():
    """Of 0 and 1 (an atom each) with equal weights the median jumps, and the mean is a half."""
    values, levels = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]), [0.25, 0.75]
    found = mixture(values, torch.full((1, 2), 3e38), levels)
    assert found.values.tolist() == [[0.0, 1.0]]
    torch.testing.assert_close(found.values, mixture(values, torch.ones(1, 2), levels).values)
