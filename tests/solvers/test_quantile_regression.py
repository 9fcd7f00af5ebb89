"""`fit_quantiles` against HiGHS on small problems of every kind, and what must not change a fit."""

import warnings

import lp_oracle
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign.errors import ConvergenceWarning
from pluralign.solvers import QuantileFit, fit_quantiles
from property_examples import examples

LEVELS = [0.1, 0.5, 0.9]
TRAITS = ("ties", "twins", "sum", "constant", "scales", "offset", "integers", "repeats", "weights", "missing")


def problem(seed, num_rows, num_columns, traits, unit=1.0):
    g = np.random.default_rng(seed)
    x = g.standard_normal((num_rows, num_columns))
    if "twins" in traits and num_columns > 1:
        x[:, 1] = x[:, 0]
    if "sum" in traits and num_columns > 2:
        x[:, 2] = x[:, 0] + x[:, 1]
    if "constant" in traits and num_columns:
        x[:, -1] = 3.0
    y = x @ (g.standard_normal(num_columns) * (g.random(num_columns) < 0.5)) + g.standard_normal(num_rows)
    if "scales" in traits:
        x = x * 10.0 ** g.integers(-4, 5, num_columns)
    if "offset" in traits:
        x = x + 100.0
    if "integers" in traits:
        x = np.round(x)
    if "repeats" in traits:
        rows = g.integers(0, num_rows, num_rows)
        x, y = x[rows], y[rows]
    if "ties" in traits:
        y = np.round(y)
    weight = None
    if "weights" in traits:
        weight = g.random(num_rows) * g.integers(0, 3, num_rows)
        weight[0] = 1.0
    if "missing" in traits:
        y = np.where((g.random(num_rows) < 0.4) & (np.arange(num_rows) > 0), np.nan, y)
    return x, y * unit, weight


def check_optimal(x, y, weight, levels, l1, intercept, fit, tol=1e-6, oracle=None):
    size = np.nanmean(np.abs(y))
    for k, level in enumerate(levels):
        if oracle is None:
            best = lp_oracle.optimum(x, y, level, l1, weight, intercept)
        else:
            best = oracle(x, y, level, l1)
        value, gap = float(fit.objective[k]), float(fit.gap[k])
        again = lp_oracle.objective(x, y, level, l1, fit.coef[k].numpy(), float(fit.intercept[k]), weight)
        assert value == pytest.approx(again, rel=1e-7, abs=1e-10 * size)
        assert 0.0 <= gap <= tol
        assert value * (1.0 - gap) <= best * (1 + 1e-7) + 1e-9 * size
        assert value <= best * (1 + 1e-6) + 1e-9 * size


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    num_rows=st.sampled_from([1, 2, 5, 20, 60, 120]),
    num_columns=st.sampled_from([0, 1, 2, 5, 12, 30]),
    traits=st.sets(st.sampled_from(TRAITS), max_size=4),
    unit=st.sampled_from([1.0, 1.0, 1e6, 1e-6]),
    l1=st.sampled_from([0.0, 0.003, 0.05, 10.0]),
    levels=st.sampled_from([[0.5], [0.01, 0.99], [0.05, 0.25, 0.9]]),
    intercept=st.booleans(),
)
def test_agrees_with_highs(seed, num_rows, num_columns, traits, unit, l1, levels, intercept):
    x, y, weight = problem(seed, num_rows, num_columns, traits, unit)
    fit = fit_quantiles(x, y, levels, l1=l1, sample_weight=weight, fit_intercept=intercept)
    check_optimal(x, y, weight, levels, l1, intercept, fit)


