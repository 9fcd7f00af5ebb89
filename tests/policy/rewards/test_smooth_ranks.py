"""Smooth scores from reward distributions: closed form, their shrinking spread, uniform ranks."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from pluralign.distributions import Categorical, GaussianEnsemble, Point
from pluralign.errors import ArgumentError
from pluralign.policy.rewards.ranks import reference_ranks
from pluralign.policy.rewards.smooth_ranks import (
    smooth_quantile_rewards,
    smooth_reference_ranks,
    smooth_scores,
)


def gaussians(means, std):
    flat = means.reshape(-1, 1).double()
    return GaussianEnsemble(flat, torch.full_like(flat, std))


def test_scores_of_gaussians():
    means = torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)
    ours = smooth_scores(gaussians(means, 0.8), 3)[0]
    wins = stats.norm.cdf((means.T - means).numpy() / (0.8 * 2**0.5))
    expected = (wins.sum(1) - 0.5) / 2
    assert ours.tolist() == pytest.approx(expected.tolist(), abs=1e-9)


def test_points_give_plain_ranks():
    values = torch.randn(20, 5).round(decimals=1)
    ours = smooth_scores(Point(values.flatten()), 5)
    torch.testing.assert_close(ours, reference_ranks(values.double()), rtol=0, atol=1e-9)


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.0])
def test_scores_are_not_uniform_but_their_ranks_are(spread):
    """With standard normal means the score of mean m is Phi(a m), a^2 = 1/(1 + 2 s^2), for many references.

    Its variance is asin(a^2 / (1 + a^2)) / (2 pi): .275^2, .200^2 and .126^2 instead of .289^2.
    """
    g = torch.Generator().manual_seed(0)
    means = torch.randn(600, 40, generator=g)
    distributions = gaussians(means, spread)
    scores = smooth_scores(distributions, 40)
    squared = 1 / (1 + 2 * spread**2)
    expected = math.sqrt(math.asin(squared / (1 + squared)) / (2 * math.pi))
    assert scores.std().item() == pytest.approx(expected, abs=0.008)
    assert scores.mean().item() == pytest.approx(0.5, abs=1e-9)
    ranks = smooth_reference_ranks(distributions, 40, "randomised", g)[:, 0]
    assert stats.kstest(ranks.numpy(), "uniform").pvalue > 1e-3


def test_a_response_apart_from_its_references_is_uniform_too():
    g = torch.Generator().manual_seed(1)
    means = torch.randn(4_000, 4, generator=g)
    ranks = smooth_quantile_rewards(
        gaussians(means[:, 0], 1.0), gaussians(means[:, 1:], 1.0), "randomised", g
    )
    assert stats.kstest(ranks.numpy(), "uniform").pvalue > 1e-3
    better = smooth_quantile_rewards(gaussians(means[:, 0] + 9, 1.0), gaussians(means[:, 1:], 1.0))
    assert better.min() == 1.0


def test_equal_distributions_tie():
    probs = torch.tensor([[0.2, 0.8], [0.7, 0.3], [0.2, 0.8], [0.2, 0.8]], dtype=torch.float64)
    distributions = Categorical(probs, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert smooth_reference_ranks(distributions, 4).tolist() == [pytest.approx([2 / 3, 0.0, 2 / 3, 2 / 3])]


def test_illegal_arguments():
    distributions = gaussians(torch.zeros(6), 1.0)
    with pytest.raises(ArgumentError, match="a multiple"):
        smooth_scores(distributions, 4)
    with pytest.raises(ArgumentError, match="at least two completions"):
        smooth_scores(distributions, 1)
    with pytest.raises(ArgumentError, match="received 4 responses"):
        smooth_scores(distributions, 2, distributions[:4])
