"""pass@k without bias."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralign.errors import ArgumentError
from pluralign.policy.rewards.programs.pass_at_k import pass_at_k


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_it_is_the_share_of_draws_with_a_pass(programs, data):
    k = data.draw(st.integers(1, len(programs)))
    draws = list(itertools.combinations(programs, k))
    assert pass_at_k([programs], k) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_its_mean_is_that_of_k_independent_programs(k):
    n, p = 5, 0.3
    mean = sum(
        math.comb(n, c) * p**c * (1 - p) ** (n - c) * pass_at_k([[True] * c + [False] * (n - c)], k)
        for c in range(n + 1)
    )
    assert mean == pytest.approx(1 - (1 - p) ** k)


def test_mean_over_prompts_and_bad_input():
    assert pass_at_k([[True], [False, True], [False, False, False]], 1) == pytest.approx(0.5)
    for passed, k, words in (
        ([[True]], 2, "prompt 0 has 1"),
        ([], 1, "no prompts"),
        ([[True]], 0, "k is 0"),
        ([[True]], True, "k is True"),
    ):
        with pytest.raises(ArgumentError, match=words):
            pass_at_k(passed, k)
