"""Levels near 0 and 1: fits are those of the tightest lower or upper bound, certified, with every option."""

import lp_oracle
import numpy as np
import pytest
from scipy.optimize import linprog

from pluralign.solvers import fit_quantiles

GAPS = [1e-5, 1e-7, 1e-8, 1e-9]


def tightest_bound(x, y, weight, l1):
    """min of the weighted mean of x v + c - y plus l1 |v|, such that x v + c >= y everywhere."""
    share, ones = weight / weight.sum(), np.ones((len(y), 1))
    columns = np.hstack([x, -x, ones, -ones])
    cost = share @ columns + np.r_[np.full(2 * x.shape[1], l1), 0.0, 0.0]
    solution = linprog(cost, A_ub=-columns, b_ub=-y, bounds=(0, None), method="highs")
    assert solution.status == 0, solution.message
    return solution.fun - share @ y


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("l1", [0.0, 0.01])
def test_extreme_levels_are_fitted_as_the_tightest_bound(gap, upper, weighted, l1):
    """A level t so near 1 that no row may lie above costs 1 - t times the mean distance to the bound."""
    g = np.random.default_rng(0)
    x, y = g.normal(size=(50, 3)), g.normal(size=50)
    weight = 0.5 + g.random(50) if weighted else np.ones(50)
    level = 1.0 - gap if upper else gap
    # The penalty shrinks with the loss; l1 itself would leave no weight at all.
    fit = fit_quantiles(x, y, [level], l1=l1 * gap, sample_weight=weight if weighted else None)
    best = min(level, 1.0 - level) * tightest_bound(x, y if upper else -y, weight, l1)
    assert float(fit.objective[0]) == pytest.approx(best, rel=1e-6)
    assert 0.0 <= float(fit.gap[0]) <= 1e-6
    assert float(fit.objective[0] * (1.0 - fit.gap[0])) <= best * (1.0 + 1e-7)


@pytest.mark.parametrize("intercept", [True, False])
def test_extreme_levels_beside_ordinary_ones_change_neither(intercept):
    g = np.random.default_rng(1)
    x, y = g.normal(size=(60, 3)), g.normal(size=60)
    levels = [1e-9, 0.3, 0.8, 1.0 - 1e-9]
    fit = fit_quantiles(x, y, levels, l1=0.003, fit_intercept=intercept)
    assert float(fit.gap.max()) <= 1e-6
    for k in (1, 2):
        best = lp_oracle.optimum(x, y, levels[k], 0.003, None, intercept)
        assert float(fit.objective[k]) == pytest.approx(best, rel=2e-6)


def test_extreme_levels_of_many_rows():
    """Where a first fit is made on few rows and sharpened, too."""
    g = np.random.default_rng(2)
    x, y = g.normal(size=(31_000, 2)), g.normal(size=31_000)
    fit = fit_quantiles(x, y, [1e-9, 1.0 - 1e-9], l1=0.003)
    np.testing.assert_allclose(fit.intercept, [y.min(), y.max()], rtol=1e-6)
    assert float(fit.gap.max()) <= 1e-6
