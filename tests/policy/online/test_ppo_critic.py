"""The distributional critic: its targets by hand, the spread that an average loses, what it learns."""

from __future__ import annotations

import pytest
import torch

import tiny_bandit
from pluralign import losses
from pluralign.errors import ConfigError
from pluralign.policy import PPOConfig, PPOTrainer
from pluralign.policy.online.critic_targets import baseline_of, token_targets, value_levels

KEEP = torch.tensor([[True, False, True, True]])


def mixture_targets(rewards, quantiles, keep, *options):
    """Of the kept tokens alone, in their order."""
    samples, weights = token_targets(rewards, quantiles, keep, *options)
    return samples[keep], weights[keep]


def by_hand(rewards, quantiles, gamma, lam, place):
    """{n: (weight, samples)} of one kept token."""
    count = len(rewards)
    found, left = [], 1.0
    for n in range(1, count - place + 1):
        ended = place + n == count
        weight = left if ended else left * (1 - lam)
        left -= weight
        total = sum(gamma**i * rewards[place + i] for i in range(n))
        rest = 0 * quantiles[0] if ended else quantiles[place + n]
        found.append((weight, total + gamma**n * rest))
    return found


@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_targets_are_a_mixture_over_n_step_returns(lam):
    torch.manual_seed(0)
    rewards, quantiles = torch.randn(1, 4), torch.randn(1, 4, 2)
    samples, weights = mixture_targets(rewards, quantiles, KEEP, 0.9, lam, 10)
    assert samples.shape == (3, 22)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    for place in range(3):
        expected = by_hand(rewards[KEEP], quantiles[KEEP], 0.9, lam, place)
        for power in (1, 2):
            moment = (samples[place] ** power * weights[place]).sum()
            own = sum(weight * (one**power).mean() for weight, one in expected)
            torch.testing.assert_close(moment, own, atol=1e-5, rtol=1e-5)


def test_targets_stand_at_the_place_of_their_token():
    torch.manual_seed(3)
    keep = torch.tensor([[False, True, False, True, True], [True] * 5, [False] * 5])
    rewards, quantiles = torch.randn(3, 5), torch.randn(3, 5, 2)
    hidden = rewards.masked_fill(~keep, torch.nan), quantiles.masked_fill(~keep[..., None], torch.inf)
    samples, weights = token_targets(*hidden, keep, 0.9, 0.6, 3)
    assert samples.shape == weights.shape == (3, 5, 8)
    assert not samples[~keep].any()
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 5))
    for row in range(2):  # alone, and without the tokens that are not kept
        alone = mixture_targets(
            rewards[row][keep[row]][None],
            quantiles[row][keep[row]][None],
            torch.ones(1, int(keep[row].sum())).bool(),
            0.9,
            0.6,
            3,
        )
        torch.testing.assert_close((samples[row][keep[row]], weights[row][keep[row]]), alone)


def test_its_mean_is_the_lambda_return():
    torch.manual_seed(1)
    rewards, quantiles = torch.randn(1, 4), torch.randn(1, 4, 3)
    samples, weights = mixture_targets(rewards, quantiles, KEEP, 1.0, 0.7, 10)
    _, returns = losses.gae(rewards, quantiles.mean(-1), KEEP, 1.0, 0.7)
    torch.testing.assert_close((samples * weights).sum(1), returns[KEEP], atol=1e-5, rtol=1e-5)


def test_a_cut_off_return_gives_the_rest_to_the_longest():
    rewards, quantiles = torch.ones(1, 4), torch.full((1, 4, 1), 5.0)
    samples, weights = mixture_targets(rewards, quantiles, torch.ones(1, 4).bool(), 1.0, 0.5, 1)
    assert samples[0].tolist() == [6.0, 7.0]  # one reward and Z; two rewards and Z
    assert weights[0].tolist() == [0.5, 0.5]


def test_the_mixture_keeps_the_variance_that_the_averaged_return_loses():
    """50 steps of reward N(0, 1): the return from the start has variance 50. The critic knows the truth."""
    torch.manual_seed(2)
    length, count = 50, 400
    rewards = torch.randn(count, length)
    left = torch.arange(length, 0, -1.0)
    levels = value_levels(32)
    normal = torch.special.ndtri(levels.double()).float()
    quantiles = (left.sqrt()[:, None] * normal).expand(count, length, 32)
    keep = torch.ones(count, length).bool()
    samples, weights = mixture_targets(rewards, quantiles, keep, 1.0, 0.95, 60)
    first = samples.reshape(count, length, -1)[:, 0], weights.reshape(count, length, -1)[:, 0]
    mixture = float((first[0] ** 2 * first[1]).sum(1).mean())
    _, averaged = losses.gae(rewards, torch.zeros_like(rewards), keep, 1.0, 0.95)
    assert mixture == pytest.approx(50, rel=0.12)
    assert float(averaged[:, 0].var()) < 15


def noisy(conversations):
    """Every answer is worth 0 or 2, by the toss of a coin."""
    return (torch.rand(len(conversations)).round() * 2).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["mean", "cvar:0.25"])
def test_it_learns_how_rewards_spread_where_a_single_value_knows_their_mean(tmp_path, baseline):
    torch.set_num_threads(1)
    config = PPOConfig(
        str(tmp_path),
        steps=20,
        prompts_per_step=4,
        completions=16,
        max_new_tokens=1,
        beta=0.0,
        missing_end_penalty=0.0,
        learning_rate=0.0,  # only the critic
        critic_learning_rate=0.1,
        value_weight=1.0,
        critic_quantiles=8,
        critic_kappa=0.0,
        critic_detached=True,
        critic_baseline=baseline,
        micro_batch_size=256,
        use_cpu=True,
    )
    made = PPOTrainer(
        tiny_bandit.model(),
        config,
        prompts=["xa", "xb"],
        reward=noisy,
        processing_class=tiny_bandit.tokenizer(),
    )
    made.train()
    rollouts = made._drawing.of_step(0)
    _, values = made._models.scores(rollouts, 1)
    low, high = values[..., :3].mean(), values[..., 5:].mean()
    assert float(low) < 0.5 < 1.5 < float(high)
    expected = values.mean(-1) if baseline == "mean" else values[..., :2].mean(-1)
    torch.testing.assert_close(baseline_of(values, baseline), expected, atol=0.15, rtol=0.1)


def test_a_risk_measure_of_a_single_value_is_refused():
    with pytest.raises(ConfigError, match="critic_quantiles"):
        PPOConfig(critic_baseline="cvar:0.1")
