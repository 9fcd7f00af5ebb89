"""Every method of every distribution, and every risk measure, on the pretended device."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from pretended import DEVICE, on_cpu, waits

import pluralign as pl

B = 5


def build() -> dict[str, pl.distributions.RewardDistribution]:
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(B, 4, generator=draw).sort(-1).values
    keep = torch.ones(B, 4, dtype=torch.bool)
    keep[1, 2:] = False
    options = {"validate": False}
    return {
        "point": pl.Point(values[:, 0], **options),
        "quantiles": pl.Quantiles(values, torch.tensor([0.1, 0.3, 0.6, 0.9]), **options),
        "categorical": pl.Categorical(values.softmax(-1), torch.tensor([2.0, 1.0, 4.0, 5.0]), **options),
        "empirical": pl.Empirical(values, keep, **options),
        "ensemble": pl.GaussianEnsemble(values, values.abs() + 0.1, values.softmax(-1), **options),
    }


NAMES = list(build())
X = torch.linspace(-2.0, 6.0, 9)
METHODS = {
    "mean": lambda d, t: d.mean(),
    "std": lambda d, t: d.std(),
    "cvar": lambda d, t: d.cvar(0.1),
    "entropic": lambda d, t: d.entropic(1.0),
    "seeking entropic": lambda d, t: d.entropic(-1.0),
    "exponential": lambda d, t: d.exponential(1.0),
    "quantile": lambda d, t: d.quantile(0.25),
    "quantiles": lambda d, t: d.quantile(t(torch.tensor([0.0, 0.3, 1.0]))),
    "cdf": lambda d, t: d.cdf(t(X[:B])),
    "cdf at many points": lambda d, t: d.cdf(t(X.expand(B, -1))),
    "cdf from the left": lambda d, t: d.cdf_left(t(X[:B])),
    "crps": lambda d, t: d.crps(t(X[:B])),
    "crps of several raters": lambda d, t: d.crps(
        t(torch.tensor([[1.0, torch.nan], [2.0, 3.0]])[[0, 1, 0, 1, 0]])
    ),
    "scale_shift": lambda d, t: d.scale_shift(2.0, 1.0).mean(),
    "scale_shift by row": lambda d, t: d.scale_shift(t(X[:B].abs() + 1), t(X[:B])).std(),
    "rows": lambda d, t: d[1:3].mean(),
    "row": lambda d, t: d[-1].mean(),
    "rows by number": lambda d, t: d[t(torch.tensor([3, 1]))].mean(),
}


@pytest.mark.parametrize(("name", "method"), list(itertools.product(NAMES, METHODS)))
def test_methods(name, method):
    function = METHODS[method]
    distribution = build()[name]
    there = distribution.to(DEVICE)
    assert there.device == DEVICE
    with waits() as waited:
        found = function(there, lambda tensor: tensor.to(DEVICE, non_blocking=True))
    torch.testing.assert_close(on_cpu(found), function(distribution, lambda tensor: tensor))
    assert waited == []


@pytest.mark.parametrize(("first", "second"), list(itertools.product(NAMES, NAMES)))
@pytest.mark.parametrize("method", ["prob_greater", "wasserstein"])
def test_pairs(first, second, method):
    distributions = build()
    one, other = distributions[first], distributions[second].scale_shift(0.5, 0.2)
    one_there, other_there = one.to(DEVICE), other.to(DEVICE)
    with waits() as waited:
        found = getattr(one_there, method)(other_there)
    torch.testing.assert_close(on_cpu(found), getattr(one, method)(other))
    assert waited == []


@pytest.mark.parametrize("name", NAMES)
def test_draws(name):
    distribution = build()[name].to(DEVICE)
    with waits() as waited:
        drawn = distribution.sample(4000)
    assert waited == []
    torch.testing.assert_close(on_cpu(drawn).mean(-1), on_cpu(distribution.mean()), rtol=0, atol=0.15)


RISKS = ["mean", "median", "quantile:0.2", "cvar:0.1", "entropic:0.5", "exponential:0.5", "mean_std:1"]
OF_HEADS = ["nominal", "worst_case", "best_case", "uwo:1", "robust:0.5"]


def test_every_measure_is_here():
    assert {spec.partition(":")[0] for spec in RISKS + OF_HEADS} == set(pl.risk.MEASURES)


@pytest.mark.filterwarnings("ignore::pluralign.errors.RiskWarning")
@pytest.mark.parametrize(
    ("name", "spec"), [*itertools.product(NAMES, RISKS), *(("ensemble", spec) for spec in OF_HEADS)]
)
def test_risk_measures(name, spec):
    distribution = build()[name]
    there = distribution.to(DEVICE)
    measure = pl.risk.parse(spec)
    with waits() as waited:
        found = measure(there)
    torch.testing.assert_close(on_cpu(found), measure(distribution))
    assert waited == []


@pytest.mark.parametrize("name", NAMES)
def test_arguments_may_come_from_the_cpu(name):
    """They are moved, as `d.quantile([0.1, 0.9])` is, where a device's own error would name no argument."""
    distribution = build()[name]
    there = distribution.to(DEVICE)
    for function in METHODS.values():
        found = function(there, lambda tensor: tensor)
        torch.testing.assert_close(on_cpu(found), function(distribution, lambda tensor: tensor))


@pytest.mark.parametrize("name", NAMES)
def test_checks_read_the_device(name):
    """With `validate` values are checked wherever they are."""
    distribution = build()[name]
    checked: Any = {
        "point": lambda p: pl.Point(p),
        "quantiles": lambda p: pl.Quantiles(p, torch.tensor([0.1, 0.3, 0.6, 0.9])),
        "categorical": lambda p: pl.Categorical(p, torch.arange(4.0)),
        "empirical": lambda p: pl.Empirical(p),
        "ensemble": lambda p: pl.GaussianEnsemble(p, torch.ones(B, 4)),
    }[name]
    good = distribution._first.to(DEVICE)
    assert checked(good).device == DEVICE
    bad = distribution._first.clone()
    bad.view(-1)[0] = torch.nan
    with pytest.raises(pl.errors.ArgumentError):
        checked(bad.to(DEVICE))
