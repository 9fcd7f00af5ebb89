"""Length control and length bias against numpy, scipy and planted effects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from pluralign.errors import ArgumentError
from pluralign.policy.rewards.length_control import LengthControl, fit_length_control, length_bias


def planted(effect, rows=300, n=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, 400, (rows, n), generator=g).double()
    quality = torch.randn(rows, n, generator=g, dtype=torch.float64)
    scale = 0.5 + 3 * torch.rand(rows, 1, generator=g, dtype=torch.float64)
    z = (lengths - lengths.mean(-1, keepdim=True)) / lengths.std(-1, keepdim=True)
    return scale * (quality + effect * z) + 10 * torch.randn(rows, 1, generator=g), lengths


def test_the_fit_is_least_squares_on_z_scores():
    rewards, lengths = planted(0.7)
    control = fit_length_control(rewards, lengths)
    z_r = stats.zscore(rewards.numpy(), axis=1).ravel()
    z_len = stats.zscore(lengths.numpy(), axis=1).ravel()
    slope, intercept = np.polyfit(z_len, z_r, 1)
    assert control.slope == pytest.approx(slope, rel=1e-10)
    assert abs(intercept) < 1e-12
    assert control.slope == pytest.approx(0.7 / np.sqrt(1.49), abs=0.03)
    assert control.prompts == 300


def test_what_follows_length_is_gone_and_the_rest_stays():
    rewards, lengths = planted(1.5)
    free = fit_length_control(rewards, lengths)(rewards, lengths, rewards, lengths)
    # Not quite 0: the fit is one slope for all prompts, and z-scores are taken anew.
    assert fit_length_control(rewards, lengths).slope > 0.8
    assert abs(fit_length_control(free, lengths).slope) < 0.06
    torch.testing.assert_close(free.mean(-1), rewards.mean(-1))
    by_hand = rewards[3] - fit_length_control(rewards, lengths).slope * (
        lengths[3] - lengths[3].mean()
    ) * rewards[3].std(correction=0) / lengths[3].std(correction=0)
    torch.testing.assert_close(free[3], by_hand)


def test_ragged_references_and_prompts_that_do_not_vary():
    rewards, lengths = planted(1.0, rows=6, n=5)
    keep = torch.ones(6, 5, dtype=torch.bool)
    keep[0, 3:] = False
    lengths[1] = 7.0
    rewards[2] = 0.1
    control = fit_length_control(rewards, lengths, keep)
    assert control.prompts == 4
    hidden = rewards.clone()
    hidden[0, 3:] = torch.nan
    assert fit_length_control(hidden, lengths, keep).slope == control.slope
    out = control(rewards, lengths, rewards, lengths, keep)
    assert torch.equal(out[1], rewards[1])
    assert torch.equal(out[2], rewards[2])


def test_length_bias_is_spearman_of_relative_length():
    g = torch.Generator().manual_seed(1)
    references = torch.randint(10, 100, (50, 6), generator=g).double()
    lengths = torch.randint(10, 100, (50,), generator=g).double()
    ratios = torch.randn(50, generator=g) + 0.02 * lengths.float()
    relative = (lengths - references.mean(-1)) / references.std(-1, correction=0)
    expected = stats.spearmanr(relative.numpy(), ratios.numpy()).statistic
    assert length_bias(ratios, lengths, references) == pytest.approx(expected, abs=1e-12)
    assert expected > 0.3


def test_illegal_arguments():
    ones = torch.ones(2, 3)
    with pytest.raises(ArgumentError, match="no prompt has references of different"):
        fit_length_control(ones, ones)
    with pytest.raises(ArgumentError, match="must be finite"):
        fit_length_control(ones * torch.nan, ones)
    with pytest.raises(ArgumentError, match="one shape"):
        fit_length_control(ones, ones[:1])
    with pytest.raises(ArgumentError, match="needs tensors, received list"):
        fit_length_control(ones.tolist(), ones)
    control = LengthControl(0.5, 2)
    with pytest.raises(ArgumentError, match="responses to 1 prompts and references of 2"):
        control(ones[:1], ones[:1], ones, ones)
    with pytest.raises(ArgumentError, match="responses to 1 prompts and references of 2"):
        length_bias(ones[:1, 0], ones[:1, 0], ones)
    with pytest.raises(ArgumentError, match=r"tensors of shape \[B\]"):
        length_bias([0.1, 0.2], ones[:, 0], ones)
    spread = torch.arange(6.0).reshape(2, 3)
    with pytest.raises(ArgumentError, match="at least 2"):
        length_bias(ones[:1, 0], ones[:1, 0], spread[:1])
    assert length_bias(ones[:, 0], torch.tensor([1.0, 9.0]), spread) is None  # a constant has no ranks
