"""The steps between a utility and its advantages, each alone, and their order."""

from __future__ import annotations

import pytest
import torch

from pluralign import losses, risk
from pluralign.distributions import GaussianEnsemble
from pluralign.policy.online.advantages import ADVANTAGES
from pluralign.policy.online.end_penalty import penalize_missing_end
from pluralign.policy.online.normalization import Moments, normalize
from pluralign.policy.online.shaping import Shaping, shape
from pluralign.policy.online.token_rewards import last_kept, token_rewards
from pluralign.policy.online.update_loss import Drawn, scalar_value_error, update_loss
from pluralign.policy.online.whitening import whiten

KEEP = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [0, 1, 1, 0]]).bool()  # a hole, one token, a late start


def test_running_moments_are_those_of_all_rewards():
    batches = [torch.tensor([1.0, 4.0]), torch.tensor([2.0]), torch.tensor([-3.0, 0.5, 7.0])]
    moments = Moments()
    for batch in batches:
        scaled, moments = normalize(batch, moments)
    whole = torch.cat(batches).double()
    assert moments.count == 6
    assert moments.mean == pytest.approx(float(whole.mean()))
    assert moments.std == pytest.approx(float(whole.std(correction=0)))
    torch.testing.assert_close(
        scaled, ((batches[-1] - whole.mean()) / (whole.std(correction=0) + 1e-4)).float()
    )


def test_constant_rewards_are_normalized_to_0():
    scaled, moments = normalize(torch.full((5,), 0.1), Moments())
    assert scaled.abs().max() < 1e-3
    again, _ = normalize(torch.full((5,), 0.1), moments)
    assert again.abs().max() < 1e-3


def test_processes_normalize_as_one():
    """Two processes whose sums are added, against one that has all."""
    parts = [torch.tensor([1.0, 2.0]), torch.tensor([6.0, -1.0])]
    whole, moments = normalize(torch.cat(parts), Moments())
    mean = torch.cat(parts).mean().double()
    squares = sum((part.double() - mean).square().sum() for part in parts)
    answers = iter([torch.tensor([4.0, 8.0]).double(), squares[None]])
    half, other = normalize(parts[0], Moments(), lambda sums: next(answers))
    torch.testing.assert_close(half, whole[:2])
    assert (other.mean, other.squares) == pytest.approx((moments.mean, moments.squares))


def test_the_missing_end_costs_its_penalty():
    found = penalize_missing_end(torch.tensor([1.0, 2.0]), torch.tensor([True, False]), 0.5)
    assert found.tolist() == [1.0, 1.5]


def test_the_reward_stands_at_the_last_kept_token_and_the_kl_at_each():
    log_probs = torch.tensor([[-1.0, -2.0, -9.0, -3.0], [-1.0, 0, 0, 0], [0, -1.0, -2.0, 0]])
    reference = torch.tensor([[-1.5, -1.0, -9.0, -3.5], [-3.0, 0, 0, 0], [0, -1.0, -1.0, 5.0]])
    found = token_rewards(torch.tensor([10.0, 20.0, 30.0]), log_probs, reference, KEEP, 0.1)
    expected = [[-0.05, 0.1, 0, -0.05 + 10], [-0.2 + 20, 0, 0, 0], [0, 0, 0.1 + 30, 0]]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert last_kept(KEEP).nonzero().tolist() == [[0, 3], [1, 0], [2, 2]]
    nothing = token_rewards(torch.ones(1), log_probs[:1], reference[:1], torch.zeros(1, 4).bool(), 0.1)
    assert nothing.abs().sum() == 0  # a response without a token of its own


@pytest.mark.parametrize("kind", ["rloo", "grpo"])
def test_group_advantages_compare_whole_returns_the_kl_included(kind):
    rewards = torch.tensor([[1.0, 0, 0, 2.0], [5.0, 0, 0, 0], [0, -1.0, 2.0, 0]])
    advantages, returns = ADVANTAGES[kind].function(rewards, None, KEEP, [7, 7, 7], 1.0, 1.0)
    expected = losses.group_advantages(torch.tensor([3.0, 5.0, 1.0]), [7, 7, 7], kind)
    torch.testing.assert_close(advantages, expected[:, None] * KEEP)
    assert returns is None


def test_whitened_advantages_have_mean_0_and_spread_1_over_kept_tokens():
    advantages = torch.arange(12.0).reshape(3, 4)
    found = whiten(advantages, KEEP)
    kept = found[KEEP]
    assert float(kept.mean()) == pytest.approx(0, abs=1e-6)
    assert float(kept.std(correction=0)) == pytest.approx(1)
    assert found[~KEEP].abs().sum() == 0
    constant = whiten(torch.full((3, 4), 0.3), KEEP)
    assert constant.abs().max() < 1e-3


