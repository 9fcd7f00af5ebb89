"""Transport against POT and its own bounds: closed form, exact solver, entropic plan, and their gradients."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from pluralign.distributions import Categorical
from pluralign.errors import ArgumentError, ConvergenceWarning
from pluralign.losses import transport, two_axis_cost

ATOMS = torch.tensor([1.0, 0.5, -1.0, -1.0, -1.5, -3.0], dtype=torch.float64)
HELPFULNESS = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.5, 0.0], dtype=torch.float64)
HARM = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64)


def random_probs(rows, size, seed=0):
    logits = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * logits).softmax(-1)


def pot(p, t, cost):
    values = [ot.emd2(a, b, cost.numpy()) for a, b in zip(p.numpy(), t.numpy(), strict=True)]
    return torch.tensor(values, dtype=torch.float64)


@st.composite
def problems(draw):
    """Two distributions with zeros and ties over 1 to 5 categories, and a seed for a cost."""
    size = draw(st.integers(1, 5))
    counts = st.lists(st.integers(0, 4), min_size=size, max_size=size).filter(any)
    p, t = (torch.tensor([draw(counts)], dtype=torch.float64) for _ in range(2))
    return p / p.sum(), t / t.sum(), draw(st.integers(0, 2**31))


@given(problems(), st.sampled_from([0.0, 0.3, 5.0]))
def test_the_closed_form_is_the_optimum_for_any_floor(problem, floor):
    """Also that W1 and total variation are reached by one plan, so that their sum is no mere lower bound."""
    p, t, seed = problem
    size = p.shape[1]
    atoms = torch.from_numpy(np.random.default_rng(seed).integers(-3, 4, size)).double()  # often equal
    cost = (atoms[:, None] - atoms).abs() + floor * (1 - torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(transport(p, t, atoms=atoms, floor=floor), pot(p, t, cost))


@given(problems(), st.booleans())
def test_any_cost_is_solved_exactly(problem, ties):
    p, t, seed = problem
    size = p.shape[1]
    rng = np.random.default_rng(seed)
    half = rng.integers(0, 3, (size, size)).astype(float) if ties else rng.random((size, size))
    cost = torch.from_numpy(half + half.T)  # no metric: neither triangles nor a zero diagonal
    torch.testing.assert_close(transport(p, t, cost=cost), pot(p, t, cost), atol=1e-12, rtol=0)


def test_a_batch_is_its_rows():
    p, t = random_probs(300, 6), random_probs(300, 6, seed=1)
    cost = two_axis_cost(HELPFULNESS, HARM, (1.0, 2.0))
    whole = transport(p, t, cost=cost)
    torch.testing.assert_close(whole, pot(p, t, cost))
    torch.testing.assert_close(whole[7:8], transport(p[7:8], t[7:8], cost=cost))
    assert transport(p[:0], t[:0], cost=cost).shape == (0,)
    assert transport(p[:0], t[:0], atoms=ATOMS).shape == (0,)


def test_atoms_and_their_cost_agree_with_each_other_and_with_wasserstein():
    p, t = random_probs(200, 6), random_probs(200, 6, seed=1)
    closed = transport(p, t, atoms=ATOMS)
    torch.testing.assert_close(closed, transport(p, t, cost=(ATOMS[:, None] - ATOMS).abs()))
    torch.testing.assert_close(closed, Categorical(p, ATOMS).wasserstein(Categorical(t, ATOMS)))
    torch.testing.assert_close(transport(p, t, atoms=ATOMS, floor=0.4), closed + 0.2 * (p - t).abs().sum(-1))
    assert bool((((p - t) @ ATOMS).abs() <= closed + 1e-12).all())  # bounds the error of the scalar reward


def test_it_distinguishes_near_from_far_where_cross_entropy_cannot():
    p = torch.tensor([[0.9, 0, 0.1, 0, 0, 0], [0.9, 0, 0, 0, 0, 0.1]])
    target = torch.eye(6)[[0, 0]]
    torch.testing.assert_close(transport(p, target, atoms=ATOMS.float()), torch.tensor([0.2, 0.4]))
    swap = (
        torch.tensor([[0.5, 0, 0.5, 0, 0, 0]], dtype=torch.float64),
        torch.tensor([[0.5, 0, 0, 0.5, 0, 0]], dtype=torch.float64),
    )
    assert transport(*swap, atoms=ATOMS).item() == 0  # two categories of equal reward
    assert transport(*swap, atoms=ATOMS, floor=0.1).item() == pytest.approx(0.05)
    assert transport(*swap, cost=two_axis_cost(HELPFULNESS, HARM)).item() == pytest.approx(1.0)


def test_two_axis_cost_has_the_derived_entries():
    cost = two_axis_cost(HELPFULNESS, HARM, (1.0, 2.0))
    assert (cost[0, 5].item(), cost[2, 3].item(), cost[1, 4].item()) == (3.0, 3.0, 2.0)
    assert torch.equal(cost, cost.T)
    assert not cost.diagonal().any()
    with pytest.raises(ArgumentError, match="two axes"):
        two_axis_cost(HELPFULNESS, HARM[:3])
    with pytest.raises(ArgumentError, match="weights"):
        two_axis_cost(HELPFULNESS, HARM, (1.0, -1.0))


@pytest.mark.parametrize("regularization", [0.05, 0.5, 5.0])
def test_the_entropic_cost_is_that_of_pot(regularization):
    p, t = random_probs(5, 6), random_probs(5, 6, seed=1)
    cost = two_axis_cost(HELPFULNESS, HARM)
    ours = transport(p, t, cost=cost, regularization=regularization)
    options = {"method": "sinkhorn_log", "numItermax": 100_000, "stopThr": 1e-13}
    theirs = [
        float(ot.sinkhorn2(a, b, cost.numpy(), regularization, **options))
        for a, b in zip(p.numpy(), t.numpy(), strict=True)
    ]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-8)


def test_the_entropic_bias_is_positive_bounded_and_absent_for_one_hot_targets():
    p, t = random_probs(50, 6), random_probs(50, 6, seed=1)
    cost = two_axis_cost(HELPFULNESS, HARM)
    exact = transport(p, t, cost=cost)
    entropy = torch.minimum(*(-torch.special.xlogy(q, q).sum(-1) for q in (p, t)))
    for regularization in (0.05, 0.5):
        bias = transport(p, t, cost=cost, regularization=regularization) - exact
        assert bool((bias > 0).all())
        assert bool((bias <= regularization * entropy).all())
    one_hot = torch.eye(6, dtype=torch.float64)[torch.arange(50) % 6]
    torch.testing.assert_close(
        transport(p, one_hot, cost=cost, regularization=0.5), transport(p, one_hot, cost=cost)
    )


class TestGradients:
    """Through a softmax, so that every step stays on the simplex."""

    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    other = torch.randn(4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    @pytest.mark.parametrize("kind", ["atoms", "floor", "exact", "entropic"])
    def test_gradcheck_away_from_kinks(self, kind):
        options = {
            "atoms": {"atoms": ATOMS[1:]},
            "floor": {"atoms": ATOMS[1:], "floor": 0.3},
            "exact": {"cost": two_axis_cost(HELPFULNESS[1:], HARM[1:])},
            "entropic": {"cost": two_axis_cost(HELPFULNESS[1:], HARM[1:]), "regularization": 0.5},
        }[kind]
        parts = (self.logits.clone().requires_grad_(), self.other.clone().requires_grad_())
        assert gradcheck(lambda a, b: transport(a.softmax(-1), b.softmax(-1), **options), parts, atol=1e-4)

    def test_everywhere_finite_and_zero_at_the_target_of_the_closed_form(self):
        probs = self.other.softmax(-1).requires_grad_()
        (slope,) = torch.autograd.grad(
            transport(probs, probs.detach(), atoms=ATOMS[1:], floor=1.0).sum(), probs
        )
        assert not slope.any()

    @given(problems())
    def test_the_exact_gradient_is_a_subgradient(self, problem):
        """W(q) >= W(p) + slope . (q - p) for every q, also where p has zeros or the optimum is degenerate."""
        p, t, seed = problem
        rng = np.random.default_rng(seed)
        half = torch.from_numpy(rng.integers(0, 3, (p.shape[1], p.shape[1])).astype(float))
        p.requires_grad_()
        value = transport(p, t, cost=half + half.T)
        (slope,) = torch.autograd.grad(value.sum(), p)
        others = torch.from_numpy(rng.dirichlet(np.ones(p.shape[1]), 20))
        reached = transport(others, t.expand(20, -1), cost=half + half.T)
        bound = value.detach() + ((others - p.detach()) * slope).sum(-1)
        assert bool((reached >= bound - 1e-9).all())

    def test_entropic_gradients_survive_one_hot_distributions_and_plans_that_fall_apart(self):
        probs = torch.eye(5, dtype=torch.float64)[:4].requires_grad_()
        for regularization in (1e-3, 0.5):
            value = transport(probs, probs.detach(), cost=1 - torch.eye(5), regularization=regularization)
            (slope,) = torch.autograd.grad(value.sum(), probs)
            assert bool(slope.isfinite().all())


@pytest.mark.parametrize("regularization", [0.0, 0.5])
def test_half_precision_is_widened(regularization):
    p, t = random_probs(8, 6), random_probs(8, 6, seed=1)
    p16, t16 = p.bfloat16(), t.bfloat16()
    for options in (
        {"cost": two_axis_cost(HELPFULNESS, HARM), "regularization": regularization},
        {"atoms": ATOMS},
    ):
        ours = transport(p16.requires_grad_(), t16, **options)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), transport(p, t, **options), atol=0.03, rtol=0)
        (slope,) = torch.autograd.grad(ours.sum(), p16)
        assert slope.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(
            transport(p.float(), t.float(), atoms=ATOMS).double(), transport(p, t, atoms=ATOMS)
        )


def test_a_slow_plan_is_reported(monkeypatch):
    monkeypatch.setattr("pluralign.losses._sinkhorn._MAX_ITERATIONS", 20)
    with pytest.warns(ConvergenceWarning, match="Sinkhorn is off by .* larger regularization than 0.01"):
        transport(
            random_probs(3, 6),
            random_probs(3, 6, seed=1),
            cost=two_axis_cost(HELPFULNESS, HARM),
            regularization=0.01,
        )


def test_values_are_not_read_without_validation():
    p, t, atoms = torch.tensor([[0.5, float("nan")]]), torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 1.0])
    assert bool(transport(p, t, atoms=atoms, validate=False).isnan().all())
    with pytest.raises(ArgumentError, match="one shape"):
        transport(p[:, :1], t, atoms=atoms, validate=False)


def test_bad_input_is_named():
    p, t = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
    atoms, cost = torch.tensor([0.0, 1.0]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    nan = float("nan")
    for arguments, message in (
        ({}, "atoms or cost"),
        ({"atoms": atoms, "cost": cost}, "either atoms or cost"),
        ({"atoms": atoms[:1]}, r"atoms \[2\]"),
        ({"atoms": atoms * nan}, "atoms must be finite"),
        ({"atoms": atoms, "floor": -1.0}, "floor must be"),
        ({"atoms": atoms, "floor": nan}, "floor must be"),
        ({"atoms": atoms, "regularization": 0.1}, "regularization applies only to cost"),
        ({"cost": cost, "regularization": -0.1}, "regularization must be"),
        ({"atoms": atoms, "floor": "high"}, "floor must be"),
        ({"atoms": atoms, "floor": None}, "floor must be"),
        ({"atoms": atoms, "floor": torch.ones(2)}, "floor must be"),
        ({"cost": cost, "regularization": "low"}, "regularization must be"),
        ({"atoms": atoms + 1j}, "atoms must hold real numbers"),
        ({"cost": cost + 0j}, "cost must hold real numbers"),
        ({"cost": cost[:1]}, r"cost \[2, 2\]"),
        ({"cost": -cost}, "not negative"),
        ({"cost": cost * nan}, "cost must be finite"),
        ({"cost": torch.tensor([[0.0, 1.0], [2.0, 0.0]])}, "symmetric"),
    ):
        with pytest.raises(ArgumentError, match=message):
            transport(p, t, **arguments)
    for wrong, message in (
        (torch.tensor([[0.5, 0.5 + 0j]]), "real numbers"),
        (torch.tensor([[0.5, 0.6]]), "sum to 1"),
        (torch.tensor([[1.5, -0.5]]), "negative"),
        (torch.tensor([[nan, 1.0]]), "NaN"),
        (torch.tensor([0.5, 0.5]), r"one shape \[B, C\]"),
        (torch.tensor([[1.0]]), r"one shape \[B, C\]"),
    ):
        for pair in ((wrong, t), (t, wrong)):
            with pytest.raises(ArgumentError, match=message):
                transport(*pair, atoms=atoms)
    with pytest.raises(ArgumentError, match="must be a tensor, received list"):
        transport([[0.5, 0.5]], t, atoms=atoms)
