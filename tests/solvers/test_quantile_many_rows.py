"""`fit_quantiles` where rows are many per column: a fit of few rows, sharpened on all; here on small data."""

import itertools

import lp_oracle
import numpy as np
import pytest
import torch

from pluralign.solvers import _first_fit, _rounds, fit_quantiles
from pluralign.solvers._design import build_design
from pluralign.solvers._smoothed import sharpen
from pluralign.solvers._task import Task

LEVELS = [0.05, 0.3, 0.9]


def problem(seed, num_rows, num_columns, kind):
    g = np.random.default_rng(seed)
    x = g.standard_normal((num_rows, num_columns))
    y = x @ g.standard_normal(num_columns) + (1.0 + 0.5 * np.tanh(x[:, 0])) * g.standard_normal(num_rows)
    weight = None
    if kind == "collinear":
        x[:, 1] = x[:, 0] + x[:, 2]
        x[:, 3] = 7.0
    elif kind == "ratings":
        y = np.clip(np.round(y), -2.0, 2.0)
    elif kind == "weights":
        weight = g.integers(0, 4, num_rows).astype(float)
    elif kind == "sorted":
        order = np.argsort(y)
        x, y = x[order], y[order]
    elif kind == "heavy tails":
        y = y + g.standard_cauchy(num_rows)
    return x, y, weight


@pytest.fixture
def few_rows(monkeypatch):
    """Counts the fits that were sharpened, which here are all."""
    calls = []
    monkeypatch.setattr(_first_fit, "FEW_ROWS", 40)
    monkeypatch.setattr(_first_fit, "ROWS_PER_COLUMN", 5)
    monkeypatch.setattr(_first_fit, "MANY", 2)
    monkeypatch.setattr(_first_fit, "sharpen", lambda *given: calls.append(1) or sharpen(*given))
    return calls


# Every kind of data with every penalty, and with and without an intercept; the other pairs are slow.
QUICK = {(0.0, True), (0.003, False), (0.05, True)}


@pytest.mark.parametrize(
    ("l1", "intercept"),
    [
        pytest.param(*pair, marks=[] if pair in QUICK else [pytest.mark.slow])
        for pair in itertools.product([0.0, 0.003, 0.05], [True, False])
    ],
)
@pytest.mark.parametrize("kind", ["plain", "collinear", "ratings", "weights", "sorted", "heavy tails"])
def test_agrees_with_highs(few_rows, kind, l1, intercept):
    x, y, weight = problem(1, 500, 8, kind)
    fit = fit_quantiles(x, y, LEVELS, l1=l1, sample_weight=weight, fit_intercept=intercept)
    assert few_rows
    for k, level in enumerate(LEVELS):
        best = lp_oracle.optimum(x, y, level, l1, weight, intercept)
        value, gap = float(fit.objective[k]), float(fit.gap[k])
        again = lp_oracle.objective(x, y, level, l1, fit.coef[k].numpy(), float(fit.intercept[k]), weight)
        assert value == pytest.approx(again, rel=1e-9)
        assert 0.0 <= gap <= 1e-6
        assert value * (1.0 - gap) <= best * (1.0 + 1e-9)
        assert value <= best * (1.0 + 1e-6) + 1e-12


@pytest.mark.parametrize("l1", [0.0, 0.003])
def test_sharpening_brings_a_fit_of_few_rows_near_that_of_all(l1):
    """From 1.5 % and more above the optimum to .02 %, with a dual inside its box and its gradient."""
    x, y, _ = problem(2, 6000, 10, "plain")
    features, targets = torch.from_numpy(x), torch.from_numpy(y)[None]
    design = build_design(features, centered=True, whiten=l1 == 0.0)
    task = Task(design, targets, tuple(LEVELS), None, l1, True)
    few = torch.arange(500)
    start = fit_quantiles(features[few], targets[0, few], LEVELS, l1=l1)
    best = fit_quantiles(features, targets[0], LEVELS, l1=l1, tol=1e-9)
    shares = []
    sharp = sharpen(task, *design.from_given(start.coef, start.intercept), few + 500, shares.append)
    coef, intercept = design.to_given(sharp.coef, sharp.intercept)
    rows = design.take(torch.arange(6000))
    torch.testing.assert_close(
        sharp.gradient.double(), sharp.dual.double() @ rows / 6000, atol=1e-6, rtol=1e-5
    )
    for k, level in enumerate(LEVELS):
        before, after = (
            lp_oracle.objective(x, y, level, l1, fit[0][k].numpy(), float(fit[1][k]))
            for fit in ((start.coef, start.intercept), (coef, intercept))
        )
        assert before > float(best.objective[k]) * 1.015
        assert after < float(best.objective[k]) * 1.0002
        assert ((sharp.dual[k] >= level - 1 - 1e-6) & (sharp.dual[k] <= level + 1e-6)).all()
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_sharpening_never_ends_above_its_start():
    x, y, _ = problem(3, 400, 5, "heavy tails")
    design = build_design(torch.from_numpy(x), centered=True, whiten=True)
    task = Task(design, torch.from_numpy(y)[None], (0.02, 0.5), None, 0.0, True)
    best = fit_quantiles(x, y, [0.02, 0.5], l1=0.0, tol=1e-9)
    start = design.from_given(best.coef, best.intercept)
    sharp = sharpen(task, *start, torch.arange(40), lambda share: None)
    coef, intercept = design.to_given(sharp.coef, sharp.intercept)
    for k, level in enumerate((0.02, 0.5)):
        value = lp_oracle.objective(x, y, level, 0.0, coef[k].numpy(), float(intercept[k]))
        assert value == pytest.approx(float(best.objective[k]), rel=1e-8)


def test_fits_refined_apart_equal_fits_refined_together(few_rows, monkeypatch):
    x, y, weight = problem(4, 400, 6, "weights")
    targets = np.column_stack([y, -3.0 * y])
    together = fit_quantiles(x, targets, LEVELS, sample_weight=weight)
    monkeypatch.setattr(_rounds, "TOGETHER", 2)
    calls = []
    apart = fit_quantiles(x, targets, LEVELS, sample_weight=weight, progress=lambda *call: calls.append(call))
    torch.testing.assert_close(apart.objective, together.objective, rtol=2e-6, atol=0.0)
    assert len(few_rows) == 2
    done = [count for stage, count, _ in calls if stage == "levels"]
    assert done == sorted(done)
    assert done[-1] == 6


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("kind", ["plain", "collinear"])
def test_a_fit_survives_the_way_to_the_given_features_and_back(whiten, kind):
    x, _, _ = problem(5, 200, 6, kind)
    design = build_design(torch.from_numpy(x), centered=True, whiten=whiten)
    coef = torch.from_numpy(np.random.default_rng(0).standard_normal((2, design.num_columns)))
    coef = coef if whiten else coef * (design.scale > 0.0)
    intercept = torch.tensor([1.0, -2.0], dtype=torch.float64)
    back = design.from_given(*design.to_given(coef, intercept))
    torch.testing.assert_close(back[0], coef)
    torch.testing.assert_close(back[1], intercept)
