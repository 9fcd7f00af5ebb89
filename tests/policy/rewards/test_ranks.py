"""Quantile rewards: counts by hand, the self-inclusion bias, uniformity, invariances, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pluralign.errors import ArgumentError
from pluralign.losses.partition import log_partition
from pluralign.losses.policy import qrpo_target
from pluralign.policy.rewards.ranks import (
    clamp_ranks,
    matched_share,
    num_references,
    pad_references,
    quantile_rewards,
    reference_ranks,
    tied_prompts,
)

GRID = torch.tensor([[1.0, 2.0, 2.0, 3.0, 5.0]])


def rank(reward, estimator, leave_one_out, references=GRID):
    given = torch.tensor([reward], dtype=torch.float64), references.double()
    return quantile_rewards(*given, estimator, leave_one_out).item()


def test_estimators_by_hand():
    assert rank(2.0, "inclusive", False) == 3 / 5
    assert rank(2.0, "inclusive", True) == 2 / 4
    assert rank(2.0, "mid", False) == 2 / 5
    assert rank(2.0, "mid", True) == 1.5 / 4
    assert rank(4.0, "mid", False) == rank(4.0, "inclusive", False) == 4 / 5
    assert rank(0.0, "mid", False) == 0.0
    assert rank(9.0, "inclusive", False) == 1.0
    for _ in range(20):
        assert 1 / 6 <= rank(2.0, "randomised", False) <= 4 / 6
        assert 1 / 5 <= rank(2.0, "randomised", True) <= 3 / 5


def test_the_default_is_mid_and_leaves_nothing_out():
    rewards = torch.tensor([2.0, 4.0])
    ours = quantile_rewards(rewards, GRID.expand(2, 5))
    assert ours.tolist() == pytest.approx([2 / 5, 4 / 5])
    assert ours.dtype == torch.float32
    assert quantile_rewards(rewards.double(), GRID.double().expand(2, 5)).dtype == torch.float64
    assert quantile_rewards([2, 4], [[1, 2], [3, 5]]).dtype == torch.float64
    said = quantile_rewards(rewards, GRID.expand(2, 5), leave_one_out=torch.tensor([True, False]))
    assert said.tolist() == pytest.approx([1.5 / 4, 4 / 5])


def test_a_tie_does_not_make_a_stranger_a_reference():
    """Grades 1-5 of probability .1 .2 .4 .2 .1, 4 references: mid-ranks of strangers by grade, on average.

    They are P(below) + P(equal) / 2. With a tie left out the worst grade would get
    E[(E - 1)+] / 6 = (.4 - 1 + .9^4) / 6 = .009, the best .991.
    """
    g = torch.Generator().manual_seed(0)
    grades = torch.multinomial(torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1]), 5 * 40_000, True, generator=g)
    rewards, references = grades.reshape(40_000, 5).double().split([1, 4], 1)
    ranks = quantile_rewards(rewards[:, 0], references)
    by_grade = [ranks[rewards[:, 0] == grade].mean().item() for grade in range(5)]
    assert by_grade == pytest.approx([0.05, 0.2, 0.5, 0.8, 0.95], abs=0.005)
    assert num_references(rewards[:, 0], references).unique().tolist() == [4]


def test_the_share_of_rewards_that_occur_among_their_references():
    references, keep = pad_references([[1.0, 2.0], [1.0, 2.0, 3.0], [0.5]])
    assert matched_share([2.0, 9.0, 0.0], references, keep) == pytest.approx(1 / 3)  # padding is no match
    assert matched_share([2.0, 1.0, 0.5], references, keep) == 1.0


@pytest.mark.parametrize(("n", "mean"), [(2, 0.75), (3, 2 / 3), (10, 0.55)])
def test_self_inclusion_bias_is_there_and_is_removed(n, mean):
    """Mean of the inclusive estimate for a response among its n references: (n + 1) / (2 n)."""
    g = torch.Generator().manual_seed(0)
    references = torch.randn(40_000, n, generator=g)
    biased = quantile_rewards(references[:, 0], references, "inclusive", leave_one_out=False)
    assert biased.mean().item() == pytest.approx(mean, abs=0.006)
    for estimator in ("inclusive", "mid", "randomised"):
        ours = quantile_rewards(references[:, 0], references, estimator, leave_one_out=True, generator=g)
        assert ours.mean().item() == pytest.approx(0.5, abs=0.008)


def test_the_only_response_among_one_reference():
    same = torch.ones(3, 1)
    assert quantile_rewards(same[:, 0], same, "inclusive", leave_one_out=False).tolist() == [1.0] * 3
    with pytest.raises(ArgumentError, match="row 0 has no reference besides the response itself"):
        quantile_rewards(same[:, 0], same, leave_one_out=True)
    assert quantile_rewards(torch.zeros(1), torch.ones(1, 1)).tolist() == [0.0]


@pytest.mark.parametrize("distribution", ["continuous", "coin", "grades"])
@pytest.mark.parametrize("among", [False, True])
@pytest.mark.parametrize("n", [2, 5])
def test_randomised_ranks_are_uniform(distribution, among, n):
    g = torch.Generator().manual_seed(1)
    draws = torch.rand(20_000, n + 1, generator=g)
    rewards = {"continuous": draws, "coin": (draws < 0.3).float(), "grades": (draws * 5).floor()}[
        distribution
    ]
    references = rewards if among else rewards[:, 1:]
    ranks = quantile_rewards(rewards[:, 0], references, "randomised", leave_one_out=among, generator=g)
    assert stats.kstest(ranks.numpy(), "uniform").pvalue > 1e-3


@given(
    st.lists(st.integers(-3, 3), min_size=2, max_size=8),
    st.sampled_from(["inclusive", "mid"]),
    st.randoms(use_true_random=False),
)
def test_only_the_order_of_rewards_counts(values, estimator, shuffle):
    references = torch.tensor([values], dtype=torch.float64)
    reward = references[:, 0]
    ours = quantile_rewards(reward, references, estimator, leave_one_out=True)
    places = list(range(len(values)))
    shuffle.shuffle(places)
    torch.testing.assert_close(ours, quantile_rewards(reward, references[:, places], estimator, True))
    # exact: a vectorised sinh may round equal numbers unequally
    rising = lambda x: 7 * x * x * x - 2  # noqa: E731
    torch.testing.assert_close(ours, quantile_rewards(rising(reward), rising(references), estimator, True))
    if estimator == "mid":  # turned around, ranks add to one
        torch.testing.assert_close(1 - ours, quantile_rewards(-reward, -references, estimator, True))


def test_the_split_into_batches_and_padding_do_not_matter():
    g = torch.Generator().manual_seed(2)
    lists = [torch.randn(k, generator=g).round(decimals=1).tolist() for k in (2, 5, 3, 8)]
    rewards = torch.tensor([row[-1] for row in lists], dtype=torch.float64)
    references, keep = pad_references(lists)
    for estimator in ("inclusive", "mid"):
        together = quantile_rewards(rewards, references, estimator, True, keep_mask=keep)
        alone = [
            quantile_rewards(rewards[[i]], torch.tensor([lists[i]], dtype=torch.float64), estimator, True)
            for i in range(4)
        ]
        torch.testing.assert_close(together, torch.cat(alone))
    hidden = references.masked_fill(~keep, math.nan)  # what a mask hides is not read
    again = quantile_rewards(rewards, hidden, "mid", True, keep_mask=keep)
    assert again.tolist() == together.tolist()


def test_reference_ranks_are_the_ranks_of_training_on_the_references():
    values = torch.tensor([[3.0, 1.0, 2.0, 2.0], [0.0, 5.0, 9.0, 0.0]])
    keep = torch.tensor([[True] * 4, [True, True, True, False]])
    ours = reference_ranks(values, keep_mask=keep)
    assert ours[0].tolist() == pytest.approx([1.0, 0.0, 0.5, 0.5])
    assert ours[1, :3].tolist() == pytest.approx([0.0, 0.5, 1.0])
    inclusive = reference_ranks(values[:1], "inclusive", leave_one_out=False)
    assert inclusive.tolist() == [[1.0, 0.25, 0.75, 0.75]]


def test_with_a_coin_the_finite_partition_asks_for_the_right_log_ratio():
    """A success of probability p should gain log(1/p) nats; the exact Z asks for log(1/b)."""
    coin = torch.tensor([[0.0] * 500 + [1.0] * 500])
    success = quantile_rewards(torch.ones(1), coin, "inclusive", leave_one_out=False)
    ranks = reference_ranks(coin, "inclusive", leave_one_out=False)
    finite = qrpo_target(success, 0.01, log_partition=log_partition(0.01, reference_ranks=ranks)) / 0.01
    exact = qrpo_target(success, 0.01) / 0.01
    assert finite.item() == pytest.approx(math.log(2), abs=1e-6)
    assert exact.item() == pytest.approx(math.log(100), abs=0.01)


def test_clamping():
    ranks = torch.tensor([0.0, 0.4, 1.0])
    assert clamp_ranks(ranks, 10).tolist() == pytest.approx([0.05, 0.4, 0.95])
    assert clamp_ranks(ranks, torch.tensor([1, 2, 4])).tolist() == pytest.approx([0.5, 0.4, 0.875])
    for wrong in (0, 0.2, -1):
        with pytest.raises(ArgumentError, match="must be at least 1"):
            clamp_ranks(ranks, wrong)


def test_tied_prompts():
    values = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 2.0], [1.0, 9.0, 9.0]])
    keep = torch.tensor([[True] * 3, [True] * 3, [True, False, False]])
    assert tied_prompts(values).tolist() == [True, False, False]
    assert tied_prompts(values, keep).tolist() == [True, False, True]
    assert quantile_rewards(values[:, 0], values, leave_one_out=True).tolist() == [0.5, 0.25, 0.0]


def test_a_callable_estimator():
    smoothed = lambda below, equal, count, generator: (below + 1) / (count + 2)  # noqa: E731
    assert rank(2.0, smoothed, True) == 2 / 6


def test_lists_and_arrays():
    ours = quantile_rewards([2.0], [[1.0, 3.0]])
    assert ours.tolist() == quantile_rewards(np.array([2.0]), np.array([[1.0, 3.0]])).tolist() == [0.5]


def test_arrays_keep_their_precision():
    half = quantile_rewards(np.float32([2.0]), np.float32([[1.0, 3.0]]))
    assert (half.dtype, quantile_rewards([2.0], [[1.0, 3.0]]).dtype) == (torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_response_finds_its_own_entry_in_another_precision(dtype):
    references = [[0.1, 0.2, 0.3], [0.3, 0.1, 0.7]]
    rewards = torch.tensor([0.1, 0.7], dtype=dtype)
    for told in (references, torch.tensor(references, dtype=torch.float64)):
        assert quantile_rewards(rewards, told, "inclusive", leave_one_out=True).tolist() == [0.0, 1.0]
        assert quantile_rewards(rewards, told, "inclusive", leave_one_out=False)[0].item() > 0.3


def test_an_empty_batch():
    assert quantile_rewards(torch.zeros(0), torch.zeros(0, 3)).shape == (0,)
    assert quantile_rewards([], torch.zeros(0, 3), "randomised").shape == (0,)
    assert reference_ranks(torch.zeros(0, 3)).shape == (0, 3)


def test_a_place_that_no_prompt_uses():
    keep = torch.tensor([[True, True, False], [True, True, False]])
    references = torch.tensor([[1.0, 2.0, math.nan], [4.0, 3.0, math.nan]])
    assert reference_ranks(references, keep_mask=keep).tolist() == [[0.0, 1.0, 0.5], [1.0, 0.0, 0.5]]


def test_the_number_of_references_leaves_the_own_entry_out():
    references, keep = pad_references([[1.0, 2.0, 3.0], [1.0, 2.0]])
    rewards = torch.tensor([2.0, 9.0])
    said = torch.tensor([True, False])
    assert num_references(rewards, references, said, keep).tolist() == [2, 2]
    for none in (None, False):
        assert num_references(rewards, references, none, keep).tolist() == [3, 2]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_numbers(wrong):
    with pytest.raises(ArgumentError, match=r"rewards\[1\]: received -?(nan|inf)"):
        quantile_rewards(torch.tensor([0.0, wrong]), torch.zeros(2, 2))
    with pytest.raises(ArgumentError, match=r"reference_rewards\[0, 1\]: received -?(nan|inf)"):
        quantile_rewards(torch.zeros(1), torch.tensor([[0.0, wrong]]))


def test_illegal_arguments():
    with pytest.raises(ArgumentError, match="did you mean 'inclusive'"):
        rank(2.0, "inclusiv", False)
    with pytest.raises(ArgumentError, match="row 0 is marked as being among its references"):
        rank(4.0, "mid", True)
    with pytest.raises(ArgumentError, match=r"shape \[B, N\]"):
        quantile_rewards(torch.zeros(2), torch.zeros(2))
    with pytest.raises(ArgumentError, match="2 rewards and 1 rows"):
        quantile_rewards(torch.zeros(2), GRID)
    with pytest.raises(ArgumentError, match="leave_one_out must be"):
        quantile_rewards(torch.zeros(1), GRID, leave_one_out=torch.tensor([1]))
    with pytest.raises(ArgumentError, match="keep_mask must be bool"):
        quantile_rewards(torch.zeros(1), GRID, keep_mask=torch.ones(5, dtype=torch.bool))
    with pytest.raises(ArgumentError, match="at least one reference reward"):
        pad_references([[1.0], []])
    for wrong in ([1.0, 2.0], [[None]], [[math.nan]], ["ab"]):
        with pytest.raises(ArgumentError, match="pad_references"):
            pad_references(wrong)
    for wrong in (["mid"], {}, None):
        with pytest.raises(ArgumentError, match="unknown estimator"):
            quantile_rewards([2.0], GRID, wrong)
    with pytest.raises(ArgumentError, match="leave_one_out must be bool, received 'yes'"):
        quantile_rewards([2.0], GRID, leave_one_out="yes")
    with pytest.raises(ArgumentError, match="keep_mask must be bool, received 'all'"):
        quantile_rewards([2.0], GRID, keep_mask="all")
    with pytest.raises(ArgumentError, match="not a tensor"):
        quantile_rewards(["a"], GRID)
