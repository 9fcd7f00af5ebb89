"""Objectives of offline policy fitting: tabular optima, plain re-computation, TRL, invariance, bad input."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from pluralign.errors import ArgumentError
from pluralign.losses.partition import log_partition
from pluralign.losses.policy import (
    dpo,
    length_normalised_beta,
    qrpo,
    qrpo_absolute,
    qrpo_pair,
    qrpo_target,
    rebel,
    simpo,
)

TRANSFORMS = ["identity", "log", "square", "sqrt", "normal:0.5:0.3", lambda t: t**3]


def draws(rows=64, seed=0):
    g = torch.Generator().manual_seed(seed)
    log_probs = -300 * torch.rand(4, rows, generator=g, dtype=torch.float64)
    return log_probs, torch.randn(2, rows, generator=g, dtype=torch.float64)


def table(transform, beta, atoms=200, seed=0):
    """A tabular reference policy, the exact ranks of its responses, and the optimum for them."""
    g = torch.Generator().manual_seed(seed)
    reference = torch.softmax(torch.randn(atoms, generator=g, dtype=torch.float64), 0)
    reward = torch.randn(atoms, generator=g, dtype=torch.float64).round(decimals=1)  # with ties
    below = (reward.unsqueeze(0) < reward.unsqueeze(1)).double() @ reference
    equal = (reward.unsqueeze(0) == reward.unsqueeze(1)).double() @ reference
    ranks = below + 0.5 * equal
    from pluralign.losses.transforms import parse_transform

    f = parse_transform(transform)(ranks)
    log_z = torch.logsumexp(f / beta + reference.log(), 0)
    return reference, ranks, f, log_z


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("loss", [qrpo, qrpo_absolute])
def test_loss_is_zero_and_stationary_at_the_tabular_optimum(transform, loss):
    beta = 0.3
    reference, ranks, f, log_z = table(transform, beta)
    logits = (reference.log() + f / beta).requires_grad_()
    log_policy = torch.log_softmax(logits, 0)
    values = loss(log_policy, reference.log(), ranks, beta, transform, log_partition=log_z)
    assert values.abs().max() < 1e-6
    if loss is qrpo:
        (slope,) = torch.autograd.grad((reference * values).sum(), logits)
        assert slope.abs().max() < 1e-12
    off = loss(log_policy.roll(1), reference.log(), ranks, beta, transform, log_partition=log_z)
    assert off.mean() > 1e-3


def test_descent_reaches_the_optimum():
    beta = 0.2
    reference, ranks, f, log_z = table("identity", beta, atoms=40, seed=1)
    optimum = torch.softmax(reference.log() + f / beta, 0)
    logits = reference.log().clone().requires_grad_()
    search = torch.optim.LBFGS([logits], lr=1.0, max_iter=300, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        search.zero_grad()
        values = qrpo(torch.log_softmax(logits, 0), reference.log(), ranks, beta=beta, log_partition=log_z)
        total = (reference * values).sum()
        total.backward()
        return total

    search.step(closure)
    assert (torch.softmax(logits, 0) - optimum).abs().max() < 1e-6


def test_exact_partition_fits_a_uniform_rank():
    """Where ranks are uniform the exact Z makes the optimum sum to one, and the loss there is zero."""
    n, beta = 100_000, 0.1
    ranks = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    reference = torch.full((n,), -math.log(n), dtype=torch.float64)
    optimum = torch.log_softmax(reference + ranks / beta, 0)
    assert qrpo(optimum, reference, ranks, beta=beta).max() < 1e-18


@pytest.mark.parametrize("beta", [1e-4, 0.01, 0.3, 10.0])
def test_qrpo_is_its_formula(beta):
    log_probs, _ = draws()
    ranks = torch.rand(64, dtype=torch.float64)
    log_z = math.log(beta) + 1 / beta + math.log1p(-math.exp(-1 / beta))
    error = ranks - beta * log_z - beta * (log_probs[0] - log_probs[1])
    ours = qrpo(log_probs[0], log_probs[1], ranks, beta=beta)
    torch.testing.assert_close(ours, error**2, rtol=1e-9, atol=1e-14)
    absolute = qrpo_absolute(log_probs[0], log_probs[1], ranks, beta=beta)
    torch.testing.assert_close(absolute, error.abs(), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(qrpo_target(ranks, beta), ranks - beta * log_z, rtol=1e-12, atol=1e-14)


def test_float32_log_probabilities_keep_their_gradient_and_dtype():
    policy = torch.tensor([-300.25, -12.5], requires_grad=True)
    loss = qrpo(policy, torch.tensor([-301.0, -12.0]), torch.tensor([0.9, 0.2]), beta=1e-3)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    target = qrpo_target(torch.tensor([0.9, 0.2]), 1e-3)
    expected = -2e-3 * (target - 1e-3 * torch.tensor([0.75, -0.5], dtype=torch.float64))
    torch.testing.assert_close(policy.grad.double(), expected, rtol=1e-6, atol=0)
    half = qrpo(policy.bfloat16(), policy.bfloat16(), torch.tensor([0.9, 0.2]), beta=0.1)
    assert half.dtype == torch.float32


def test_with_the_exact_partition_the_gradient_is_unbiased_for_any_number_of_references():
    """The loss is quadratic in the rank: its mean gradient depends on the mean rank only."""
    g = torch.Generator().manual_seed(0)
    reward = 0.8  # true rank of the response under uniform reference rewards
    for n in (1, 3, 10):
        ranks = (torch.rand(200_000, n, generator=g, dtype=torch.float64) <= reward).double().mean(1)
        policy = torch.zeros(200_000, dtype=torch.float64, requires_grad=True)
        qrpo(policy, torch.zeros_like(policy), ranks, beta=0.1).mean().backward()
        exact = -2 * 0.1 * (reward - 0.1 * log_partition(0.1).item())
        assert policy.grad.sum().item() == pytest.approx(exact, abs=4 * 0.2 * 0.4 / math.sqrt(200_000 * n))


def test_pairs_average_both_responses():
    log_probs, _ = draws()
    ranks = torch.rand(2, 64, dtype=torch.float64)
    ours = qrpo_pair(*log_probs, *ranks, beta=0.1, transform="sqrt")
    first = qrpo(log_probs[0], log_probs[2], ranks[0], 0.1, "sqrt")
    second = qrpo(log_probs[1], log_probs[3], ranks[1], 0.1, "sqrt")
    torch.testing.assert_close(ours, (first + second) / 2)


def test_length_normalised():
    tokens = torch.tensor([10, 50, 100, 1000])
    beta = length_normalised_beta(5.0, tokens)
    assert beta.tolist() == pytest.approx([0.1, 0.1, 0.05, 0.005])
    assert length_normalised_beta(5.0, tokens, maximum=None).tolist() == pytest.approx(
        [0.5, 0.1, 0.05, 0.005]
    )
    log_probs, _ = draws(4)
    ranks = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64)
    together = qrpo(log_probs[0], log_probs[1], ranks, beta=beta)
    alone = [qrpo(log_probs[0, [i]], log_probs[1, [i]], ranks[[i]], beta=beta[i].item()) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone))
    with pytest.raises(ArgumentError, match="at least one token"):
        length_normalised_beta(5.0, torch.tensor([0]))


def test_preference_losses_are_their_formulas():
    (c, r, rc, rr), (reward_c, reward_r) = draws()
    margin = (c - rc) - (r - rr)
    sigmoid = lambda x: 1 / (1 + torch.exp(-x))  # noqa: E731
    torch.testing.assert_close(dpo(c, r, rc, rr, beta=0.01), -torch.log(sigmoid(0.01 * margin)))
    ours = rebel(c, r, rc, rr, reward_c, reward_r, beta=0.05)
    torch.testing.assert_close(ours, ((reward_c - reward_r) / 0.05 - margin) ** 2)
    swapped = rebel(r, c, rr, rc, reward_r, reward_c, beta=0.05)
    torch.testing.assert_close(ours, swapped)
    means = c / 100, r / 100
    expected = -torch.log(sigmoid(2.5 * (means[0] - means[1] - 0.5)))
    torch.testing.assert_close(simpo(*means, beta=2.5), expected)
    torch.testing.assert_close(
        simpo(*means, beta=2.5, gamma_beta_ratio=0.3), -torch.log(sigmoid(2.5 * (means[0] - means[1] - 0.3)))
    )


def test_rebel_is_zero_at_the_optimum_of_the_raw_reward():
    beta = 0.7
    reference, _, _, _ = table("identity", beta)
    reward = torch.randn(200, dtype=torch.float64)
    optimum = torch.log_softmax(reference.log() + reward / beta, 0)
    i, j = torch.arange(100), torch.arange(100, 200)
    log_ref = reference.log()
    values = rebel(optimum[i], optimum[j], log_ref[i], log_ref[j], reward[i], reward[j], beta=beta)
    assert values.max() < 1e-20


def test_extreme_margins_stay_finite():
    big = torch.tensor([1e4, -1e4])
    zero = torch.zeros(2)
    assert dpo(big, zero, zero, zero, beta=10.0).tolist() == [0.0, 1e5]
    assert simpo(big, zero, beta=1.0, gamma_beta_ratio=0.0).tolist() == [0.0, 1e4]


def losses(c, r, rc, rr, reward_c, reward_r, ranks, beta):
    return [
        qrpo(c, rc, ranks, beta),
        qrpo_absolute(c, rc, ranks, beta, "square"),
        qrpo_pair(c, r, rc, rr, ranks, 1 - ranks, beta, "sqrt"),
        dpo(c, r, rc, rr, beta),
        rebel(c, r, rc, rr, reward_c, reward_r, beta),
        simpo(c, r, beta),
    ]


def test_the_split_into_batches_does_not_matter():
    log_probs, rewards = draws(8)
    given = [*log_probs, *rewards, torch.rand(8, dtype=torch.float64)]
    beta = torch.linspace(0.01, 1, 8, dtype=torch.float64)
    whole = losses(*given, beta)
    parts = [losses(*(x[[i]] for x in given), beta[[i]]) for i in range(8)]
    for k, loss in enumerate(whole):
        torch.testing.assert_close(loss, torch.cat([part[k] for part in parts]), rtol=1e-14, atol=0)


def test_gradients():
    log_probs, rewards = draws(5)
    leaves = [(x / 100).requires_grad_() for x in log_probs]
    ranks = torch.rand(5, dtype=torch.float64)

    def total(*leaves):
        return torch.stack(losses(*leaves, *rewards, ranks, 0.4))

    assert torch.autograd.gradcheck(total, leaves)


def test_illegal_arguments():
    x, ranks = torch.zeros(3), torch.tensor([0.1, 0.5, 0.9])
    with pytest.raises(ArgumentError, match="one shape"):
        qrpo(x, torch.zeros(2), ranks, beta=0.1)
    with pytest.raises(ArgumentError, match="one shape"):
        dpo(x, x, x.unsqueeze(0), x, beta=0.1)
    with pytest.raises(ArgumentError, match="must be a tensor"):
        qrpo(x, x, [0.1, 0.5, 0.9], beta=0.1)
    with pytest.raises(ArgumentError, match="positive and finite"):
        simpo(x, x, beta=0.0)
    with pytest.raises(ArgumentError, match="beta must be a number or have shape"):
        dpo(x, x, x, x, beta=torch.ones(2))
    with pytest.raises(ArgumentError, match=r"must lie in \[0, 1\]"):
        qrpo(x, x, ranks + 0.2, beta=0.1)
    for wrong in (math.nan, math.inf):
        with pytest.raises(ArgumentError, match=r"must lie in \[0, 1\]"):
            qrpo(x, x, ranks * wrong, beta=0.1)
        with pytest.raises(ArgumentError, match="finite"):
            rebel(x, x, x, x, x + wrong, x, beta=0.1)
    with pytest.raises(ArgumentError, match="clamp the ranks"):
        qrpo(x, x, ranks.round(), beta=0.1, transform="log")
    with pytest.raises(ArgumentError, match="log_partition must have shape"):
        qrpo(x, x, ranks, beta=0.1, log_partition=torch.zeros(2))
    for wrong in (math.nan, torch.tensor([0.0, 0.0, math.inf])):
        with pytest.raises(ArgumentError, match="log_partition must be finite"):
            qrpo(x, x, ranks, beta=0.1, log_partition=wrong)
    with pytest.raises(ArgumentError, match="log_partition must be a tensor, received str"):
        qrpo(x, x, ranks, beta=0.1, log_partition="exact")
    for wrong in (math.nan, None):
        with pytest.raises(ArgumentError, match="gamma_beta_ratio must be a finite number"):
            simpo(x, x, beta=2.0, gamma_beta_ratio=wrong)
    for loss in (lambda y: qrpo(y, x, ranks, 0.1), lambda y: dpo(x, y, x, x, 0.1), lambda y: simpo(y, x, 1)):
        with pytest.raises(ArgumentError, match="NaN"):
            loss(x * math.nan)


def same(tensor):
    return tensor


@pytest.mark.peer
@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_dpo_equals_trl(beta):
    """TRL's own loss code, on a model that answers with given log-probabilities; one pair at a time."""
    from collections import defaultdict

    from trl import DPOTrainer

    log_probs, _ = draws(16)
    log_probs = log_probs / 20
    accelerator = SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=same, gather=same)
    for c, r, rc, rr in log_probs.T:
        trainer = SimpleNamespace(
            model=SimpleNamespace(training=True),
            accelerator=accelerator,
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=True,
            f_divergence_type="reverse_kl",
            loss_types=["sigmoid"],
            loss_weights=[1.0],
            beta=beta,
            use_weighting=False,
            _metrics=defaultdict(lambda: defaultdict(list)),
            _total_train_tokens=0,
            _tp_size=1,
        )
        token = torch.stack((c, r)).unsqueeze(1)
        outputs = SimpleNamespace(
            log_probs=token, entropy=token, mean_logits=token, is_top1=torch.ones(2, 1, dtype=torch.bool)
        )
        ones = torch.ones(2, 2, dtype=torch.long)
        inputs = {"input_ids": ones, "attention_mask": ones, "completion_mask": ones}
        inputs |= {"ref_chosen_logps": rc.reshape(1), "ref_rejected_logps": rr.reshape(1)}
        theirs = DPOTrainer._compute_loss(trainer, lambda o=outputs, **kwargs: o, inputs, False)
        ours = dpo(*(x.reshape(1) for x in (c, r, rc, rr)), beta=beta)
        torch.testing.assert_close(ours.squeeze(0), theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.peer
@pytest.mark.parametrize("gamma", [0.2, 1.25])
def test_simpo_equals_trl(gamma):
    from trl.experimental.cpo import CPOTrainer

    log_probs, _ = draws()
    beta = 2.5
    trainer = SimpleNamespace(
        alpha=0.0,
        accelerator=SimpleNamespace(device="cpu"),
        loss_type="simpo",
        simpo_gamma=gamma,
        beta=beta,
        label_smoothing=0.0,
    )
    chosen, rejected = log_probs[0] / 100, log_probs[1] / 100
    theirs, _, _ = CPOTrainer.cpo_loss(trainer, chosen, rejected)
    ours = simpo(chosen, rejected, beta=beta, gamma_beta_ratio=gamma / beta)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