@settings(max_examples=examples(40), deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    traits=st.sets(st.sampled_from(TRAITS), max_size=3),
    l1=st.sampled_from([0.0, 1e-4, 0.003, 0.05]),
    max_iterations=st.sampled_from([0, 1, 2, 4, 8]),
    intercept=st.booleans(),
)
def test_the_gap_is_a_bound_when_stopped_early(seed, traits, l1, max_iterations, intercept):
    x, y, weight = problem(seed, 80, 8, traits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = fit_quantiles(
            x, y, LEVELS, l1=l1, sample_weight=weight, fit_intercept=intercept, max_iterations=max_iterations
        )
    for k, level in enumerate(LEVELS):
        best = lp_oracle.optimum(x, y, level, l1, weight, intercept)
        assert 0.0 <= float(fit.gap[k]) <= 1.0
        assert float(fit.objective[k] * (1.0 - fit.gap[k])) <= best + 1e-9
        assert float(fit.objective[k]) >= best - 1e-9


def test_stopping_early_warns_with_level_and_gap():
    x, y, _ = problem(0, 200, 10, ())
    with pytest.warns(ConvergenceWarning, match=r"level 0\.\d+, gap \d"):
        fit_quantiles(x, y, LEVELS, max_iterations=1)


@pytest.mark.parametrize("traits", [(), ("weights",), ("ties",), ("missing", "weights")])
@pytest.mark.parametrize("l1", [0.0, 0.003, 0.03])
def test_agrees_with_scikit_learn(traits, l1):
    from sklearn.linear_model import QuantileRegressor

    x, y, weight = problem(3, 150, 6, traits)
    keep = ~np.isnan(y)
    fit = fit_quantiles(x, y, LEVELS, l1=l1, sample_weight=weight)
    for k, level in enumerate(LEVELS):
        peer = QuantileRegressor(quantile=level, alpha=l1, solver="highs")
        peer.fit(x[keep], y[keep], sample_weight=None if weight is None else weight[keep])
        theirs = lp_oracle.objective(x, y, level, l1, peer.coef_, peer.intercept_, weight)
        assert float(fit.objective[k]) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("l1", [0.0, 0.003])
@pytest.mark.parametrize("shape", [(1500, 40), (600, 200), (60, 150)])
def test_larger_problems_with_left_out_rows_agree_with_highs(shape, l1):
    x, y, _ = problem(5, *shape, ())
    fit = fit_quantiles(x, y, [0.05, 0.5], l1=l1)
    check_optimal(x, y, None, [0.05, 0.5], l1, True, fit, oracle=lp_oracle.optimum_of_dual)


@pytest.mark.parametrize("l1", [0.0, 0.003])
def test_both_oracles_agree(l1):
    x, y, _ = problem(6, 150, 10, ())
    dual = lp_oracle.optimum_of_dual(x, y, 0.3, l1)
    assert dual == pytest.approx(lp_oracle.optimum(x, y, 0.3, l1), rel=1e-9)


def test_a_large_penalty_leaves_the_quantile_of_the_targets():
    x, y, _ = problem(1, 101, 4, ())
    fit = fit_quantiles(x, y, LEVELS, l1=10.0)
    assert torch.equal(fit.coef, torch.zeros(3, 4, dtype=torch.float64))
    np.testing.assert_allclose(fit.intercept, np.quantile(y, LEVELS, method="inverted_cdf"), atol=1e-5)


def test_unneeded_coefficients_are_exactly_zero():
    g = np.random.default_rng(0)
    x = g.standard_normal((400, 20))
    fit = fit_quantiles(x, 2.0 * x[:, 3] + g.standard_normal(400), LEVELS, l1=0.05)
    assert (fit.coef[:, 3] > 1.0).all()
    assert int((fit.coef != 0.0).sum()) < 12


@pytest.mark.parametrize("value", [0.0, 2.5, -1e6])
def test_equal_targets_are_fitted_exactly(value):
    x, _, _ = problem(2, 30, 3, ())
    fit = fit_quantiles(x, np.full(30, value), LEVELS)
    assert torch.equal(fit.coef, torch.zeros(3, 3, dtype=torch.float64))
    assert torch.equal(fit.intercept, torch.full((3,), value, dtype=torch.float64))
    assert torch.equal(fit.objective, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(fit.gap, torch.zeros(3, dtype=torch.float64))


def test_exact_linear_targets_have_objective_and_gap_zero():
    x, _, _ = problem(2, 60, 3, ())
    truth = np.array([1.0, -2.0, 0.5])
    fit = fit_quantiles(x, x @ truth + 4.0, LEVELS, l1=0.0)
    assert float(fit.objective.max()) < 1e-12
    assert torch.equal(fit.gap, torch.zeros(3, dtype=torch.float64))
    np.testing.assert_allclose(fit.coef, np.tile(truth, (3, 1)), atol=1e-9)


def test_recovers_a_heteroscedastic_gaussian_distribution():
    """y = 1 + 2 x1 + (1 + x1 / 2) e on x1 in [0, 1]: quantiles are linear with slope 2 + z_t / 2."""
    from scipy.stats import norm

    g = np.random.default_rng(0)
    num_rows = 40_000
    x = np.column_stack([g.random(num_rows), g.standard_normal(num_rows)])
    y = 1.0 + 2.0 * x[:, 0] + (1.0 + 0.5 * x[:, 0]) * g.standard_normal(num_rows)
    z = norm.ppf(LEVELS)
    fit = fit_quantiles(x, y, LEVELS, l1=0.0)
    # Asymptotic standard errors are .02 - .04 here.
    np.testing.assert_allclose(fit.coef[:, 0], 2.0 + 0.5 * z, atol=0.15)
    np.testing.assert_allclose(fit.coef[:, 1], 0.0, atol=0.04)
    np.testing.assert_allclose(fit.intercept, 1.0 + z, atol=0.08)


def test_shapes_types_and_names_of_the_result():
    x, y, _ = problem(0, 50, 4, ())
    one = fit_quantiles(torch.from_numpy(x).float(), torch.from_numpy(y), torch.tensor(LEVELS))
    assert isinstance(one, QuantileFit)
    assert isinstance(one.iterations, int)
    assert one._fields == ("coef", "intercept", "objective", "gap", "iterations")
    assert [tuple(t.shape) for t in one[:4]] == [(3, 4), (3,), (3,), (3,)]
    assert all(t.dtype == torch.float64 for t in one[:4])
    two = fit_quantiles(x, np.column_stack([y, y]), LEVELS)
    assert [tuple(t.shape) for t in two[:4]] == [(2, 3, 4), (2, 3), (2, 3), (2, 3)]
    single = fit_quantiles(x, y[:, None], [0.5])
    assert single.coef.shape == (1, 1, 4)


def test_attributes_together_equal_attributes_apart():
    g = np.random.default_rng(4)
    x, y, weight = problem(4, 120, 5, ("weights",))
    targets = np.column_stack(
        [y, g.standard_normal(120), 1e3 * y**2, np.where(g.random(120) < 0.5, np.nan, y)]
    )
    together = fit_quantiles(x, targets, LEVELS, sample_weight=weight, tol=1e-9)
    for a in range(4):
        apart = fit_quantiles(x, targets[:, a], LEVELS, sample_weight=weight, tol=1e-9)
        assert together.objective[a].numpy() == pytest.approx(apart.objective.numpy(), rel=1e-8)
        np.testing.assert_allclose(
            together.coef[a], apart.coef, atol=1e-5 * (1.0 + float(apart.coef.abs().max()))
        )


def test_attributes_beyond_one_batch_equal_attributes_apart(monkeypatch):
    x, y, _ = problem(4, 100, 5, ())
    targets = np.column_stack([y, -y, 2.0 * y])
    whole = fit_quantiles(x, targets, LEVELS)
    monkeypatch.setattr("pluralign.solvers.quantile_regression.STATE_ELEMENTS", 1)
    assert fit_quantiles(x, targets, LEVELS).objective.numpy() == pytest.approx(
        whole.objective.numpy(), rel=2e-6
    )


@pytest.mark.parametrize("l1", [0.0, 0.003])
def test_blocks_of_rows_do_not_change_the_fit(monkeypatch, l1):
    x, y, _ = problem(4, 3000, 5, ())
    whole = fit_quantiles(x, y, LEVELS, l1=l1)
    monkeypatch.setattr("pluralign.solvers._design.CPU_BLOCK", 2**20)
    blocks = fit_quantiles(x, y, LEVELS, l1=l1)
    assert blocks.objective.numpy() == pytest.approx(whole.objective.numpy(), rel=2e-6)


def test_row_order_repeats_and_weights():
    x, y, _ = problem(7, 90, 5, ())
    counts = np.random.default_rng(7).integers(0, 4, 90)
    order = np.random.default_rng(8).permutation(90)
    weighted = fit_quantiles(x, y, LEVELS, sample_weight=counts).objective.numpy()
    repeated = fit_quantiles(np.repeat(x, counts, 0), np.repeat(y, counts), LEVELS).objective.numpy()
    shuffled = fit_quantiles(x[order], y[order], LEVELS, sample_weight=1e5 * counts[order]).objective.numpy()
    assert weighted == pytest.approx(repeated, rel=2e-6)
    assert weighted == pytest.approx(shuffled, rel=2e-6)


def test_feature_type_does_not_matter():
    x, y, _ = problem(7, 200, 5, ())
    x = x.astype(np.float32)
    low, high = fit_quantiles(x, y, LEVELS), fit_quantiles(x.astype(np.float64), y, LEVELS)
    assert low.objective.numpy() == pytest.approx(high.objective.numpy(), rel=1e-9)


@pytest.mark.parametrize("l1", [0.0, 0.01])
def test_equivariance(l1):
    """Q(-y) at t is -Q(y) at 1 - t, and a shift of targets moves the intercept only."""
    x, y, _ = problem(9, 100, 4, ())
    fit = fit_quantiles(x, y, [0.2, 0.8], l1=l1, tol=1e-9)
    mirrored = fit_quantiles(x, -y, [0.2, 0.8], l1=l1, tol=1e-9)
    shifted = fit_quantiles(x, y + 5.0, [0.2, 0.8], l1=l1, tol=1e-9)
    np.testing.assert_allclose(mirrored.coef.flip(0), -fit.coef, atol=1e-6)
    np.testing.assert_allclose(shifted.coef, fit.coef, atol=1e-6)
    np.testing.assert_allclose(shifted.intercept, fit.intercept + 5.0, atol=1e-6)


def test_progress_ends_at_the_total():
    x, y, _ = problem(0, 60, 3, ())
    calls = []
    fit_quantiles(x, np.column_stack([y, -y]), LEVELS, progress=lambda *call: calls.append(call))
    stages = {stage for stage, _, _ in calls}
    assert stages == {"first fit", "levels"}
    assert calls[-1] == ("levels", 6, 6)
    assert [call for call in calls if call[0] == "first fit"][-1] == ("first fit", 100, 100)
    # One call at least for every interior point: one round can take minutes.
    assert sum(stage == "levels" for stage, _, _ in calls) > 6
    assert all(0 <= done <= total for _, done, total in calls)


def test_inputs_are_not_changed():
    x, y, weight = problem(0, 60, 3, ("weights",))
    copies = [x.copy(), y.copy(), weight.copy()]
    fit_quantiles(x, y, LEVELS, sample_weight=weight)
    for value, copy in zip([x, y, weight], copies, strict=True):
        np.testing.assert_array_equal(value, copy)


@pytest.mark.parametrize(
    ("seed", "shape", "traits"),
    [
        (422818, (60, 30), ("twins", "scales", "offset", "repeats")),
        (0, (40, 20), ("twins", "sum", "scales", "offset")),
        (0, (60, 12), ("twins", "sum", "constant", "offset", "weights")),
        (0, (120, 30), ("twins", "offset")),
    ],
)
def test_copies_among_columns_of_every_scale_around_a_hundred(seed, shape, traits):
    """One copy is no direction, however faint others are: spreads of 1e-6 ... 1e2 of the offset beside it."""
    x, y, weight = problem(seed, *shape, traits)
    for intercept in (False, True):
        fit = fit_quantiles(x, y, LEVELS, l1=0.0, sample_weight=weight, fit_intercept=intercept)
        check_optimal(x, y, weight, LEVELS, 0.0, intercept, fit)
