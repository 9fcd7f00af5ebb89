"""Gradients of every method against finite differences; of pairs, in one random direction."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from pluralign.distributions import (
    Categorical,
    Empirical,
    GaussianEnsemble,
    Point,
    Quantiles,
    mixture,
    vincentize,
)

LEVELS = torch.tensor([0.1, 0.35, 0.6, 0.9], dtype=torch.float64)
GENERATOR = torch.Generator().manual_seed(0)


def leaf(*shape, positive=False):
    value = torch.randn(shape, generator=GENERATOR, dtype=torch.float64)
    return (value.abs() + 0.2 if positive else value).requires_grad_()


def mask():
    return torch.tensor([[True] * 5, [True, False, True, True, False]])


DISTRIBUTIONS = {
    "point": (lambda v: Point(v), (leaf(2),)),
    "quantiles": (lambda v: Quantiles(v, LEVELS), (leaf(2, 4),)),
    "ensemble": (
        lambda m, s, w: GaussianEnsemble(m, s, w.softmax(-1)),
        (leaf(2, 3), leaf(2, 3, positive=True), leaf(2, 3)),
    ),
    "categorical": (lambda p, a: Categorical(p.softmax(-1), a), (leaf(2, 4), leaf(4))),
    "empirical": (lambda v: Empirical(v, mask()), (leaf(2, 5),)),
}
METHODS = {
    "mean": lambda d: d.mean(),
    "cvar": lambda d: d.cvar(0.43),
    "entropic": lambda d: d.entropic(1.3),
    "entropic, tiny": lambda d: d.entropic(1e-5),
    "entropic, seeking": lambda d: d.entropic(-0.7),
    "exponential": lambda d: d.exponential(0.8),
    "quantile": lambda d: d.quantile(torch.tensor([0.22, 0.5, 0.71], dtype=torch.float64)),
    "crps": lambda d: d.crps(torch.tensor([[0.3, -1.1], [0.9, float("nan")]], dtype=torch.float64)),
    "scale_shift": lambda d: d.scale_shift(2.0, -1.0).cvar(0.43),
    "sample": lambda d: d.sample(4, generator=torch.Generator().manual_seed(1)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("method", METHODS)
def test_summaries(name, method):
    build, leaves = DISTRIBUTIONS[name]
    if method == "sample" and name in ("ensemble", "categorical"):
        leaves = tuple(
            part.detach() if part is leaves[-1 if name == "ensemble" else 0] else part for part in leaves
        )
    assert gradcheck(lambda *parts: METHODS[method](build(*parts)), leaves)


@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if name != "point"])
def test_std(name):
    build, leaves = DISTRIBUTIONS[name]
    assert gradcheck(lambda *parts: build(*parts).std(), leaves)


@pytest.mark.parametrize("name", ["quantiles", "ensemble"])
def test_cdf(name):
    build, leaves = DISTRIBUTIONS[name]
    x = torch.tensor([[-0.31, 0.42], [0.07, 0.63]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, *parts: build(*parts).cdf(x), (x, *leaves))


@pytest.mark.parametrize("first", DISTRIBUTIONS)
@pytest.mark.parametrize("second", DISTRIBUTIONS)
def test_wasserstein(first, second):
    build, leaves = DISTRIBUTIONS[first]
    other, others = DISTRIBUTIONS[second]
    # Shifted copies, so that a distribution never meets itself, where |F1 - F2| has a kink.
    others = tuple((1.1 * part.detach() + 0.05).requires_grad_() for part in others)
    n = len(leaves)
    assert gradcheck(
        lambda *parts: build(*parts[:n]).wasserstein(other(*parts[n:])), (*leaves, *others), fast_mode=True
    )


@pytest.mark.parametrize("first", DISTRIBUTIONS)
def test_prob_greater(first):
    """Two distributions with atoms are piecewise constant; against an ensemble everything is smooth."""
    build, leaves = DISTRIBUTIONS[first]
    other, others = DISTRIBUTIONS["ensemble"]
    others = tuple((1.1 * part.detach() + 0.05).requires_grad_() for part in others)
    n = len(leaves)
    assert gradcheck(lambda *parts: build(*parts[:n]).prob_greater(other(*parts[n:])), (*leaves, *others))
    assert gradcheck(lambda *parts: other(*parts[n:]).prob_greater(build(*parts[:n])), (*leaves, *others))


@pytest.mark.parametrize("combine", [vincentize, mixture])
def test_combined_quantiles(combine):
    values, gate = leaf(2, 3, 4), leaf(2, 3)
    assert gradcheck(lambda v, g: combine(v, g.softmax(-1), LEVELS).values, (values, gate))


def test_gradients_stay_finite_where_there_is_no_spread():
    equal = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    nothing = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    for distribution in (
        Point(equal[:, 0]),
        Quantiles(equal, LEVELS),
        Empirical(equal),
        GaussianEnsemble(equal, nothing),
    ):
        total = (
            distribution.std()
            + distribution.cvar(0.4)
            + distribution.entropic(2.0)
            + distribution.crps([0.0, 2.0])
            + distribution.quantile(0.5)
        )
        for gradient in torch.autograd.grad(total.sum(), (equal, nothing), allow_unused=True):
            assert gradient is None or gradient.isfinite().all()


def test_masked_samples_have_no_gradient():
    samples = torch.tensor([[1.0, float("nan"), 3.0]], requires_grad=True)
    Empirical(samples, torch.tensor([[True, False, True]])).entropic(1.0).sum().backward()
    assert samples.grad.isfinite().all()
    assert samples.grad[0, 1] == 0
