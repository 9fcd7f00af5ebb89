"""Corrections against statsmodels, the literature and brute force; letters by what they promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralign.errors import ArgumentError
from pluralign.evaluation.multiplicity import holm, letters, shaffer

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(values):
    """A hypothesis is rejected where Bonferroni rejects every set of hypotheses that has it."""
    sets = [s for n in range(1, len(values) + 1) for s in itertools.combinations(range(len(values)), n)]
    adjusted = [
        max(min(1.0, len(s) * min(values[j] for j in s)) for s in sets if i in s) for i in range(len(values))
    ]
    assert holm(values) == pytest.approx(adjusted)


@pytest.mark.peer
@given(p_values)
def test_holm_is_that_of_statsmodels(values):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert holm(values) == pytest.approx(multitest.multipletests(values, method="holm")[1])


@pytest.mark.parametrize(
    ("systems", "left"),
    [(2, [1]), (3, [3, 1, 1]), (4, [6, 3, 3, 3, 2, 1]), (5, [10, 6, 6, 6, 6, 4, 4, 3, 2, 1])],
)
def test_shaffer_counts_the_pairs_that_may_be_equal(systems, left):
    """The factors as Shaffer's table 2 has them, read off p-values that are all small and equal in turn."""
    values = [1e-6 * 1000**i / 1000 ** len(left) for i in range(len(left))]
    found = np.array(shaffer(values, systems)) / np.array(values)
    assert found == pytest.approx(left)


def test_shaffer_counts_as_all_partitions_do():
    """The same numbers from every way to sort six systems into classes of equal ones."""
    possible = set()
    for labels in itertools.product(range(6), repeat=6):
        possible.add(sum(a == b for a, b in itertools.combinations(labels, 2)))
    expected = [max(n for n in possible if n <= 15 - done) for done in range(15)]
    values = [1e-30 * 100**i for i in range(15)]
    assert np.array(shaffer(values, 6)) / np.array(values) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_shaffer_never_exceeds_holm_and_keeps_the_order(values):
    ours, holms = shaffer(values, 4), holm(values)
    assert all(a <= b for a, b in zip(ours, holms, strict=True))
    assert all(a >= p for a, p in zip(ours, values, strict=True))
    ordered = [p for _, p in sorted(zip(values, ours, strict=True))]
    assert ordered == sorted(ordered)


@pytest.mark.parametrize(("values", "systems"), [([0.1], 3), ([], 1), ([0.1, 0.2, 0.3], 2)])
def test_shaffer_needs_every_pair(values, systems):
    with pytest.raises(ArgumentError, match="pairs"):
        shaffer(values, systems)


@given(st.integers(2, 7), st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6))))
def test_systems_share_a_letter_exactly_if_they_do_not_differ(count, chosen):
    names = [f"model {i}" for i in range(count)]
    different = {(names[a], names[b]) for a, b in chosen if a != b and max(a, b) < count}
    found = letters(names, different)
    apart = {frozenset(pair) for pair in different}
    for a, b in itertools.combinations(names, 2):
        assert bool(set(found[a]) & set(found[b])) == (frozenset((a, b)) not in apart)
    assert found[names[0]].startswith("a")


def test_letters_of_the_textbook():
    assert letters("xyz", []) == {"x": "a", "y": "a", "z": "a"}
    assert letters("xyz", [("x", "z")]) == {"x": "a", "y": "ab", "z": "b"}
    assert letters("xyz", [("z", "x"), ("y", "x")]) == {"x": "a", "y": "b", "z": "b"}
