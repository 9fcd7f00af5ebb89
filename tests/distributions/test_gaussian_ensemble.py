"""GaussianEnsemble: the mixture of its heads, its quantiles, and heads without spread."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pluralign.distributions import Empirical, GaussianEnsemble
from pluralign.errors import ArgumentError
from property_examples import examples


def test_std_is_within_plus_between():
    distribution = GaussianEnsemble([[0.0, 4.0]], [[1.0, 3.0]], [0.25, 0.75])
    assert distribution.mean().item() == pytest.approx(3.0)
    assert distribution.std().item() ** 2 == pytest.approx(0.25 * 1 + 0.75 * 9 + 0.25 * 9 + 0.75 * 1)


def test_entropic_of_a_mixture_by_its_formula():
    mean, std = torch.randn(4, 3, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64)
    for l in (0.5, 2.0, 30.0, -4.0):
        want = -(torch.logsumexp(-l * mean + l * l * std**2 / 2, -1) - math.log(3)) / l
        torch.testing.assert_close(GaussianEnsemble(mean, std).entropic(l), want)


@given(draw=st.integers(0, 2**32 - 1).map(np.random.default_rng), level=st.floats(1e-6, 1 - 1e-6))
@settings(max_examples=examples(60), deadline=None)
def test_quantile_inverts_the_cdf(draw, level):
    distribution = GaussianEnsemble(
        torch.tensor(draw.normal(size=(5, 4)) * 10 ** draw.uniform(-2, 2)),
        torch.tensor(10 ** draw.uniform(-4, 2, size=(5, 4))),
        torch.tensor(draw.dirichlet(np.ones(4) * 0.3, size=5)),
    )
    assert ((distribution.cdf(distribution.quantile(level)) - level).abs() <= 1e-9).all()


def test_quantile_of_heads_far_apart_lies_in_the_lower_one_up_to_its_weight():
    distribution = GaussianEnsemble(
        *(torch.tensor([x], dtype=torch.float64) for x in ([-1e6, 1e6], [1e-3, 1e-3]))
    )
    assert distribution.quantile(0.4999).item() == pytest.approx(-1e6, abs=0.01)
    assert distribution.quantile(0.5001).item() == pytest.approx(1e6, abs=0.01)


def test_heads_without_spread_are_samples():
    means = torch.tensor([[2.0, 0.0, 5.0]], dtype=torch.float64)
    distribution, samples = GaussianEnsemble(means, torch.zeros_like(means)), Empirical(means)
    for level in (0.0, 0.2, 0.4, 0.9, 1.0):
        assert distribution.quantile(level).item() == pytest.approx(samples.quantile(level).item(), abs=1e-12)
    for fraction in (0.2, 0.5, 0.9):
        assert distribution.cvar(fraction).item() == pytest.approx(samples.cvar(fraction).item(), abs=1e-12)
    assert distribution.wasserstein(samples).item() == pytest.approx(0, abs=1e-12)
    assert distribution.prob_greater(samples).item() == pytest.approx(0.5)
    assert distribution.std().item() == pytest.approx(samples.std().item())
    assert distribution.cdf(2.0).item() - distribution.cdf_left(2.0).item() == pytest.approx(1 / 3)


def test_a_head_without_weight_does_not_count():
    distribution = GaussianEnsemble([[0.0, 100.0]], [[1.0, 0.0]], [1.0, 0.0])
    alone = GaussianEnsemble([[0.0]], [[1.0]])
    for level in (0.1, 0.9):
        assert distribution.quantile(level).item() == pytest.approx(alone.quantile(level).item(), abs=1e-6)
    assert distribution.quantile(1.0).item() == math.inf
    assert distribution.entropic(-50.0).item() == pytest.approx(alone.entropic(-50.0).item())
    assert distribution.sample(1000, generator=torch.Generator().manual_seed(0)).max() < 50


def test_weights_per_row_or_for_all():
    means, stds = torch.randn(3, 2), torch.rand(3, 2)
    shared = GaussianEnsemble(means, stds, [0.3, 0.7])
    rows = GaussianEnsemble(means, stds, torch.tensor([[0.3, 0.7]]).expand(3, 2))
    torch.testing.assert_close(shared.quantile(0.4), rows.quantile(0.4))
    assert shared[1:].weights.shape == (2, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tail", [1e-4, 1e-8, 1e-17, 1e-50, 1e-300])
def test_tails_that_float32_and_the_error_function_do_not_reach(tail, dtype):
    one = GaussianEnsemble(torch.tensor([[1.0, 5.0]]), torch.tensor([[2.0, 3.0]]), [1.0, 0.0]).to(dtype)
    z = stats.norm.ppf(tail)
    torch.testing.assert_close(one.quantile(tail), torch.tensor([1 + 2 * z], dtype=dtype))
    if 1 - tail < 1:
        torch.testing.assert_close(
            one.quantile(1 - tail), torch.tensor([1 + 2 * stats.norm.ppf(1 - tail)], dtype=dtype)
        )
    mean_below = -math.exp(stats.norm.logpdf(z) - math.log(tail))
    torch.testing.assert_close(one.cvar(tail), torch.tensor([1 + 2 * mean_below], dtype=dtype))


def test_float32_quantiles_are_correct_to_float32():
    means, stds = torch.randn(50, 5), torch.rand(50, 5)
    narrow, wide = GaussianEnsemble(means, stds), GaussianEnsemble(means.double(), stds.double())
    levels = torch.linspace(0.01, 0.99, 9)
    torch.testing.assert_close(narrow.quantile(levels), wide.quantile(levels).float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(narrow.cvar(0.05), wide.cvar(0.05).float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("means", "stds", "weights", "message"),
    [
        ([[0.0]], [[-1.0]], None, "stds must be finite and not negative"),
        ([[0.0]], [[math.nan]], None, "stds must be finite"),
        ([[math.nan]], [[1.0]], None, "means must be finite"),
        ([[0.0, 1.0]], [[1.0]], None, r"stds must have shape \[1, 2\], received \[1, 1\]"),
        ([0.0, 1.0], [1.0, 1.0], None, r"means must have shape \[B, H\], received \[2\]"),
        ([[]], [[]], None, r"means must have shape \[B, H\], received \[1, 0\]"),
        ([[0.0, 1.0]], [[1.0, 1.0]], [0.5], r"weights must have shape \[2\] or \[1, 2\], received \[1\]"),
        ([[0.0, 1.0]], [[1.0, 1.0]], [0.5, 0.6], "sum to 1"),
        ([[0.0, 1.0]], [[1.0, 1.0]], [1.5, -0.5], "not negative"),
    ],
)
def test_bad_input(means, stds, weights, message):
    with pytest.raises(ArgumentError, match=message):
        GaussianEnsemble(means, stds, weights)
