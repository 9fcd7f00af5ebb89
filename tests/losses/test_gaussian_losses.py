"""Gaussian losses against torch.distributions, and what each does to the standard deviation."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from pluralign.errors import ArgumentError
from pluralign.losses import beta_nll, gaussian_nll, reparameterized_mse

MEAN = torch.tensor([0.0, 1.0, -2.0, 0.5], dtype=torch.float64)
STD = torch.tensor([1.0, 0.1, 3.0, 2.0], dtype=torch.float64)
TARGET = torch.tensor([0.5, 1.0, 4.0, -3.0], dtype=torch.float64)


def test_gaussian_nll_is_a_log_density():
    want = -torch.distributions.Normal(MEAN, STD).log_prob(TARGET)
    torch.testing.assert_close(gaussian_nll(MEAN, STD, TARGET), want)
    x = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    mass = torch.exp(-gaussian_nll(torch.full_like(x, 0.3), torch.full_like(x, 1.7), x)).sum() * 1e-3
    assert mass.item() == pytest.approx(1.0)


def test_beta_nll_is_nll_at_zero_and_has_the_gradient_of_a_squared_error_at_one():
    torch.testing.assert_close(beta_nll(MEAN, STD, TARGET, beta=0.0), gaussian_nll(MEAN, STD, TARGET))
    mean = MEAN.clone().requires_grad_()
    (slope,) = torch.autograd.grad(beta_nll(mean, STD, TARGET, beta=1.0).sum(), mean)
    torch.testing.assert_close(slope, MEAN - TARGET)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
def test_beta_nll_scales_both_gradients_of_nll(beta):
    """The weight s^(2 beta) is constant in the gradient, of the mean and of the standard deviation."""
    mean, std = MEAN.clone().requires_grad_(), STD.clone().requires_grad_()
    plain = torch.autograd.grad(gaussian_nll(mean, std, TARGET).sum(), (mean, std))
    weighted = torch.autograd.grad(beta_nll(mean, std, TARGET, beta=beta).sum(), (mean, std))
    for before, after in zip(plain, weighted, strict=True):
        torch.testing.assert_close(after, STD ** (2 * beta) * before)


def test_the_default_beta_is_one_half():
    torch.testing.assert_close(beta_nll(MEAN, STD, TARGET), beta_nll(MEAN, STD, TARGET, beta=0.5))


def test_reparameterized_mse_has_the_derived_expectation():
    """E[(mu + s e - y)^2] = (mu - y)^2 + s^2 at a fixed y; the draws' own spread gives the standard error."""
    n = 200_000
    mean, std, target = (torch.full((n,), v, dtype=torch.float64) for v in (0.4, 1.5, -1.0))
    draws = reparameterized_mse(mean, std, target, generator=torch.Generator().manual_seed(0))
    assert draws.mean().item() == pytest.approx(1.4**2 + 1.5**2, abs=5 * draws.std().item() / n**0.5)


def fitted_std(loss, steps=400):
    """Fit one mean and one std to noise of standard deviation 2."""
    generator = torch.Generator().manual_seed(0)
    target = 2 * torch.randn(2000, generator=generator)
    mean, log_std = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([mean, log_std], lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(mean.expand(2000), log_std.exp().expand(2000), target, generator).mean().backward()
        optimiser.step()
    return log_std.exp().item()


def test_the_published_loss_forgets_the_noise_and_nll_learns_it():
    """Why `gaussian_nll` is the default: the published loss drives s to 0 whatever the noise."""
    assert fitted_std(lambda m, s, y, g: reparameterized_mse(m, s, y, generator=g)) < 0.1
    assert fitted_std(lambda m, s, y, g: gaussian_nll(m, s, y)) == pytest.approx(2.0, rel=0.05)
    assert fitted_std(lambda m, s, y, g: beta_nll(m, s, y)) == pytest.approx(2.0, rel=0.05)


def test_the_generator_decides_the_draw():
    draws = [
        reparameterized_mse(MEAN, STD, TARGET, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_gradients():
    parts = tuple(part.clone().requires_grad_() for part in (MEAN, STD, TARGET))
    assert gradcheck(gaussian_nll, parts)
    assert gradcheck(
        lambda m, s, y: reparameterized_mse(m, s, y, generator=torch.Generator().manual_seed(3)), parts
    )


def test_any_common_shape_and_no_silent_broadcast():
    heads, target = torch.ones(3, 3), torch.zeros(3)
    for loss in (gaussian_nll, beta_nll, reparameterized_mse):
        assert loss(heads, heads, target.unsqueeze(-1).expand(3, 3)).shape == (3, 3)
        with pytest.raises(ArgumentError, match=r"one shape, received \[3, 3\], \[3, 3\] and \[3\]"):
            loss(heads, heads, target)
    for beta in (-0.1, 1.1):
        with pytest.raises(ArgumentError, match="beta must lie"):
            beta_nll(MEAN, STD, TARGET, beta=beta)


@pytest.mark.parametrize(
    ("loss", "std"),
    [(gaussian_nll, 0.0), (gaussian_nll, -1.0), (beta_nll, -1.0), (reparameterized_mse, -1.0)],
)
def test_a_standard_deviation_that_is_none(loss, std):
    with pytest.raises(ArgumentError, match="std must"):
        loss(torch.zeros(2), torch.tensor([1.0, std]), torch.zeros(2))


@pytest.mark.parametrize("loss", [gaussian_nll, beta_nll, reparameterized_mse])
def test_nan_is_not_a_loss(loss):
    with pytest.raises(ArgumentError, match="must not be NaN"):
        loss(torch.zeros(2), torch.ones(2), torch.tensor([0.0, float("nan")]))
