"""The one set of weights at which a gate starts: the exact minimum where it is known, and limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn.functional import softplus

from pluralign.fitting.mix.gate_start import best_constant_weights, scale_of_equal_weights


def pairs(count=4000, weights=(0.6, 0.3, 0.1), scale=8.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    difference = 0.3 * torch.randn(count, len(weights), generator=generator, dtype=torch.float64)
    margin = scale * difference @ torch.tensor(weights, dtype=torch.float64)
    first = torch.rand(count, generator=generator, dtype=torch.float64) < torch.sigmoid(margin)
    return torch.where(first[:, None], difference, -difference)


def test_weights_that_made_the_pairs_are_found():
    weights, scale = best_constant_weights(pairs(40_000), torch.ones(40_000), 3.0)
    torch.testing.assert_close(weights, torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64), atol=0.03, rtol=0)
    assert scale == pytest.approx(8, rel=0.05)
    assert float(weights.sum()) == pytest.approx(1)


def test_it_is_the_minimum_that_scipy_finds():
    difference = pairs(500, seed=1)
    weight = torch.arange(500, dtype=torch.float64) % 3 + 0.5
    weights, scale = best_constant_weights(difference, weight, 4.0)
    d, w = difference.numpy(), (weight / weight.sum()).numpy()

    def objective(x):
        shares = np.exp(x[:3]) / np.exp(x[:3]).sum()
        loss = w @ np.logaddexp(0, -4.0 * np.exp(x[3]) * d @ shares)
        return loss + 1e-4 * (x @ x)

    best = minimize(objective, np.zeros(4), tol=1e-10).x
    np.testing.assert_allclose(weights.numpy(), np.exp(best[:3]) / np.exp(best[:3]).sum(), atol=1e-3)
    assert scale == pytest.approx(4 * np.exp(best[3]), rel=2e-3)


def test_pairs_told_apart_without_error_keep_weights_and_scale_finite():
    difference = torch.tensor([[0.2, -0.1], [0.3, -0.2]])
    weights, scale = best_constant_weights(difference, torch.ones(2), 5.0)
    assert float(weights.min()) > 0
    assert weights[0] > 0.7
    assert 5 < scale < 1e4


def test_the_first_scale_fits_equal_weights():
    difference = pairs(3000)
    mean = difference.mean(1)
    scale = scale_of_equal_weights(difference, torch.ones(3000))
    loss = [float(softplus(-s * mean).mean()) for s in (0.9 * scale, scale, 1.1 * scale)]
    assert loss[1] == min(loss)


def test_attributes_that_say_nothing_have_scale_one():
    assert scale_of_equal_weights(torch.zeros(5, 2), torch.ones(5)) == 1
