"""What each measure computes, and which properties it has and has not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign import risk
from pluralign.distributions import Categorical, Empirical, GaussianEnsemble, Point, Quantiles
from pluralign.errors import RiskError, RiskWarning
from property_examples import examples

LEVELS = torch.arange(1, 10, dtype=torch.float64) / 10
DRAWS = st.integers(0, 2**32 - 1).map(np.random.default_rng)

MONOTONE = ["mean", "median", "quantile:0.2", "cvar:0.3", "entropic:0.7", "entropic:-0.7", "exponential:0.7"]
EQUIVARIANT = ["mean", "median", "quantile:0.2", "cvar:0.3", "entropic:0.7", "entropic:-0.7", "mean_std:1.5"]
OF_HEADS = ["nominal", "worst_case", "best_case", "uwo:1.5", "robust:0.4"]


def heads(draw, rows=4):
    return GaussianEnsemble(
        torch.tensor(draw.normal(size=(rows, 3)) * 2), torch.tensor(draw.uniform(0, 2, size=(rows, 3)))
    )


def any_distribution(draw, rows=4):
    values = torch.tensor(np.round(draw.normal(size=(rows, 9)) * 2, 1))
    share = torch.tensor(draw.dirichlet(np.ones(9), rows))
    return [
        Point(values[:, 0]),
        Quantiles(values, LEVELS),
        Categorical(share, values),
        Empirical(values),
        heads(draw, rows),
    ]


# --- values -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pluralign.errors.RiskWarning")
def test_values_on_three_heads():
    distribution = GaussianEnsemble([[1.0, -2.0, 4.0]], [[0.5, 0.2, 3.0]])
    want = {"nominal": -2.0, "worst_case": -2.0, "best_case": 4.0, "uwo:2": 1 - 2 * 6.0, "robust:0.3": -2.0}
    for text, value in want.items():
        assert risk.parse(text)(distribution).item() == pytest.approx(value)
    surer_first = GaussianEnsemble([[1.0, -2.0, 4.0]], [[0.1, 0.2, 3.0]])
    assert risk.Nominal()(surer_first).item() == 1.0
    assert risk.Robust(0.3)(surer_first).item() == pytest.approx(0.3 * 1.0 + 0.7 * -2.0)
    assert risk.Robust(1.0)(surer_first).item() == 1.0
    assert risk.Robust(0.0)(surer_first).item() == -2.0


def test_nominal_warns_where_it_chooses_between_heads_and_nothing_else_does():
    distribution = GaussianEnsemble([[1.0, -2.0]], [[0.5, 0.2]])
    with pytest.warns(RiskWarning, match="not better than selecting by a single head"):
        risk.Nominal()(distribution)
    for text in ("worst_case", "best_case", "uwo:1", "robust:0.4", "robust:1", "mean"):
        risk.parse(text)(distribution)  # a warning would be an error
    assert risk.Nominal()(GaussianEnsemble([[1.0]], [[0.5]])).item() == 1.0


def test_uwo_counts_heads_by_their_weights():
    """A head of weight 2/3 is two equal heads."""
    weighted = GaussianEnsemble([[0.0, 3.0]], [[1.0, 1.0]], [2 / 3, 1 / 3])
    repeated = GaussianEnsemble([[0.0, 0.0, 3.0]], [[1.0, 1.0, 1.0]])
    assert risk.UWO(0.7)(weighted).item() == pytest.approx(risk.UWO(0.7)(repeated).item())


def test_measures_agree_with_the_methods_of_the_distribution():
    for distribution in any_distribution(np.random.default_rng(0)):
        assert torch.equal(risk.parse("mean")(distribution), distribution.mean())
        assert torch.equal(risk.parse("median")(distribution), distribution.quantile(0.5))
        assert torch.equal(risk.parse("quantile:0.2")(distribution), distribution.quantile(0.2))
        assert torch.equal(risk.parse("cvar:0.3")(distribution), distribution.cvar(0.3))
        assert torch.equal(risk.parse("entropic:2")(distribution), distribution.entropic(2.0))
        assert torch.equal(risk.parse("exponential:2")(distribution), distribution.exponential(2.0))
        torch.testing.assert_close(
            risk.parse("mean_std:2")(distribution), distribution.mean() - 2 * distribution.std()
        )


@pytest.mark.parametrize("text", OF_HEADS)
def test_a_measure_of_heads_refuses_other_distributions(text):
    for distribution in any_distribution(np.random.default_rng(0))[:-1]:
        message = f"{text.split(':')[0]} compares heads, and {type(distribution).__name__} has none"
        with pytest.raises(RiskError, match=message):
            risk.parse(text)(distribution)


@pytest.mark.parametrize("measure", [risk.CVaR, risk.Quantile, risk.Entropic, risk.MeanStd, risk.Robust])
@pytest.mark.parametrize("value", ["a", None, [0.5], 2j, float("nan"), float("inf")])
def test_a_parameter_is_a_finite_number(measure, value):
    with pytest.raises(RiskError, match="must be a"):
        measure(value)


def test_a_parameter_from_an_array_is_an_ordinary_number():
    assert risk.CVaR(np.float32(0.5)) == risk.CVaR(torch.tensor(0.5)) == risk.CVaR(0.5)
    assert str(risk.CVaR(torch.tensor(0.5))) == "cvar:0.5"


def test_a_tensor_is_not_a_distribution():
    with pytest.raises(RiskError, match="cvar:0.1 acts on a RewardDistribution, received Tensor"):
        risk.CVaR(0.1)(torch.zeros(3))


# --- monotone or not ----------------------------------------------------------------------------------------


@given(draw=DRAWS, text=st.sampled_from(MONOTONE))
@settings(max_examples=examples(60), deadline=None)
def test_a_reward_that_is_surely_higher_has_more_utility(draw, text):
    measure = risk.parse(text)
    values = torch.tensor(draw.normal(size=(4, 9)))
    gain = torch.tensor(draw.exponential(size=(4, 9)) * (draw.random((4, 9)) < 0.3))
    higher = values + gain
    share = torch.tensor(draw.dirichlet(np.ones(9), 4))
    stds = torch.tensor(draw.uniform(0, 2, size=(4, 9)))
    for low, high in (
        (Point(values[:, 0]), Point(higher[:, 0])),
        (Quantiles(values, LEVELS), Quantiles(higher, LEVELS)),
        (Categorical(share, values), Categorical(share, higher)),
        (Empirical(values), Empirical(higher)),
        (GaussianEnsemble(values, stds, share), GaussianEnsemble(higher, stds, share)),
    ):
        assert (measure(high) >= measure(low) - 1e-9).all()


def test_mean_minus_std_is_not_monotone():
    sure, better = Categorical([[1.0, 0.0]], [0.0, 10.0]), Categorical([[0.9, 0.1]], [0.0, 10.0])
    assert risk.MeanStd(1.0)(sure).item() == 0.0
    assert risk.MeanStd(1.0)(better).item() == pytest.approx(-2.0)


def test_of_the_measures_of_heads_only_the_extremes_are_monotone():
    low = GaussianEnsemble([[0.0, 0.0]], [[1.0, 1.0]])
    one_head_raised = GaussianEnsemble([[0.0, 4.0]], [[1.0, 1.0]])
    assert risk.UWO(1.0)(one_head_raised) < risk.UWO(1.0)(low)
    for measure in (risk.WorstCase(), risk.BestCase()):
        assert measure(one_head_raised) >= measure(low)


@pytest.mark.filterwarnings("ignore::pluralign.errors.RiskWarning")
def test_nominal_and_robust_jump_down_when_another_head_becomes_the_surest():
    """Every head's mean rises by 1, yet the surest head changes and nominal falls from 5 to 1."""
    before = GaussianEnsemble([[0.0, 5.0]], [[1.0, 0.5]])
    after = GaussianEnsemble([[1.0, 6.0]], [[0.4, 0.5]])
    assert (after.means > before.means).all()
    assert risk.Nominal()(after) < risk.Nominal()(before)
    assert risk.Robust(0.8)(after) < risk.Robust(0.8)(before)


