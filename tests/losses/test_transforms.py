"""Transforms of the quantile reward: Dawson's function and Z against independent high-precision values."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import special

from pluralign.errors import ArgumentError
from pluralign.losses.dawson import dawson
from pluralign.losses.transforms import Custom, Identity, Log, Normal, Sqrt, Square, parse_transform

BETAS = [1e-4, 3e-4, 1e-3, 0.01, 0.1, 0.3, 0.9, 1.0, 1.1, 3.0, 10.0]


def test_dawson_agrees_with_scipy_to_the_last_digits():
    x = np.concatenate([np.linspace(0, 30, 3001), np.geomspace(1e-12, 1e12, 400)])
    ours = dawson(torch.from_numpy(np.concatenate([x, -x]))).numpy()
    theirs = special.dawsn(np.concatenate([x, -x]))
    np.testing.assert_allclose(ours, theirs, rtol=2e-14, atol=0)


def test_dawson_is_smooth_where_the_series_meet():
    x = torch.tensor([0.3, 0.9241388730, 6.999, 7.0, 7.001, 20.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(dawson(x).sum(), x)
    torch.testing.assert_close(slope, 1 - 2 * x.detach() * dawson(x.detach()), rtol=1e-11, atol=1e-13)
    assert torch.isnan(dawson(torch.tensor(math.nan)))


def by_quadrature(f, beta: float) -> float:
    """log Z with 30 digits, the largest exponent taken out; pieces are short where the mass is."""
    with mpmath.workdps(30):
        b = mpmath.mpf(beta)
        peak = f(mpmath.mpf(1)) / b
        steps = [b * k for k in (1, 3, 10, 30, 60, 100, 200) if b * k < 0.5]
        places = [mpmath.mpf(0), *[1 - s for s in reversed(steps)], mpmath.mpf(1)]
        return float(peak + mpmath.log(mpmath.quad(lambda t: mpmath.exp(f(t) / b - peak), places)))


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(
    ("transform", "f"),
    [
        (Identity(), lambda t: t),
        (Log(), lambda t: mpmath.log(t) if t > 0 else -mpmath.inf),
        (Square(), lambda t: t**2),
        (Sqrt(), lambda t: mpmath.sqrt(t)),
    ],
    ids=["identity", "log", "square", "sqrt"],
)
def test_partition_agrees_with_quadrature(transform, f, beta):
    ours = float(transform.log_partition(torch.tensor(beta, dtype=torch.float64)))
    assert ours == pytest.approx(by_quadrature(f, beta), rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("beta", BETAS)
def test_normal_partition_agrees_with_quadrature_over_z(beta):
    """Substituting t = Phi(z), Z is the moment generating function of a normal variable at 1/b."""
    mean, std = -0.4, 1.7
    with mpmath.workdps(40):
        x = 1 / mpmath.mpf(beta)
        centre = std * x  # where std z x - z^2/2 is largest
        peak = mean * x + std * centre * x - centre**2 / 2
        inner = mpmath.quad(
            lambda z: mpmath.exp((mean + std * z) * x - z**2 / 2 - peak),
            [centre - 30, centre - 4, centre, centre + 4, centre + 30],
        )
        expected = float(peak + mpmath.log(inner / mpmath.sqrt(2 * mpmath.pi)))
    ours = Normal(mean, std).log_partition(torch.tensor(beta, dtype=torch.float64))
    assert float(ours) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("known", [Identity(), Log(), Square(), Sqrt()], ids=lambda t: type(t).__name__)
def test_a_callable_gets_the_same_partition(known, beta):
    b = torch.tensor(beta, dtype=torch.float64)
    ours = Custom(known.__call__).log_partition(b)
    torch.testing.assert_close(ours, known.log_partition(b), rtol=1e-10, atol=1e-12)


def test_a_callable_with_steps_and_inner_peaks():
    beta = 1e-3
    tent = Custom(lambda t: -(t - 0.7).abs())  # Z = b (2 - e^(-.7/b) - e^(-.3/b))
    ours = float(tent.log_partition(torch.tensor(beta, dtype=torch.float64)))
    assert ours == pytest.approx(math.log(2 * beta), rel=1e-10)
    step = Custom(lambda t: (t > 0.9).double())  # Z = .9 + .1 e^(1/b)
    ours = step.log_partition(torch.tensor([0.5, 2.0, 0.5]))
    expected = [math.log(0.9 + 0.1 * math.exp(1 / b)) for b in (0.5, 2.0, 0.5)]
    assert ours.tolist() == pytest.approx(expected, rel=1e-10)


def test_a_callable_whose_integral_cannot_be_found_is_refused():
    for beta in (0.01, 0.1, 0.3):  # the mass lies around Phi(1/b), 1 - 4e-4 at b = .3 but with a long tail
        with pytest.raises(ArgumentError, match="could not be computed"):
            Custom(torch.special.ndtri).log_partition(torch.tensor(beta))
    with pytest.raises(ArgumentError, match="could not be computed"):
        Custom(lambda t: -torch.log1p(-t)).log_partition(torch.tensor(0.5))  # diverges
    mild = Custom(torch.special.ndtri).log_partition(torch.tensor(1.5, dtype=torch.float64))
    assert float(mild) == pytest.approx(0.5 / 1.5**2, rel=1e-8)
    with pytest.raises(ArgumentError, match="one by one to finite numbers"):
        Custom(lambda t: t / 0).log_partition(torch.tensor(1.0))
    with pytest.raises(ArgumentError, match="one by one to finite numbers"):
        Custom(lambda t: t.sum()).log_partition(torch.tensor(1.0))


def test_values_of_the_transforms():
    t = torch.tensor([0.25, 0.81])
    assert Square()(t).tolist() == pytest.approx([0.0625, 0.6561], rel=1e-6)
    assert Sqrt()(t).tolist() == pytest.approx([0.5, 0.9], rel=1e-6)
    assert Log()(t).tolist() == pytest.approx(np.log([0.25, 0.81]).tolist(), rel=1e-6)
    normal = parse_transform("normal:2:0.5")(t.double())
    assert normal.tolist() == pytest.approx((2 + 0.5 * special.ndtri(t.double().numpy())).tolist(), rel=1e-12)
    assert all(f(t).dtype == torch.float64 for f in (Identity(), Log(), Square(), Sqrt(), Normal()))


def test_names():
    assert parse_transform("identity") == Identity()
    assert parse_transform("normal") == Normal(0.0, 1.0)
    assert parse_transform(Square()) == Square()
    with pytest.raises(ArgumentError, match="did you mean 'square'"):
        parse_transform("squared")
    for wrong in ("normal:1:2:3", "normal:a", "identity:1"):
        with pytest.raises(ArgumentError, match="parameters"):
            parse_transform(wrong)
    with pytest.raises(ArgumentError, match="positive std"):
        parse_transform("normal:0:-1")
    with pytest.raises(ArgumentError, match="received int"):
        parse_transform(3)
