"""Objective and gap are those of the coefficients that a user gets, large means included."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from pluralign.errors import ConvergenceWarning
from pluralign.solvers import fit_quantiles

LEVELS = [0.05, 0.5, 0.95]


def pinball(features, targets, weight, level, coef, intercept, l1):
    off = targets - features @ coef - intercept
    loss = np.maximum(level * off, (level - 1) * off)
    return float(np.average(loss, weights=weight) + l1 * np.abs(coef).sum())


def problem(offset, seed=0):
    rng = np.random.default_rng(seed)
    features = offset + 1e-4 * rng.standard_normal((12, 5))
    return features, rng.standard_normal(12), rng.exponential(size=12)


@pytest.mark.parametrize("seed", range(4))
def test_rounding_of_large_coefficients_is_part_of_objective_and_gap(seed):
    features, targets, weight = problem(1e5, seed)
    with pytest.warns(ConvergenceWarning, match=r"columns 0, 1, 2, 3, 4 vary so little .* subtract"):
        fit = fit_quantiles(features, targets, LEVELS, l1=1e-8, sample_weight=weight)
    centred = fit_quantiles(features - 1e5, targets, LEVELS, l1=1e-8, sample_weight=weight)
    assert float(centred.gap.max()) <= 1e-6
    for k, level in enumerate(LEVELS):
        found = pinball(features, targets, weight, level, fit.coef[k].numpy(), float(fit.intercept[k]), 1e-8)
        # The sums themselves round, in another order: some last places of 1e5 times the coefficients.
        noise = 8 * np.finfo(float).eps * 1e5 * float(fit.coef[k].abs().sum())
        assert found == pytest.approx(float(fit.objective[k]), abs=noise)
        best = float(centred.objective[k])
        assert float(fit.objective[k] * (1 - fit.gap[k])) <= best * (1 + 1e-6) + noise
        assert best <= float(fit.objective[k]) * (1 + 1e-6) + noise


def test_a_fit_without_cancellation_is_as_before():
    features, targets, weight = problem(1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_quantiles(features * 1e3, targets, LEVELS, l1=1e-4, sample_weight=weight)
    for k, level in enumerate(LEVELS):
        found = pinball(
            features * 1e3, targets, weight, level, fit.coef[k].numpy(), float(fit.intercept[k]), 1e-4
        )
        assert found == pytest.approx(float(fit.objective[k]), rel=1e-9)
