"""Weights as shares, of any size."""

from __future__ import annotations

import pytest
import torch

from pluralign.heads.steering import as_shares


@pytest.mark.parametrize("size", [1.0, 1e308, 1e39, 1e-40, 5e-324])
def test_only_the_ratios_of_weights_count(size):
    found = as_shares(torch.tensor([size, size], dtype=torch.float64))
    assert found.tolist() == [0.5, 0.5]


def test_one_weight_of_the_largest_takes_all():
    found = as_shares(torch.tensor([1e308, 1.0, 1e308, 1e308], dtype=torch.float64))
    assert found.tolist() == pytest.approx([1 / 3, 0.0, 1 / 3, 1 / 3])
