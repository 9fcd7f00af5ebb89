"""Nested measures: an inner one for each member, an outer one over the members."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pluralign.distributions import Empirical, Ensemble, GaussianEnsemble, Point, Quantiles
from pluralign.errors import RiskError
from pluralign.risk import CVaR, Mean, Nested, WorstCase, parse

SPECIFICATIONS = ("worst_case(cvar:0.1)", "uwo:1(mean)", "robust:0.5(mean)", "cvar:0.5(quantile:0.25)")


def ensemble(weights=None) -> Ensemble:
    draw = torch.Generator().manual_seed(0)
    samples = torch.randn(3, 4, 10, generator=draw, dtype=torch.float64)  # [H, B, N]
    return Ensemble([Empirical(one + h) for h, one in enumerate(samples)], weights)


@pytest.mark.parametrize("text", SPECIFICATIONS)
def test_text_to_measure_and_back(text):
    measure = parse(text)
    assert str(measure) == text
    assert parse(str(measure)) == measure
    assert parse(f" {text.replace('(', ' ( ')} ") == measure


def test_values_against_numpy():
    distribution = ensemble()
    samples = np.sort(np.stack([one.samples.numpy() for one in distribution.members()]), -1)
    worst_fifth = samples[..., :2].mean(-1)
    means, stds = samples.mean(-1), samples.std(-1)
    surest = np.take_along_axis(means, stds.argmin(0)[None], 0)[0]
    expected = {
        "worst_case(cvar:0.2)": worst_fifth.min(0),
        "best_case(cvar:0.2)": worst_fifth.max(0),
        "mean(cvar:0.2)": worst_fifth.mean(0),
        "uwo:2(cvar:0.2)": worst_fifth.mean(0) - 2 * worst_fifth.var(0),
        "mean_std:0.5(mean)": means.mean(0) - 0.5 * means.std(0),
        "median(mean)": np.median(means, axis=0),
        "robust:0.25(mean)": 0.25 * surest + 0.75 * means.min(0),
    }
    for text, wanted in expected.items():
        np.testing.assert_allclose(parse(text)(distribution), wanted, rtol=1e-12, err_msg=text)


@pytest.mark.parametrize("outer", ["worst_case", "best_case", "uwo:1", "robust:0.3"])
def test_with_the_mean_inside_it_is_the_measure_of_heads(outer):
    means, stds = torch.randn(5, 3), torch.rand(5, 3) + 0.1
    heads = GaussianEnsemble(means, stds)
    torch.testing.assert_close(parse(f"{outer}(mean)")(heads), parse(outer)(heads))
    distribution = ensemble()
    torch.testing.assert_close(parse(f"{outer}(mean)")(distribution), parse(outer)(distribution))


def test_members_count_by_their_weights():
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    distribution = ensemble(weights)
    worst = torch.stack([CVaR(0.2)(one) for one in distribution.members()])
    mean = weights @ worst
    torch.testing.assert_close(parse("mean(cvar:0.2)")(distribution), mean)
    torch.testing.assert_close(parse("uwo:1(cvar:0.2)")(distribution), mean - weights @ (worst - mean) ** 2)


def test_the_same_measure_over_both_is_less_than_that_of_the_mixture():
    """What the members do not agree on is not averaged away before the worst tenth is taken."""
    distribution = ensemble()
    assert bool(
        (parse("worst_case(cvar:0.1)")(distribution) <= parse("cvar:0.1")(distribution) + 1e-12).all()
    )
    assert bool((parse("mean(cvar:0.1)")(distribution) >= parse("cvar:0.1")(distribution) - 1e-12).all())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worst_case(uwo:1)", r"worst_case\(uwo:1\).*each member alone"),
        ("worst_case(worst_case)", "compares members"),
        ("worst_case(mean(mean))", "with one measure inside"),
        ("worst_case(mean", "OUTER"),
        ("worst_case mean)", "OUTER"),
        ("worst_case()", "unknown risk measure ''"),
        ("(mean)", "unknown risk measure ''"),
        ("worst_case(cvar:2)", "fraction"),
        ("worst_case(maen)", "did you mean 'mean'"),
        ("worst_cas(mean)", "did you mean 'worst_case'"),
        ("worst_case(mean)(mean)", "OUTER"),
    ],
)
def test_bad_specifications(text, message):
    with pytest.raises(RiskError, match=message):
        parse(text)


def test_a_distribution_without_members_is_refused():
    for distribution in (Point([1.0]), Quantiles([[0.0, 1.0]], [0.25, 0.75])):
        with pytest.raises(RiskError, match=r"worst_case\(cvar:0.1\) compares members.*has none.*ensemble=H"):
            parse("worst_case(cvar:0.1)")(distribution)


def test_only_measures_nest():
    with pytest.raises(RiskError, match="outer: received mean"):
        Nested("mean", Mean())  # type: ignore[arg-type]
    with pytest.raises(RiskError, match="inner: received"):
        Nested(WorstCase(), Nested(WorstCase(), Mean()))


def test_it_moves_along_with_the_reward_where_both_do():
    assert parse("worst_case(cvar:0.1)").equivariant
    assert not parse("worst_case(exponential:1)").equivariant
    distribution = ensemble()
    for text in SPECIFICATIONS:
        measure = parse(text)
        torch.testing.assert_close(measure(distribution.scale_shift(1.0, 2.5)), measure(distribution) + 2.5)
