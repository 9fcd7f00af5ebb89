"""Empirical: samples with a keep-mask where rows are ragged."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pluralign.distributions import Empirical
from pluralign.errors import ArgumentError


def test_numpy_agrees_on_ragged_rows():
    draw = np.random.default_rng(0)
    samples, keep = draw.normal(size=(20, 11)), draw.random((20, 11)) < 0.6
    keep[:, 4] = True
    distribution = Empirical(torch.tensor(np.where(keep, samples, np.nan)), torch.tensor(keep))
    for row in range(20):
        kept = samples[row][keep[row]]
        assert distribution.mean()[row].item() == pytest.approx(kept.mean())
        assert distribution.std()[row].item() == pytest.approx(kept.std())
        for level in (0.1, 0.3, 0.5, 0.9, 1.0):
            want = np.quantile(kept, level, method="inverted_cdf")
            assert distribution.quantile(level)[row].item() == pytest.approx(want)


@pytest.mark.parametrize("n", [3, 7, 10, 49, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quantile_at_rank_k_of_n_is_the_kth_sample(n, dtype):
    distribution = Empirical(torch.arange(1, n + 1, dtype=dtype)[None])
    levels = torch.tensor([k / n for k in range(1, n + 1)], dtype=dtype)
    assert torch.equal(distribution.quantile(levels), distribution.samples)


def test_the_order_of_samples_and_the_place_of_padding_do_not_matter():
    first = Empirical([[3.0, 1.0, 2.0, math.nan]], torch.tensor([[True, True, True, False]]))
    second = Empirical([[9.0, 2.0, 3.0, 1.0]], torch.tensor([[False, True, True, True]]))
    assert torch.equal(first.samples, second.samples)
    assert first.keep_mask.tolist() == second.keep_mask.tolist() == [[True, True, True, False]]
    assert first.wasserstein(second).item() == 0.0


def test_the_same_samples_twice_are_the_same_distribution():
    once, twice = Empirical([[1.0, 2.0, 5.0]]), Empirical([[1.0, 5.0, 2.0, 2.0, 1.0, 5.0]])
    assert once.wasserstein(twice).item() == pytest.approx(0.0, abs=1e-6)


def test_a_rating_that_comes_as_integers():
    distribution = Empirical(torch.tensor([[1, 2, 3, 4]]))
    assert distribution.dtype == torch.get_default_dtype()
    assert distribution.mean().item() == 2.5


@pytest.mark.parametrize(
    ("samples", "mask", "message"),
    [
        ([[1.0, 2.0]], [[False, False]], "at least one sample"),
        ([[1.0, math.nan]], [[True, True]], "finite; mask missing ones"),
        ([[1.0, math.nan]], None, "finite"),
        ([[1.0, 2.0]], [[True]], r"bool of shape \[1, 2\], received torch.bool \[1, 1\]"),
        ([[1.0, 2.0]], [[1, 0]], "received torch.int64"),
        ([1.0, 2.0], None, r"samples must have shape \[B, N\], received \[2\]"),
        ([[]], None, r"samples must have shape \[B, N\], received \[1, 0\]"),
    ],
)
def test_bad_input(samples, mask, message):
    with pytest.raises(ArgumentError, match=message):
        Empirical(samples, None if mask is None else torch.tensor(mask))
