"""Advantages, clipped objectives, KL estimates and the quantile critic against independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pluralign as pl
from pluralign.errors import ArgumentError

L = pl.losses


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- generalised advantage estimation ---------------------------------------------------------------------


def slow_gae(r, v, keep, gamma, lam):
    """The definition: a sum over the deltas of the kept tokens that follow, row by row."""
    advantages = np.zeros_like(r)
    for row in range(len(r)):
        kept = [t for t in range(r.shape[1]) if keep[row, t]]
        deltas = []
        for i, t in enumerate(kept):
            following = v[row, kept[i + 1]] if i + 1 < len(kept) else 0.0
            deltas.append(r[row, t] + gamma * following - v[row, t])
        for i, t in enumerate(kept):
            advantages[row, t] = sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[i:]))
    return advantages


@given(
    seed=st.integers(0, 99),
    gamma=st.sampled_from([0.0, 0.9, 1.0]),
    lam=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
)
def test_gae_is_its_definition_over_kept_tokens(seed: int, gamma: float, lam: float) -> None:
    r, v = random(3, 7, seed=seed), random(3, 7, seed=seed + 1)
    keep = random(3, 7, seed=seed + 2) > -0.3
    advantages, returns = L.gae(r, v, keep, gamma, lam)
    wanted = slow_gae(r.numpy(), v.numpy(), keep.numpy(), gamma, lam)
    np.testing.assert_allclose(advantages.numpy(), wanted, atol=1e-12)
    np.testing.assert_allclose(returns.numpy(), np.where(keep, wanted + v.numpy(), 0.0), atol=1e-12)


def test_gae_with_lambda_one_is_the_return_minus_the_value() -> None:
    r, v = random(1, 5), random(1, 5, seed=1)
    keep = torch.tensor([[False, True, False, True, True]])
    _, returns = L.gae(r, v, keep, 1.0, 1.0)
    to_go = [r[0, 1] + r[0, 3] + r[0, 4], r[0, 3] + r[0, 4], r[0, 4]]
    torch.testing.assert_close(returns[0, [1, 3, 4]], torch.stack(to_go))


def test_gae_holds_no_gradient_and_ignores_what_is_not_kept() -> None:
    v = random(1, 3).requires_grad_()
    r = torch.tensor([[1.0, math.nan, 2.0]])
    advantages, _ = L.gae(r, v, torch.tensor([[True, False, True]]))
    assert not advantages.requires_grad
    assert advantages.isfinite().all()
    with pytest.raises(ArgumentError, match="finite"):
        L.gae(r, v, torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ArgumentError, match="one shape"):
        L.gae(r, v[:, :2], torch.ones(1, 3))
    with pytest.raises(ArgumentError, match=r"lam must lie in \[0, 1\]"):
        L.gae(r, v, torch.zeros(1, 3), lam=1.5)


# ---- clipped objectives -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [(1.0, 2.0, -2.0), (1.5, 2.0, -2.4), (0.5, 2.0, -1.0), (1.5, -2.0, 3.0), (0.5, -2.0, 1.6)],
)
def test_clipped_surrogate_by_hand(ratio: float, advantage: float, loss: float) -> None:
    found = L.clipped_surrogate(
        torch.tensor([[math.log(ratio)]]), torch.zeros(1, 1), torch.tensor([[advantage]]), clip=0.2
    )
    assert found.item() == pytest.approx(loss, rel=1e-6)


def test_the_first_step_is_the_policy_gradient() -> None:
    """At ratio 1 the gradient is that of -A log pi, and clipping does nothing."""
    logits = random(4, 6).requires_grad_()
    advantages = random(4, 6, seed=3)
    loss = L.clipped_surrogate(logits, logits.detach(), advantages).sum()
    (found,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(found, -advantages)


def test_clipped_value_by_hand() -> None:
    value, old, target = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 0.9]]), torch.tensor([[2.0, 2.0]])
    found = L.clipped_value(value, old, target, clip=0.2)
    torch.testing.assert_close(found, torch.tensor([[0.5 * 1.8**2, 0.5]]))


# ---- KL ---------------------------------------------------------------------------------------------------


def test_kl_estimators_average_to_the_exact_kl() -> None:
    p, q = (random(6, seed=s).softmax(0) for s in (0, 1))
    exact = (p * (p / q).log()).sum()
    for estimator in ("k1", "k3"):
        torch.testing.assert_close((p * L.kl_estimate(p.log(), q.log(), estimator)).sum(), exact)
    assert (L.kl_estimate(p.log(), q.log(), "k3") >= 0).all()
    d = p.log() - q.log()
    torch.testing.assert_close(L.kl_estimate(p.log(), q.log(), "k2"), d**2 / 2)
    # Near the reference, where 1 - exp(-d) loses all digits.
    tiny = torch.tensor([1e-12], dtype=torch.float64)
    assert L.kl_estimate(tiny, torch.zeros_like(tiny), "k3").item() == pytest.approx(
        5e-25, rel=1e-3, abs=1e-27
    )
    with pytest.raises(ArgumentError, match="k1, k2, k3"):
        L.kl_estimate(p, q, "k4")


# ---- the quantile critic ----------------------------------------------------------------------------------


def test_quantile_huber_is_its_definition() -> None:
    values, targets, levels = random(2, 3), random(2, 4, seed=1), torch.tensor([0.1, 0.5, 0.8]).double()
    weights = random(2, 4, seed=2).abs()
    for kappa in (0.0, 0.3, 1.0):
        found = L.quantile_huber(values, targets, levels, kappa, weights)
        for row in range(2):
            total = 0.0
            for k, t in enumerate(levels.tolist()):
                for m in range(4):
                    u = (targets[row, m] - values[row, k]).item()
                    size = abs(u)
                    if kappa:
                        size = u * u / 2 if abs(u) <= kappa else kappa * (abs(u) - kappa / 2)
                        size /= kappa
                    total += abs(t - (u < 0)) * size * weights[row, m].item()
            assert found[row].item() == pytest.approx(total / 3 / weights[row].sum().item(), rel=1e-10)


def test_quantile_huber_without_kappa_is_the_pinball_loss() -> None:
    values, target, levels = random(5, 3), random(5, seed=1), torch.tensor([0.25, 0.5, 0.75]).double()
    exact = L.pinball(values, target, levels)
    torch.testing.assert_close(L.quantile_huber(values, target[:, None], levels, kappa=0.0), exact)
    near = L.quantile_huber(values, target[:, None], levels, kappa=1e-9)
    torch.testing.assert_close(near, exact, rtol=0, atol=1e-8)


def test_its_minimiser_is_the_weighted_quantile() -> None:
    targets = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    grid = torch.linspace(-1, 4, 501)[:, None]
    losses = L.quantile_huber(grid, targets.expand(501, 4), torch.tensor([0.5]), 0.0, weights)
    assert grid[losses.argmin()].item() == pytest.approx(2.0)  # .1 + .2 < .5 < .1 + .2 + .3


def test_quantile_huber_refuses() -> None:
    values, targets, levels = random(2, 3), random(2, 4), torch.tensor([0.1, 0.5, 0.8])
    for wrong, match in (
        ((values, targets[:1], levels), "values .B, K. and targets"),
        ((values, targets, levels[:2]), "levels .3."),
        ((values, targets, torch.tensor([0.0, 0.5, 0.8])), "levels must lie"),
        ((values, targets, levels, -1.0), "kappa"),
        ((values, targets, levels, 1.0, torch.ones(3)), "weights"),
        ((values, targets, levels, 1.0, torch.zeros(4)), "not all 0"),
    ):
        with pytest.raises(ArgumentError, match=match):
            L.quantile_huber(*wrong)


# ---- groups -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rloo", "grpo"])
def test_group_advantages_are_their_definition_in_any_order(kind: str) -> None:
    rewards = random(7)
    group = torch.tensor([5, -1, 5, 5, -1, 9, 9])
    found = L.group_advantages(rewards, group, kind)
    for row in range(7):
        own = rewards[group == group[row]]
        if kind == "rloo":
            wanted = rewards[row] - (own.sum() - rewards[row]) / (len(own) - 1)
        else:
            wanted = (rewards[row] - own.mean()) / (own.std() + 1e-4)
        torch.testing.assert_close(found[row], wanted)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(L.group_advantages(rewards[order], group[order], kind), found[order])
    named = [{5: "a", -1: "b", 9: "c"}[one] for one in group.tolist()]
    torch.testing.assert_close(L.group_advantages(rewards, named, kind), found)


def test_groups_of_one_and_equal_rewards() -> None:
    with pytest.raises(ArgumentError, match="a single response"):
        L.group_advantages(torch.tensor([1.0, 2.0, 3.0]), [0, 0, 1])
    assert L.group_advantages(torch.tensor([1.0, 2.0, 2.0]), [0, 1, 1], "grpo").tolist() == [0, 0, 0]
    with pytest.raises(ArgumentError, match="rloo, grpo"):
        L.group_advantages(torch.tensor([1.0, 2.0]), [0, 0], "ppo")
    with pytest.raises(ArgumentError, match="B group ids"):
        L.group_advantages(torch.tensor([1.0, 2.0]), [0])


def test_half_precision_is_widened() -> None:
    half = random(2, 3).bfloat16()
    assert L.clipped_surrogate(half, half, half).dtype == torch.float32
    assert L.group_advantages(half[0], [0, 0, 0]).dtype == torch.float32
