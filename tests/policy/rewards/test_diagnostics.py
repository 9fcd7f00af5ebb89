"""The diagnosis before training: each number against its definition on data made for it."""

from __future__ import annotations

import math

import pytest
import torch
from datasets import Dataset

from pluralign.errors import ArgumentError
from pluralign.policy.rewards.diagnostics import diagnose, diagnose_table


def continuous(rows=2_000, n=8, seed=0):
    return torch.randn(rows, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_continuous_rewards_of_the_reference_policy():
    references = continuous()
    found = diagnose(references[:, 0], references, beta=0.1, leave_one_out=True)
    assert found.responses == 2_000
    assert found.references == (7, 7)
    assert found.among_references == 1.0
    assert found.tied_prompts == found.tie_probability == 0.0
    assert found.mean_rank == pytest.approx(0.5, abs=0.02)
    assert found.break_even == pytest.approx(0.770, abs=1e-3)
    # mid-ranks of 8 are k/7; 6/7 and 1 lie above .77
    assert found.positive_share == pytest.approx(2 / 8, abs=0.03)
    assert found.optimum_kl == pytest.approx(math.log(10) - 1, abs=2e-3)
    assert found.largest_log_ratio == pytest.approx((1 - 0.76974) / 0.1, abs=1e-3)
    assert found.advice == ()


def test_a_coin_is_reported_to_use_the_finite_partition():
    coin = (continuous() > 0).double()
    found = diagnose(coin[:, 0], coin, beta=0.01, leave_one_out=True)
    assert found.tie_probability == pytest.approx(0.5, abs=0.01)
    assert found.tied_prompts == pytest.approx(2 / 2**8, abs=0.006)
    assert found.positive_share < 0.01  # a success ties with others, so its mid-rank stays below break-even
    # under the finite Z a success is above average wherever a failure exists
    assert found.positive_share_finite == pytest.approx(0.5 - 1 / 2**8, abs=0.03)
    assert any("finite partition function" in note for note in found.advice)
    assert any("all tie" in note for note in found.advice)


def test_the_probability_of_a_tie_counts_pairs():
    references = torch.tensor([[1.0, 1.0, 2.0, 9.0], [3.0, 3.0, 3.0, 0.0]])
    keep = torch.tensor([[True, True, True, False], [True, True, True, True]])
    found = diagnose(torch.tensor([5.0, 5.0]), references, beta=0.1, keep_mask=keep)
    assert found.tie_probability == pytest.approx((1 / 3 + 3 / 6) / 2)


def test_all_references_tie():
    found = diagnose(torch.ones(3), torch.ones(3, 4), beta=0.1)
    assert found.tied_prompts == found.tie_probability == 1.0
    assert found.positive_share == found.positive_share_finite == 0.0


def test_single_references_and_transforms_that_need_clamping():
    references = continuous(n=1)
    found = diagnose(references[:, 0] + 1e-3, references, beta=0.5, transform="log")
    assert found.references == (1, 1)
    assert math.isnan(found.positive_share_finite)
    assert "needs two references" in str(found)
    assert "positive targets, finite Z  -" in str(found)
    # one stranger is no tie: its rank tells
    assert found.tied_prompts == 0.0
    assert found.break_even == pytest.approx((1 / 3) ** 0.5)


def test_the_table_prints():
    text = str(diagnose(continuous()[:, 0], continuous(), beta=0.1))
    assert "break-even quantile         0.7697" in text
    assert "positive targets, exact Z" in text


def test_tables():
    row = {"prompt": "p", "ref_rewards": [0.0, 1.0, 2.0]}
    pairs = [row | {"chosen": "a", "rejected": "b", "reward_chosen": 2.0, "reward_rejected": 0.0}] * 2
    among = [one | {"among_references": True} for one in pairs]
    for options in ({}, {"leave_one_out": None}):
        found = diagnose_table(Dataset.from_list(among), beta=0.1, **options)
        assert (found.responses, found.among_references, found.mean_rank) == (4, 1.0, 0.5)
        assert (found.references, found.unsaid_matches) == ((2, 2), 0.0)
    found = diagnose_table(Dataset.from_list(among), beta=0.1, leave_one_out=False)
    assert (found.among_references, found.references) == (0.0, (3, 3))
    apart = [one | {"among_references": False} for one in pairs]
    found = diagnose_table(Dataset.from_list(apart), beta=0.1)
    assert (found.among_references, found.references) == (0.0, (3, 3))
    unpaired = [
        row | {"completion": "a", "reward": 1.5, "among_references": None},
        row | {"completion": "a", "reward": 1.0, "ref_rewards": [1.0, 0.0], "among_references": True},
    ]
    found = diagnose_table(Dataset.from_list(unpaired), beta=0.1, transform="normal")
    assert found.references == (1, 3)


def test_rewards_among_their_references_without_a_flag():
    row = {"prompt": "p", "completion": "a", "ref_rewards": [0.0, 1.0, 2.0]}
    table = Dataset.from_list([row | {"reward": 2.0}, row | {"reward": 1.5}])
    found = diagnose_table(table, beta=0.1)
    assert (found.unsaid_matches, found.among_references, found.mean_rank) == (
        0.5,
        0.0,
        pytest.approx((2.5 / 3 + 2 / 3) / 2),
    )
    assert "! 50.0% of responses have exactly the reward of one of their references" in str(found)
    few = Dataset.from_list([row | {"reward": value} for value in (2.0, 1.5, 0.5)])
    assert "leave_one_out" not in str(diagnose_table(few, beta=0.1))
    said = diagnose_table(table, beta=0.1, leave_one_out=False)
    assert said.unsaid_matches == 0.0
    assert "leave_one_out" not in str(said)


def test_masks_of_any_kind_and_rewards_of_another_precision():
    references, keep = [[1.1, 3.3, 0.0], [2.2, 5.5, 6.6]], [[True, True, False], [True, True, True]]
    found = diagnose(torch.tensor([1.1, 2.2]), references, beta=0.1, leave_one_out=True, keep_mask=keep)
    assert (found.references, found.among_references) == ((1, 2), 1.0)


def test_advice_that_is_taken_is_not_given_again():
    rewards, references = torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 2)
    assert "use the finite partition" in str(diagnose(rewards, references, beta=0.1))
    taken = diagnose(rewards, references, beta=0.1, partition="finite")
    assert "use the finite partition" not in str(taken)
    assert "raise beta" in str(diagnose(torch.tensor([0.5]), references[:1], beta=1e-3))


def test_illegal_arguments():
    with pytest.raises(ArgumentError, match="no responses"):
        diagnose([], torch.zeros(0, 2), beta=1.0)
    with pytest.raises(ArgumentError, match="beta must be positive"):
        diagnose(torch.zeros(1), torch.ones(1, 2), beta=0.0)
    with pytest.raises(ArgumentError, match="received nan"):
        diagnose(torch.tensor([math.nan]), torch.ones(1, 2), beta=1.0)
