"""Selection of completions: closed forms, the published algorithm, and laws of chance."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralign.errors import ArgumentError
from pluralign.policy.selection.rules import (
    at_least,
    pair_among,
    pair_with_worst,
    rejection_sample,
    threshold_of_share,
    top_k,
)

UTILITIES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@given(UTILITIES, st.integers(1, 14))
def test_top_k_are_the_highest_and_the_first_of_equals(utilities, k):
    found = top_k(utilities, k)
    expected = np.lexsort((np.arange(len(utilities)), -np.array(utilities)))[:k]
    assert found == expected.tolist()


@given(UTILITIES, st.integers(1, 100))
def test_a_share_reaches_its_threshold_and_no_higher_one(utilities, percent):
    threshold = threshold_of_share(utilities, percent / 100)
    assert 100 * sum(u >= threshold for u in utilities) >= percent * len(utilities)
    assert 100 * sum(u > threshold for u in utilities) < percent * len(utilities)
    found = at_least(utilities, threshold)
    assert sorted(found) == [i for i, u in enumerate(utilities) if u >= threshold]
    assert [utilities[i] for i in found] == sorted((utilities[i] for i in found), reverse=True)


def test_a_tenth_of_ten_is_one():
    assert all(
        threshold_of_share([float(i) for i in range(n)], 0.1) == n - n // 10 for n in range(10, 200, 10)
    )


def published(candidates, beta, num, rng):
    """Algorithm 1 of Liu et al. 2023 on a random order in each round."""
    accepted, remaining = [], dict(enumerate(candidates))
    while len(accepted) < num:
        largest, done = max(remaining.values()), []
        keys = list(remaining)
        rng.shuffle(keys)
        for key in keys:
            if rng.uniform() >= np.exp((remaining[key] - largest) / beta):
                continue
            accepted.append(key)
            done.append(key)
            if len(accepted) == num:
                break
        for key in done:
            del remaining[key]
    return frozenset(accepted)


def test_rounds_accept_as_the_published_algorithm_does():
    utilities, draws = [0.0, 0.5, 0.9, 1.0], 4000
    rng = np.random.default_rng(1)
    ours = Counter(frozenset(rejection_sample(utilities, 0.5, Random(i), 2)) for i in range(draws))
    theirs = Counter(published(utilities, 0.5, 2, rng) for _ in range(draws))
    for one in ours | theirs:
        assert abs(ours[one] - theirs[one]) < 5 * math.sqrt(draws / 2)


def test_one_round_accepts_with_the_stated_probability():
    utilities, beta, draws = [0.2, -0.4, 1.0, 0.7], 0.6, 4000
    found = [rejection_sample(utilities, beta, Random(i)) for i in range(draws)]
    for i, utility in enumerate(utilities):
        expected = math.exp((utility - 1.0) / beta)
        share = sum(i in one for one in found) / draws
        assert abs(share - expected) <= 5 * math.sqrt(expected * (1 - expected) / draws)
    assert all(2 in one for one in found)


def test_accepted_samples_follow_the_tilted_distribution():
    """Completions drawn from p become draws from p exp(u / beta) / Z."""
    probs, utility, beta = np.array([0.5, 0.3, 0.2]), np.array([0.0, 0.4, 1.0]), 0.8
    rng, counts = np.random.default_rng(0), np.zeros(3)
    for i in range(600):
        drawn = rng.choice(3, size=40, p=probs)  # 40 hold the best of three nearly surely
        accepted = rejection_sample(utility[drawn].tolist(), beta, Random(i))
        counts += np.bincount(drawn[accepted], minlength=3)
    tilted = probs * np.exp(utility / beta)
    tilted /= tilted.sum()
    assert np.abs(counts / counts.sum() - tilted).max() < 5 * 0.5 / math.sqrt(counts.sum())


@given(UTILITIES, st.integers(1, 14), st.integers(0, 9))
def test_as_many_as_asked_for_are_accepted_once_each(utilities, num, seed):
    found = rejection_sample(utilities, 0.01, Random(seed), num)
    assert len(found) == len(set(found)) == min(num, len(utilities))
    assert found == rejection_sample(utilities, 0.01, Random(seed), num)


@given(UTILITIES, st.integers(1, 12), st.sampled_from([0.0, 1.0, 2.5]), st.integers(0, 9))
def test_pairs_use_each_once_and_keep_the_margin(utilities, k, margin, seed):
    selected = top_k(utilities, k)
    worst = pair_with_worst(utilities, selected, margin)
    among = pair_among(utilities, selected, Random(seed), margin)
    for pairs in (worst, among):
        used = [place for pair in pairs for place in pair]
        assert len(used) == len(set(used))
        assert all(utilities[good] - utilities[bad] > margin for good, bad in pairs)
    assert all(good in selected and bad not in selected for good, bad in worst)
    assert all(good in selected and bad in selected for good, bad in among)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top_k([1.0], 0), "k must be at least 1"),
        (lambda: top_k([1.0, math.nan]), r"utilities\[1\]: received nan"),
        (lambda: at_least([1.0], math.inf), "threshold must be finite"),
        (lambda: threshold_of_share([1.0], 0.0), r"share must lie in \(0, 1\]"),
        (lambda: threshold_of_share([], 0.5), "received no utilities"),
        (lambda: rejection_sample([1.0], 0.0, Random(0)), "beta must be positive"),
        (lambda: rejection_sample([1.0], 1.0, Random(0), 0), "num must be at least 1"),
        (lambda: rejection_sample([math.inf], 1.0, Random(0)), "allowed: finite"),
        (lambda: pair_with_worst([1.0, 2.0], [0], -1.0), "margin must be finite and at least 0"),
        (lambda: pair_among([1.0, 2.0], [0], Random(0), math.nan), "margin must be finite"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
