"""Every summary of every representation against quadrature of an independent description of it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scoringrules
import torch
from scipy import stats

from pluralign.distributions import Categorical, Empirical, GaussianEnsemble, RewardDistribution

TIGHT = {"rtol": 1e-8, "atol": 1e-8}


def expected(oracles, function):
    return torch.tensor([function(oracle) for oracle in oracles], dtype=torch.float64)


def test_mean_and_std(case):
    mean = expected(case.oracles, lambda o: o.expect(lambda x: x))
    square = expected(case.oracles, lambda o: o.expect(lambda x: x * x))
    torch.testing.assert_close(case.distribution.mean(), mean, **TIGHT)
    torch.testing.assert_close(case.distribution.std() ** 2, square - mean**2, **TIGHT)


@pytest.mark.filterwarnings("ignore::pluralign.errors.TailWarning")
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.83, 1.0])
def test_cvar(case, fraction):
    def tail_mean(oracle):
        at = oracle.quantile(fraction) if fraction < 1 else oracle.points()[-1]
        return at - oracle.expect(lambda x: max(at - x, 0.0), [at]) / fraction

    torch.testing.assert_close(case.distribution.cvar(fraction), expected(case.oracles, tail_mean), **TIGHT)


@pytest.mark.parametrize("aversion", [-1.7, 0.3, 2.0])
def test_entropic_and_exponential(case, aversion):
    moment = expected(case.oracles, lambda o: o.expect(lambda x: math.exp(-aversion * x)))
    torch.testing.assert_close(case.distribution.entropic(aversion), -moment.log() / aversion, **TIGHT)
    if aversion > 0:
        torch.testing.assert_close(case.distribution.exponential(aversion), -moment, **TIGHT)


def test_quantile(case):
    levels = [0.01, 0.05, 0.21, 0.5, 0.77, 0.9, 0.99]
    want = torch.tensor([[o.quantile(t) for t in levels] for o in case.oracles], dtype=torch.float64)
    torch.testing.assert_close(
        case.distribution.quantile(torch.tensor(levels, dtype=torch.float64)), want, **TIGHT
    )
    torch.testing.assert_close(case.distribution.quantile(0.21), want[:, 2], **TIGHT)


def test_quantile_at_the_ends_of_the_support(case):
    for row, oracle in enumerate(case.oracles):
        low, high = (-math.inf, math.inf) if oracle.normals else (oracle.points()[0], oracle.points()[-1])
        assert case.distribution.quantile(0.0)[row].item() == low
        assert case.distribution.quantile(1.0)[row].item() == high


def test_cdf_from_the_right_and_from_the_left(case):
    for row, oracle in enumerate(case.oracles):
        marks = oracle.points()
        xs = [*marks, *(0.5 * (a + b) for a, b in itertools.pairwise(marks)), -50.0, 50.0]
        points = torch.tensor(xs, dtype=torch.float64).expand(len(case.distribution), -1)
        right = torch.tensor([oracle.cdf(x) for x in xs], dtype=torch.float64)
        left = torch.tensor([oracle.cdf(x, left=True) for x in xs], dtype=torch.float64)
        torch.testing.assert_close(case.distribution.cdf(points)[row], right, rtol=0, atol=1e-12)
        torch.testing.assert_close(case.distribution.cdf_left(points)[row], left, rtol=0, atol=1e-12)
    infinite = torch.tensor([-math.inf, math.inf]).expand(len(case.distribution), 2)
    assert case.distribution.cdf(infinite).tolist() == [[0.0, 1.0]] * len(case.distribution)


def test_crps(case, integral):
    target = torch.tensor([-1.3, 0.4, 2.2], dtype=torch.float64)

    def score(oracle, y):
        marks = [*oracle.points(), y]
        return integral(lambda x: (oracle.cdf(x) - (x >= y)) ** 2, min(marks), max(marks), marks)

    want = [score(oracle, y) for oracle, y in zip(case.oracles, target.tolist(), strict=True)]
    torch.testing.assert_close(
        case.distribution.crps(target), torch.tensor(want, dtype=torch.float64), **TIGHT
    )


def test_crps_averages_over_raters_and_ignores_padding(case):
    first, second = torch.tensor([0.1, -2.0, 1.0]).double(), torch.tensor([3.0, 0.0, 0.5]).double()
    padding = torch.full((3,), math.nan).double()
    both = case.distribution.crps(torch.stack([first, padding, second], -1))
    torch.testing.assert_close(both, 0.5 * (case.distribution.crps(first) + case.distribution.crps(second)))
    torch.testing.assert_close(
        case.distribution.crps(torch.stack([first, padding], -1)), case.distribution.crps(first)
    )


def test_samples_have_the_mean_and_the_cdf_of_the_distribution(case):
    n = 40_000
    samples = case.distribution.sample(n, generator=torch.Generator().manual_seed(5))
    assert samples.shape == (len(case.distribution), n)
    error = case.distribution.std() / math.sqrt(n)
    assert ((samples.mean(-1) - case.distribution.mean()).abs() <= 5 * error + 1e-12).all()
    # Off the atoms, where the empirical CDF cannot differ by rounding.
    for x in (-0.777, 0.123, 0.9876):
        share = (samples <= x).double().mean(-1)
        prob = case.distribution.cdf(x)
        assert ((share - prob).abs() <= 5 * (prob * (1 - prob) / n).sqrt() + 1e-12).all()


def test_samples_repeat_with_the_generator(case):
    draws = [case.distribution.sample(5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2]) or case.distribution.std().max() < 1e-12


def test_scale_shift(case):
    scale, shift = torch.tensor([2.0, 0.5, 3.0]).double(), torch.tensor([-1.0, 10.0, 0.0]).double()
    moved = case.distribution.scale_shift(scale, shift)
    torch.testing.assert_close(moved.mean(), scale * case.distribution.mean() + shift)
    torch.testing.assert_close(moved.std(), scale * case.distribution.std(), rtol=1e-7, atol=1e-9)
    for level in (0.1, 0.5, 0.95):
        torch.testing.assert_close(moved.quantile(level), scale * case.distribution.quantile(level) + shift)


def test_crps_against_scoringrules():
    draw = np.random.default_rng(3)
    samples, y = draw.normal(size=(6, 9)), draw.normal(size=6)
    got = Empirical(torch.tensor(samples)).crps(torch.tensor(y))
    np.testing.assert_allclose(got, scoringrules.crps_ensemble(y, samples), rtol=1e-10)
    mean, std = draw.normal(size=(6, 1)), draw.uniform(0.1, 2, (6, 1))
    got = GaussianEnsemble(torch.tensor(mean), torch.tensor(std)).crps(torch.tensor(y))
    np.testing.assert_allclose(got, scoringrules.crps_normal(y, mean[:, 0], std[:, 0]), rtol=1e-10)
    mean, std, weight = draw.normal(size=(6, 3)), draw.uniform(0.1, 2, (6, 3)), draw.dirichlet(np.ones(3), 6)
    got = GaussianEnsemble(*map(torch.tensor, (mean, std, weight))).crps(torch.tensor(y))
    np.testing.assert_allclose(got, scoringrules.crps_mixnorm(y, mean, std, weight), rtol=1e-8)


def test_the_true_distribution_has_the_least_expected_crps():
    probs = torch.tensor([0.1, 0.2, 0.4, 0.3]).double()
    atoms = torch.arange(4).double()

    def expected_score(distribution: RewardDistribution) -> float:
        return sum(
            p * distribution.crps(torch.tensor([float(a)])).item() for p, a in zip(probs, atoms, strict=True)
        )

    truth = expected_score(Categorical(probs[None], atoms))
    for wrong in ([0.25, 0.25, 0.25, 0.25], [0.1, 0.25, 0.35, 0.3], [0, 0, 1, 0]):
        assert truth < expected_score(Categorical(torch.tensor([wrong]).double(), atoms))


@pytest.mark.parametrize("level", [1e-10, 1e-4, 0.3, 0.999999])
def test_one_gaussian_is_scipy_norm(level):
    distribution = GaussianEnsemble(*(torch.tensor([[x]], dtype=torch.float64) for x in (1.5, 0.7)))
    reference = stats.norm(1.5, 0.7)
    assert distribution.quantile(level).item() == pytest.approx(reference.ppf(level), rel=1e-9)
    tail_mean = 1.5 - 0.7 * stats.norm.pdf(stats.norm.ppf(level)) / level
    assert distribution.cvar(level).item() == pytest.approx(tail_mean, rel=1e-5 if level < 1e-6 else 1e-9)
    assert distribution.entropic(2.0).item() == pytest.approx(1.5 - 0.7**2, rel=1e-12)