# --- translation --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pluralign.errors.RiskWarning")
@given(draw=DRAWS, text=st.sampled_from(EQUIVARIANT + OF_HEADS), shift=st.floats(-20, 20))
@settings(max_examples=examples(80), deadline=None)
def test_a_shift_adds_itself(draw, text, shift):
    measure = risk.parse(text)
    for distribution in any_distribution(draw) if text in EQUIVARIANT else [heads(draw)]:
        torch.testing.assert_close(
            measure(distribution.scale_shift(1.0, shift)), measure(distribution) + shift, rtol=1e-9, atol=1e-9
        )


def test_exponential_is_not_equivariant_but_orders_as_entropic_does():
    distribution = Empirical([[0.0, 1.0, 2.0]])
    measure = risk.Exponential(1.0)
    assert measure(distribution.scale_shift(1.0, 1.0)).item() != pytest.approx(
        measure(distribution).item() + 1
    )
    assert measure(distribution.scale_shift(1.0, 1.0)).item() == pytest.approx(
        math.exp(-1) * measure(distribution).item()
    )
    distributions = Empirical(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)))
    ordered = measure(distributions)[risk.Entropic(1.0)(distributions).argsort()]
    assert float(ordered.diff().min()) > -1e-6
    assert float(ordered[-1] - ordered[0]) > 0.1


