"""Point: the distribution of a known reward."""

from __future__ import annotations

import pytest
import torch

from pluralign.distributions import Point
from pluralign.errors import ArgumentError


def test_every_summary_is_the_value():
    distribution = Point([2.0, -1.0])
    for result in (
        distribution.mean(),
        distribution.quantile(0.3),
        distribution.cvar(0.01),
        distribution.entropic(5.0),
        distribution.sample(1)[:, 0],
    ):
        assert result.tolist() == [2.0, -1.0]
    assert distribution.std().tolist() == [0.0, 0.0]
    assert distribution.crps([0.0, 1.0]).tolist() == [2.0, 2.0]
    assert distribution.cdf(torch.tensor([2.0, -1.5])).tolist() == [1.0, 0.0]
    assert distribution.cdf_left(torch.tensor([2.0, -0.5])).tolist() == [0.0, 1.0]
    assert distribution.prob_greater(Point([2.0, 0.0])).tolist() == [0.5, 0.0]
    assert distribution.wasserstein(Point([5.0, 0.0])).tolist() == [3.0, 1.0]


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
