"""Evaluations of an online run: what is known of each sample, and how far is too far for what was gained."""

from __future__ import annotations

import math

import pytest
import torch

from pluralign.policy.online.evaluation import kl_beyond_gain, scored_samples
from pluralign.policy.online.rollouts import Rollout
from pluralign.policy.rewards.samples import ScoredSample, kl_at_least
from pluralign.policy.rewards.scoring import ResponseScores


def rollout(text, row=None, ended=True):
    talk = ({"role": "user", "content": "q"}, {"role": "assistant", "content": text})
    return Rollout(row or {}, 0, (1,), tuple(range(3)), (True,) * 3, talk, ended)


def test_samples_by_hand():
    scores = ResponseScores.of_numbers(torch.tensor([1.0, 2.0]))
    ratios = torch.tensor([[0.5, -0.25, 9.0], [1.0, 9.0, 2.0]])
    keep = torch.tensor([[True, True, False], [True, False, True]])
    rows = [rollout("one", {"ref_rewards": [0.0]}), rollout("two", ended=False)]
    first, second = scored_samples(rows, scores, torch.tensor([5.0, 6.0]), ratios, keep)
    assert (first.num_tokens, first.cut_off, first.reward, first.gold) == (2, False, 1.0, 5.0)
    assert (first.text, first.prompt, first.ref_rewards) == (
        "one",
        ({"role": "user", "content": "q"},),
        [0.0],
    )
    assert (second.cut_off, second.profile, second.ref_rewards) == (True, {"utility": 2.0}, None)
    assert first.log_ratio == pytest.approx(0.25)
    assert second.log_ratio == pytest.approx(3.0)
    assert first.k3 == pytest.approx(sum(math.exp(-d) - 1 + d for d in (0.5, -0.25)))
    assert scored_samples(rows, scores, None, ratios, keep)[0].gold is None


def sample(log_ratio):
    return ScoredSample(4, False, 1.0, log_ratio, 0.0, None, None)


def test_kl_over_what_the_gain_pays_for():
    samples = [sample(d) for d in (3.8, 4.0, 4.2, 4.0)]
    start = {"reward": 1.0, "reward_std": 0.0, "cut_off": 0.0}
    now = start | {"reward": 1.5}
    far = kl_at_least(samples)
    assert far == pytest.approx(4.0, abs=0.2)
    assert kl_beyond_gain(samples, now, start, 0.1, 1.0) == pytest.approx(far / (0.5 / 0.1))
    # Cut-off responses cost a penalty, which is part of the objective.
    cut = now | {"cut_off": 0.25}
    assert kl_beyond_gain(samples, cut, start, 0.1, 1.0) == pytest.approx(far / (0.25 / 0.1))
    # Doubt about the gain counts for the policy.
    wide = now | {"reward_std": 0.3}
    assert kl_beyond_gain(samples, wide, start, 0.1, 1.0) == pytest.approx(far / ((0.5 + 0.3) / 0.1))


def test_without_gain_or_without_distance():
    start = {"reward": 1.0, "reward_std": 0.0, "cut_off": 0.0}
    worse = start | {"reward": 0.5}
    assert kl_beyond_gain([sample(4.0)] * 4, worse, start, 0.1, 1.0) == 99.0
    assert kl_beyond_gain([sample(4.0)] * 4, start, start, 0.0, 1.0) == 0.0  # no KL, no price
    assert kl_beyond_gain([sample(-0.1)] * 4, worse, start, 0.1, 1.0) == 0.0
    assert kl_beyond_gain([sample(4.0)], worse, start, 0.1, 1.0) == 0.0  # one sample says nothing sure