def settings(**changes):
    given = {
        "advantages": "gae",
        "beta": 0.1,
        "gamma": 1.0,
        "lam": 0.9,
        "normalize_rewards": True,
        "missing_end_penalty": 2.0,
        "whiten": True,
    }
    return Shaping(**(given | changes))


def tensors():
    torch.manual_seed(3)
    log_probs, reference, values = -torch.rand(3, 4), -torch.rand(3, 4), torch.randn(3, 4)
    return torch.tensor([1.0, 5.0, -2.0]), torch.tensor([True, False, True]), log_probs, reference, values


def test_the_steps_come_in_the_promised_order():
    """By hand, one after another; any two exchanged give other numbers."""
    utilities, ended, log_probs, reference, values = tensors()
    before = Moments(4.0, 0.5, 8.0)
    found = shape(utilities, ended, log_probs, reference, values, KEEP, [0, 1, 2], before, settings())

    everything = before.merged(Moments(3.0, float(utilities.mean()), float(utilities.var(correction=0)) * 3))
    scaled = (utilities - everything.mean) / (everything.std + 1e-4)
    punished = scaled - 2.0 * torch.tensor([0.0, 1.0, 0.0])  # not scaled with the rewards
    torch.testing.assert_close(found.rewards, punished)
    per_token = -0.1 * (log_probs - reference) * KEEP  # not scaled either
    per_token[[0, 1, 2], [3, 0, 2]] += punished
    torch.testing.assert_close(found.token_rewards, per_token)
    advantages, returns = losses.gae(per_token, values, KEEP, 1.0, 0.9)
    torch.testing.assert_close(found.returns, returns)  # of advantages that are not whitened
    kept = advantages[KEEP]
    expected = torch.zeros(3, 4)
    expected[KEEP] = (kept - kept.mean()) / (kept.var(correction=0) + 1e-8).sqrt()
    torch.testing.assert_close(found.advantages, expected)
    assert found.moments.count == 7


@pytest.mark.filterwarnings("ignore::pluralign.errors.RiskWarning")
def test_robust_mixes_before_anything_is_whitened():
    """BRME's objective is linear in the rewards: those of the mixture, not a mixture of whitened ones."""
    means = torch.tensor([[0.0, 4.0], [1.0, 2.0], [9.0, 3.0]])
    distribution = GaussianEnsemble(means, torch.tensor([[1.0, 0.5], [1.0, 0.5], [1.0, 0.5]]))
    _, ended, log_probs, reference, _ = tensors()

    def advantages(measure, **changes):
        utilities = risk.parse(measure)(distribution)
        given = settings(advantages="rloo", normalize_rewards=False, **changes)
        done = shape(utilities, ended, log_probs, reference, None, KEEP, [0, 0, 0], Moments(), given)
        return done.advantages

    parts = [advantages(one, whiten=False) for one in ("nominal", "worst_case")]
    mixed = 0.4 * parts[0] + 0.6 * parts[1]
    torch.testing.assert_close(advantages("robust:0.4", whiten=False), mixed)
    torch.testing.assert_close(advantages("robust:0.4", whiten=True), whiten(mixed, KEEP))
    whitened_parts = 0.4 * whiten(parts[0], KEEP) + 0.6 * whiten(parts[1], KEEP)
    assert (advantages("robust:0.4", whiten=True) - whiten(whitened_parts, KEEP)).abs().max() > 0.05


def test_the_loss_is_the_two_clipped_ones_over_kept_tokens():
    _, _, log_probs, old, values = tensors()
    drawn = Drawn(old, KEEP, torch.randn(3, 4), old, values[..., None], torch.randn(3, 4))
    new_values = values + 0.5
    error = scalar_value_error(0.1)
    loss, sums = update_loss(log_probs, new_values[..., None], drawn, 0.2, error, 0.3)
    surrogate = losses.clipped_surrogate(log_probs, old, drawn.advantages, 0.2)[KEEP].sum()
    error = losses.clipped_value(new_values, values, drawn.returns, 0.1)[KEEP].sum()
    torch.testing.assert_close(loss, surrogate + 0.3 * error)
    ratios = (log_probs - old).exp()[KEEP]
    assert float(sums["clipped"]) == float(((ratios - 1).abs() > 0.2).sum())
    k3 = ratios - 1 - ratios.log()  # of KL(old || new), from draws of the old
    torch.testing.assert_close(sums["kl"], k3.sum())