# --- limits and order ---------------------------------------------------------------------------------------


@given(draw=DRAWS)
@settings(max_examples=examples(30), deadline=None)
def test_cvar_runs_from_the_minimum_to_the_mean(draw):
    for distribution in any_distribution(draw):
        torch.testing.assert_close(risk.CVaR(1.0)(distribution), distribution.mean())
        steps = torch.stack([risk.CVaR(a)(distribution) for a in (0.15, 0.3, 0.6, 0.9, 1.0)])
        assert (steps.diff(dim=0) >= -1e-9).all()
        assert (steps[0] <= distribution.quantile(0.15) + 1e-9).all()


@given(draw=DRAWS)
@settings(max_examples=examples(30), deadline=None)
def test_entropic_falls_with_aversion_through_the_mean(draw):
    for distribution in any_distribution(draw):
        steps = torch.stack([distribution.entropic(l) for l in (-5.0, -1.0, -1e-7, 0.0, 1e-7, 1.0, 5.0)])
        assert (steps.diff(dim=0) <= 1e-8).all()
        torch.testing.assert_close(steps[4], distribution.mean(), rtol=0, atol=1e-5)
        assert (distribution.entropic(1.0) <= distribution.mean() + 1e-12).all()


# --- concave in the random variable, convex under mixing ----------------------------------------------------


@given(draw=DRAWS, text=st.sampled_from(["cvar:0.3", "entropic:0.7"]), share=st.floats(0, 1))
@settings(max_examples=examples(60), deadline=None)
def test_diversifying_helps(draw, text, share):
    """Concave: two rewards share the states of the world; the blend is worth at least the blended utility."""
    measure = risk.parse(text)
    one, two = (torch.tensor(draw.normal(size=(4, 7)) * 2) for _ in range(2))
    blend = measure(Empirical(share * one + (1 - share) * two))
    parts = share * measure(Empirical(one)) + (1 - share) * measure(Empirical(two))
    assert (blend >= parts - 1e-9).all()


def test_quantiles_do_not_always_reward_diversifying():
    one = Empirical([[-10.0] + [0.0] * 9])
    two = Empirical([[0.0] * 9 + [-10.0]])
    blend = Empirical([[-5.0] + [0.0] * 8 + [-5.0]])
    measure = risk.Quantile(0.15)
    assert measure(blend).item() < 0.5 * measure(one).item() + 0.5 * measure(two).item()


@given(draw=DRAWS, aversion=st.floats(0.1, 3), share=st.floats(0.01, 0.99))
@settings(max_examples=examples(40), deadline=None)
def test_the_utility_of_a_mixture_is_at_most_the_mixed_utilities(draw, aversion, share):
    """A coin that decides between two distributions adds risk: entropic and cvar are convex under mixing."""
    atoms = torch.tensor(draw.normal(size=(4, 6)) * 2)
    one, two = (torch.tensor(draw.dirichlet(np.ones(6), 4)) for _ in range(2))
    mixed = Categorical(share * one + (1 - share) * two, atoms)
    for measure in (risk.Entropic(aversion), risk.CVaR(0.3)):
        parts = share * measure(Categorical(one, atoms)) + (1 - share) * measure(Categorical(two, atoms))
        assert (measure(mixed) <= parts + 1e-9).all()


def test_entropic_is_the_pessimistic_reward_of_a_kl_penalty():
    """The least E_Q[R] + b KL(Q || P) over distributions Q, by direct search, is entropic:1/b of P."""
    probs, atoms = torch.tensor([[0.2, 0.5, 0.3], [-1.0, 0.5, 2.0]], dtype=torch.float64)
    b = 0.7
    logits = probs.log().clone().requires_grad_()
    search = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def objective():
        q = logits.softmax(-1)
        return (q * atoms).sum() + b * (q * (q.log() - probs.log())).sum()

    def closure():
        search.zero_grad()
        value = objective()
        value.backward()
        return value

    search.step(closure)
    got = risk.Entropic(1 / b)(Categorical(probs[None], atoms)).item()
    assert got == pytest.approx(objective().item(), abs=1e-9)
