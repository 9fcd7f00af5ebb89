"""Dominance: by hand, by its definition, by how often it errs, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pluralign.errors import ArgumentError
from pluralign.evaluation import dominance


def test_a_shifted_sample_dominates_in_both_orders():
    x = np.random.default_rng(0).normal(size=400)
    found = dominance(x + 1, np.random.default_rng(1).normal(size=400))
    for order in ("first", "second"):
        assert found[order]["verdict"] == "dominates"
        assert found[order]["confidence"] > 0.99
        assert found[order]["in_sample"]
    back = dominance(np.random.default_rng(1).normal(size=400), x + 1)
    assert {back[order]["verdict"] for order in ("first", "second")} == {"does not dominate"}
    json.dumps(found)


def test_less_spread_and_a_little_more_is_better_for_the_risk_averse_alone():
    generator = np.random.default_rng(2)
    calm, wild = 0.6 + 0.5 * generator.normal(size=1500), 2 * generator.normal(size=1500)
    found = dominance(calm, wild)
    assert found["second"]["verdict"] == "dominates"
    assert found["first"]["verdict"] == "does not dominate"  # the wild one is more often very high
    assert "risk-averse" in found["second"]["words"]


def test_a_higher_mean_with_worse_losses_is_not_better_for_the_risk_averse():
    generator = np.random.default_rng(3)
    bold, calm = 0.3 + 2 * generator.normal(size=2000), 0.5 * generator.normal(size=2000)
    found = dominance(bold, calm)
    assert found["difference"] > 0.2
    assert found["second"]["verdict"] == "does not dominate"
    assert found["second"]["worst"]["difference"] < 0


def test_in_sample_is_the_definition():
    """On ratings with a floor that leaves all apart: shares at most, and shortfalls, at every threshold."""
    generator = np.random.default_rng(4)
    seen = set()
    for _ in range(60):
        a, b = generator.integers(1, 6, size=(2, 40)).astype(float)
        found = dominance(a, b)
        both = np.concatenate([a, b])
        floor = np.sort(both)[int(0.05 * 79)]
        u, v = np.maximum(a, floor), np.maximum(b, floor)
        z = np.unique(np.concatenate([u, v]))
        second = np.array([np.maximum(s - v, 0).mean() - np.maximum(s - u, 0).mean() for s in z])
        second = np.where(np.abs(second) < 1e-12, 0, second)
        assert found["second"]["in_sample"] == bool((second >= 0).all() and (second > 0).any())
        seen.add(found["second"]["in_sample"])
    assert seen == {True, False}


def test_equal_policies_are_rarely_told_apart():
    generator = np.random.default_rng(5)
    wrong = 0
    for _ in range(200):
        a, b = generator.normal(size=(2, 60))
        found = dominance(a, b)
        wrong += any(found[order]["verdict"] == "dominates" for order in ("first", "second"))
        wrong += found["second"]["verdict"] == "does not dominate"
    assert wrong <= 20  # of at most 5 % in each direction


def test_groups_are_the_units():
    """Forty copies of each row say no more than one."""
    generator = np.random.default_rng(6)
    a, b = generator.normal(size=60) + 0.6, generator.normal(size=60)
    one = dominance(a, b)
    many = dominance(np.repeat(a, 40), np.repeat(b, 40), np.repeat(np.arange(60), 40))
    for order in ("first", "second"):
        assert many[order]["confidence"] == pytest.approx(one[order]["confidence"], abs=0.02)
    apart = dominance(np.repeat(a, 40), np.repeat(b, 40))
    assert 0.5 < one["second"]["confidence"] < 0.999 < apart["second"]["confidence"]


def test_samples_of_different_size_per_prompt():
    generator = np.random.default_rng(7)
    prompts = np.arange(30)
    a, b = generator.normal(size=90) + 2, generator.normal(size=60)
    found = dominance(torch.tensor(a), b.tolist(), np.repeat(prompts, 3), np.repeat(prompts, 2))
    assert found["rows"] == [90, 60]
    assert found["second"]["verdict"] == "dominates"


def test_where_every_group_agrees_the_confidence_is_that_of_signs():
    found = dominance([2.0] * 4, [1.0] * 4)
    assert found["second"]["confidence"] == 1 - 2**-4
    assert found["second"]["verdict"] == "not known"
    assert dominance([2.0] * 5, [1.0] * 5)["second"]["verdict"] == "dominates"
    assert dominance([1.0] * 5, [2.0] * 5)["second"]["verdict"] == "does not dominate"


def test_few_low_rewards_are_no_floor_for_all():
    rare = dominance([1.0] * 99 + [0.0], [1.0] * 100)
    assert rare["second"]["in_sample"] is False


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([1.0, np.nan], [1.0, 2.0]), r"a\[1\] is nan"),
        (([1.0, 2.0], [1.0, np.inf]), r"b\[1\] is inf"),
        (([1.0, 1.0], [1.0, 1.0]), "all rewards are 1"),
        (([1.0], [2.0]), "two groups"),
        (([1.0, 2.0], [1.0]), "one group per reward"),
        (([1.0, 2.0], [1.0, 2.0], ["p", "q"], ["p", "r"]), "same prompts"),
        (([], [1.0]), "at least one reward"),
    ],
)
def test_what_it_refuses(arguments, match):
    with pytest.raises(ArgumentError, match=match):
        dominance(*arguments)


def test_levels_are_shares():
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        dominance([1.0, 2.0], [0.0, 1.0], level=95)
