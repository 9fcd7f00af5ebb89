"""Quantiles: the distribution between the levels, rearrangement, and the warning about tails."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pluralign.distributions import Quantiles
from pluralign.errors import ArgumentError, TailWarning
from property_examples import examples

QRM_LEVELS = torch.arange(1, 20, dtype=torch.float64) / 20


def normal_quantiles(levels=QRM_LEVELS):
    return Quantiles(torch.tensor(stats.norm.ppf(levels.numpy()))[None], levels)


@given(
    values=st.lists(st.floats(-10, 10), min_size=1, max_size=8),
    cuts=st.lists(st.floats(0.01, 0.99), min_size=8, max_size=8, unique=True),
)
@settings(max_examples=examples(50), deadline=None)
def test_mean_is_the_published_sum_of_coefficients(values, cuts):
    levels = np.sort(cuts[: len(values)])
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    distribution = Quantiles(torch.tensor([values], dtype=torch.float64), torch.tensor(levels))
    np.testing.assert_allclose(distribution.mean()[0], np.diff(edges) @ np.sort(values), atol=1e-12)


def test_plain_average_is_the_mean_on_midpoints_only():
    values = torch.tensor([[0.0, 3.0, 4.0, 10.0]], dtype=torch.float64)
    midpoints = (2 * torch.arange(1, 5, dtype=torch.float64) - 1) / 8
    assert Quantiles(values, midpoints).plain_average().item() == pytest.approx(4.25)
    assert Quantiles(values, midpoints).mean().item() == pytest.approx(4.25)
    grid = torch.arange(1, 5, dtype=torch.float64) / 5
    assert Quantiles(values, grid).plain_average().item() == pytest.approx(4.25)
    assert Quantiles(values, grid).mean().item() == pytest.approx(0.3 * 0 + 0.2 * 3 + 0.2 * 4 + 0.3 * 10)


def test_the_levels_are_its_quantiles_exactly():
    distribution = normal_quantiles()
    assert torch.equal(distribution.quantile(QRM_LEVELS), distribution.values)


def test_flat_tails_flatten_tail_measures():
    """A standard normal on 19 levels, whose true cvar:.05 is -2.06, entropic:3 is -1.5 and std is 1."""
    distribution = normal_quantiles()
    with pytest.warns(TailWarning, match=r"cvar:0.05 refers to the tail at or below the lowest level 0.05"):
        assert distribution.cvar(0.05).item() == pytest.approx(stats.norm.ppf(0.05))
    assert distribution.entropic(3.0).item() == pytest.approx(-0.90, abs=0.005)
    assert distribution.std().item() == pytest.approx(0.92, abs=0.005)
    assert distribution.mean().item() == pytest.approx(0, abs=1e-12)


def test_outer_levels_bring_the_tail_back():
    levels = torch.cat([torch.tensor([0.001, 0.01]), QRM_LEVELS, torch.tensor([0.99, 0.999])])
    assert normal_quantiles(levels).cvar(0.05).item() == pytest.approx(-2.063, abs=0.1)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_tail_warning_sees_float32_levels(kind):
    distribution = Quantiles(torch.zeros(1, 3, dtype=kind), torch.tensor([0.1, 0.5, 0.7]))
    with pytest.warns(TailWarning):
        distribution[0:1].to(torch.float64).cvar(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distribution.cvar(0.11)


def test_the_tail_warning_waits_for_no_device():
    levels = torch.tensor([0.1, 0.5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Quantiles(torch.zeros(1, 2), levels, validate=False).cvar(0.05)
    with pytest.warns(TailWarning):
        Quantiles(torch.zeros(1, 2), [0.1, 0.5], validate=False).cvar(0.05)


def test_crossing_values_are_sorted_and_counted():
    values = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 1.0, 0.5], [3.0, 2.0, 1.0, 0.0]])
    distribution = Quantiles(values, [0.2, 0.4, 0.6, 0.8])
    torch.testing.assert_close(distribution.crossing_rate, torch.tensor([0.0, 2 / 3, 1.0]))
    assert distribution.values.tolist() == [[0.0, 1.0, 2.0, 3.0], [0.0, 0.5, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]]
    torch.testing.assert_close(distribution[1:].crossing_rate, torch.tensor([2 / 3, 1.0]))
    torch.testing.assert_close(distribution.scale_shift(2.0, 0.0).crossing_rate, distribution.crossing_rate)
    torch.testing.assert_close(
        distribution.to(torch.float64).crossing_rate.float(), distribution.crossing_rate
    )
    assert Quantiles([[1.0, 1.0]], [0.2, 0.4]).crossing_rate.item() == 0.0


@given(st.lists(st.floats(-3, 3), min_size=5, max_size=5), st.floats(-3, 3))
@settings(max_examples=examples(50), deadline=None)
def test_sorting_never_raises_the_pinball_loss(values, target):
    """Chernozhukov et al. 2010: rearranged quantiles are never further from the truth."""
    levels = torch.arange(1, 6, dtype=torch.float64) / 6
    raw = torch.tensor([values], dtype=torch.float64)

    def pinball(quantiles):
        residual = target - quantiles
        return torch.maximum(levels * residual, (levels - 1) * residual).sum()

    assert pinball(Quantiles(raw, levels).values) <= pinball(raw) + 1e-12


def test_one_level_is_a_point():
    distribution = Quantiles([[2.5]], [0.3])
    assert distribution.crossing_rate.item() == 0.0
    assert (
        distribution.mean().item()
        == distribution.quantile(0.9).item()
        == distribution.cvar(0.5).item()
        == 2.5
    )
    assert distribution.std().item() == 0.0


def test_equal_values_are_an_atom():
    distribution = Quantiles([[1.0, 1.0, 2.0]], [0.25, 0.5, 0.75])
    assert distribution.cdf(1.0).item() == pytest.approx(0.5)
    assert distribution.cdf_left(1.0).item() == 0.0
    assert distribution.cdf(1.5).item() == pytest.approx(0.625)
    assert distribution.cdf_left(2.0).item() == pytest.approx(0.75)
    assert distribution.cdf(2.0).item() == 1.0


@pytest.mark.parametrize(
    ("values", "levels", "message"),
    [
        ([[1.0, 2.0]], [0.5, 0.2], "strictly increasing"),
        ([[1.0, 2.0]], [0.5, 0.5], "strictly increasing"),
        ([[1.0, 2.0]], [0.0, 0.5], r"levels must lie in \(0, 1\)"),
        ([[1.0, 2.0]], [0.5, 1.0], r"levels must lie in \(0, 1\)"),
        ([[1.0, 2.0]], [0.5, math.nan], r"levels must lie in \(0, 1\)"),
        ([[1.0, math.nan]], [0.2, 0.5], "values must be finite"),
        ([[1.0, math.inf]], [0.2, 0.5], "values must be finite"),
        ([[1.0, 2.0]], [0.5], r"values must have shape \[B, 1\], received \[1, 2\]"),
        ([1.0, 2.0], [0.2, 0.5], r"values must have shape \[B, 2\], received \[2\]"),
        ([[1.0]], [[0.5]], r"levels must have shape \[K\], received \[1, 1\]"),
        ([[]], [], r"levels must have shape \[K\]"),
    ],
)
def test_bad_input(values, levels, message):
    with pytest.raises(ArgumentError, match=message):
        Quantiles(values, levels)
