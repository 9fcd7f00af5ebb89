"""Point: the distribution of a known reward."""

from __future__ import annotations

import pytest
import torch

from pluralign.distributions import Point
from pluralign.errors import ArgumentError


def test_every_summary_is_the_value():
    law = Point([2.0, -1.0])
    for result in (law.mean(), law.quantile(0.3), law.cvar(0.01), law.entropic(5.0), law.sample(1)[:, 0]):
        assert result.tolist() == [2.0, -1.0]
    assert law.std().tolist() == [0.0, 0.0]
    assert law.crps([0.0, 1.0]).tolist() == [2.0, 2.0]
    assert law.cdf(torch.tensor([2.0, -1.5])).tolist() == [1.0, 0.0]
    assert law.cdf_left(torch.tensor([2.0, -0.5])).tolist() == [0.0, 1.0]
    assert law.prob_greater(Point([2.0, 0.0])).tolist() == [0.5, 0.0]
    assert law.wasserstein(Point([5.0, 0.0])).tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0]], r"values must have shape \[B\], received \[1, 1\]"),
        (1.0, r"received \[\]"),
        ([float("nan")], "finite"),
        ([float("inf")], "finite"),
        (["a"], "tensor of numbers"),
    ],
)
def test_bad_input(values, message):
    with pytest.raises(ArgumentError, match=message):
        Point(values)
