"""Pinball loss against scikit-learn, and what minimises it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_pinball_loss
from torch.autograd import gradcheck

from pluralign.errors import ArgumentError
from pluralign.losses import pinball


def test_against_scikit_learn():
    draw = np.random.default_rng(0)
    values, targets, levels = draw.normal(size=(6, 4)), draw.normal(size=6), np.array([0.1, 0.4, 0.5, 0.95])
    got = pinball(torch.tensor(values), torch.tensor(targets), torch.tensor(levels))
    for row in range(6):
        want = np.mean(
            [mean_pinball_loss([targets[row]], [values[row, k]], alpha=levels[k]) for k in range(4)]
        )
        assert got[row].item() == pytest.approx(want)


def test_by_hand():
    got = pinball(torch.tensor([[1.0], [3.0], [2.0]]), torch.full((3,), 2.0), torch.tensor([0.9]))
    torch.testing.assert_close(got, torch.tensor([0.9, 0.1, 0.0]))


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8])
def test_the_quantile_minimises_it(level):
    targets = torch.tensor(np.random.default_rng(1).gamma(2.0, size=5001))
    candidates = torch.linspace(0, 8, 801, dtype=torch.float64)
    loss = torch.stack(
        [pinball(c.expand(5001, 1), targets, torch.tensor([level]).double()).mean() for c in candidates]
    )
    assert candidates[loss.argmin()].item() == pytest.approx(np.quantile(targets, level), abs=0.011)


def test_gradients():
    values, targets = torch.randn(5, 3).double().requires_grad_(), torch.randn(5).double().requires_grad_()
    assert gradcheck(lambda v, t: pinball(v, t, torch.tensor([0.2, 0.5, 0.7]).double()), (values, targets))


def test_the_gradient_at_a_tie_is_zero():
    values = torch.tensor([[1.0, 2.0]], requires_grad=True)
    pinball(values, torch.tensor([1.0]), torch.tensor([0.3, 0.6])).sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([[0.0, 0.2]]))


@pytest.mark.parametrize(
    "shapes", [((3, 2), (3,), (3,)), ((3, 2), (2,), (2,)), ((3,), (3,), (1,)), ((3, 1), (3, 1), (1,))]
)
def test_bad_shapes(shapes):
    with pytest.raises(ArgumentError, match=r"pinball needs values \[B, K\]"):
        pinball(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("levels", [[0.1, 1.5], [0.0, 0.5], [0.9, 0.1], [0.5, 0.5], [0.5, float("nan")]])
def test_illegal_levels(levels):
    with pytest.raises(ArgumentError, match="levels must increase strictly"):
        pinball(torch.zeros(1, 2), torch.zeros(1), torch.tensor(levels))


def test_nan_is_not_a_loss():
    with pytest.raises(ArgumentError, match="must not be NaN"):
        pinball(torch.zeros(2, 1), torch.tensor([0.0, float("nan")]), torch.tensor([0.5]))
    with pytest.raises(ArgumentError, match="levels must be a tensor, received list"):
        pinball(torch.zeros(1, 1), torch.zeros(1), [0.5])


def test_accelerators_never_wait():
    """Reading a value of a meta tensor raises, as reading one on a GPU would wait."""
    values = torch.empty(2, 1, device="meta")
    assert pinball(values, values[:, 0], values[0]).shape == (2,)
