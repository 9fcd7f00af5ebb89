"""Columns and directions that hardly vary beside their size: whatever is left out, the certificate holds.

The oracle gets the same numbers in well-conditioned form. Subtracting a neighbouring number is exact in
floating point (Sterbenz), and neither a shift nor a linear map of the columns changes the optimum at l1 = 0.
"""

import warnings

import lp_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign.errors import ConvergenceWarning
from pluralign.solvers import fit_quantiles
from pluralign.solvers._design import NULL_SHARE, ROUNDING_SHARE
from property_examples import examples

LEVELS = [0.2, 0.5]


def drawn(seed, num_rows=80, num_columns=3):
    """Columns, targets that depend on all of them, weights."""
    g = np.random.default_rng(seed)
    z = g.standard_normal((num_rows, num_columns))
    return z, z @ g.normal(size=num_columns) + 0.3 * g.standard_normal(num_rows), 0.5 + g.random(num_rows)


def quietly(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit_quantiles(*args, l1=0.0, **options)


def assert_certified(fit, x, plain, y, weight=None, intercept=True):
    """The bound lies below the optimum, the objective is that of the coefficients, and not below it."""
    for k, level in enumerate(LEVELS):
        best = lp_oracle.optimum(plain, y, level, 0.0, weight, intercept)
        value, gap = float(fit.objective[k]), float(fit.gap[k])
        assert 0.0 <= gap <= 1.0
        assert value * (1.0 - gap) <= best * (1.0 + 1e-6)
        assert value >= best * (1.0 - 1e-6)
        again = lp_oracle.objective(x, y, level, 0.0, fit.coef[k].numpy(), float(fit.intercept[k]), weight)
        assert value == pytest.approx(again, rel=1e-6)


@settings(max_examples=examples(40), deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    offset=st.sampled_from([1.0, 1e3, 1e5, 1e8]),
    share=st.sampled_from([1e-13, 1e-11, 3e-10, 1e-9, 3e-9, 1e-7, 1e-3]),
    faint=st.integers(1, 3),
    weighted=st.booleans(),
)
def test_large_offsets_and_tiny_spreads(seed, offset, share, faint, weighted):
    z, y, weight = drawn(seed)
    x = z.copy()
    x[:, :faint] = offset * (1.0 + share * z[:, :faint])
    plain = x.copy()
    plain[:, :faint] = (x[:, :faint] - offset) / (offset * share)
    weight = weight if weighted else None
    fit = quietly(x, y, LEVELS, sample_weight=weight)
    assert_certified(fit, x, plain, y, weight)
    if share > 2.0 * NULL_SHARE:
        assert float(fit.gap.max()) <= 1e-6  # real enough to fit by


@settings(max_examples=examples(40), deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    share=st.sampled_from([1e-13, 1e-11, 3e-10, 1e-9, 3e-9, 1e-7, 1e-3]),
    offset=st.sampled_from([0.0, 10.0]),
    intercept=st.booleans(),
)
def test_columns_that_are_nearly_the_same(seed, share, offset, intercept):
    z, y, _ = drawn(seed)
    x = z + offset
    x[:, 1] = x[:, 0] * (1.0 + share * z[:, 1])
    plain = x.copy()
    plain[:, 1] = (x[:, 1] - x[:, 0]) / share  # exact: the two are within a factor of 2 of each other
    if intercept:
        plain = plain - [offset, 0.0, offset]
    fit = quietly(x, y, LEVELS, fit_intercept=intercept)
    assert_certified(fit, x, plain, y, None, intercept)


def test_what_is_left_out_is_certified_and_named():
    """Offset 1e5, spread 1e-5: the column would halve the loss, and its gap says so."""
    z, y, _ = drawn(0)
    x = np.column_stack([z[:, 0], 1e5 + 1e-5 * z[:, 1], z[:, 2]])
    with pytest.warns(ConvergenceWarning, match="columns 1 vary so little .* subtract what they share"):
        fit = fit_quantiles(x, y, LEVELS, l1=0.0)
    plain = np.column_stack([z[:, 0], (x[:, 1] - 1e5) * 1e5, z[:, 2]])
    for k, level in enumerate(LEVELS):
        best = lp_oracle.optimum(plain, y, level, 0.0)
        without = lp_oracle.optimum(plain[:, ::2], y, level, 0.0)
        # The columns beside it are fitted as if it were not there, and the bound is tight.
        assert float(fit.objective[k]) == pytest.approx(without, rel=1e-6)
        assert float(fit.gap[k]) == pytest.approx(1.0 - best / without, abs=1e-4)
        assert without > 1.3 * best


def test_several_faint_directions_do_not_hide_one_another():
    """Spreads of 1e-2 ... 1e-13 of the offset, far beyond what one Gram matrix can tell apart."""
    z, y, _ = drawn(1, num_rows=150, num_columns=6)
    share = np.array([1e-2, 1e-4, 1e-6, 1e-10, 1e-11, 1e-13])
    x = 1e3 * (1.0 + share * z)
    plain = (x - 1e3) / (1e3 * share)
    fit = quietly(x, y, LEVELS)
    assert_certified(fit, x, plain, y)
    for k, level in enumerate(LEVELS):
        assert float(fit.objective[k]) == pytest.approx(
            lp_oracle.optimum(plain[:, :3], y, level, 0.0), rel=1e-6
        )


def test_directions_that_cannot_help_need_no_warning():
    """Targets that do not depend on a faint column, and fit exactly without it: warnings are errors here."""
    z, _, _ = drawn(2)
    x = np.column_stack([z[:, 0], 1e5 + 1e-5 * z[:, 1]])
    fit = fit_quantiles(x, 2.0 * z[:, 0] + 1.0, LEVELS, l1=0.0)
    np.testing.assert_allclose(fit.coef[:, 0], 2.0, atol=1e-9)
    assert float(fit.gap.max()) == 0.0


def test_a_spread_of_rounding_is_none():
    """A constant column, a sum of columns and a copy in which only the last place moves are no directions."""
    z, y, _ = drawn(3)
    unit = ROUNDING_SHARE / 16 * np.sign(z[:, 1])
    x = np.column_stack(
        [z[:, :2], np.full(80, 0.1), z[:, 0] + z[:, 1], 1e7 * (1.0 + unit), z[:, 0] * (1 + unit)]
    )
    fit = fit_quantiles(x, y, LEVELS, l1=0.0)
    assert float(fit.gap.max()) <= 1e-6
    for k, level in enumerate(LEVELS):
        assert float(fit.objective[k]) == pytest.approx(lp_oracle.optimum(z[:, :2], y, level, 0.0), rel=1e-6)


def test_a_bound_below_zero_is_zero():
    """Columns differ in their last places by what alone decides: nothing is known of the optimum."""
    z, _, _ = drawn(1, num_rows=40, num_columns=4)
    x = z[:, :1] * (1.0 + 3e-14 * np.column_stack([np.zeros(40), z[:, 1:]]))
    y = z[:, 0] * z[:, 1:].sum(1)
    with pytest.warns(ConvergenceWarning, match="columns 0, 1, 2, 3 vary so little"):
        fit = fit_quantiles(x, y, LEVELS, l1=0.0)
    assert fit.gap.tolist() == [1.0, 1.0]
    for k, level in enumerate(LEVELS):
        without = lp_oracle.optimum(z[:, :1], y, level, 0.0)
        assert float(fit.objective[k]) == pytest.approx(without, rel=1e-6)


def test_fewer_rows_than_columns_of_which_most_are_empty():
    """Rounding of rounding is no direction; a rough fit along one diverges."""
    g = np.random.default_rng(42)
    for _ in range(20):
        x = np.round(g.standard_normal((3, 20)) * 10.0 ** g.integers(-4, 3, 20)).astype(np.float32)
        fit = fit_quantiles(x, g.standard_normal(3), LEVELS, l1=0.0)  # warnings are errors
        assert float(fit.gap.max()) <= 1e-6


@pytest.mark.parametrize("max_iterations", [0, 2, 5])
def test_the_certificate_holds_where_the_solver_stopped_early(max_iterations):
    z, y, _ = drawn(4)
    x = np.column_stack([z[:, 0], 1e5 + 1e-5 * z[:, 1], z[:, 2]])
    plain = np.column_stack([z[:, 0], (x[:, 1] - 1e5) * 1e5, z[:, 2]])
    fit = quietly(x, y, LEVELS, max_iterations=max_iterations)
    assert_certified(fit, x, plain, y)
