"""Best of n against all subsets, the KL bound against an exact distribution, fits against known curves."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pluralign.errors import ArgumentError
from pluralign.evaluation.best_of_n import best_of_n, best_of_n_kl, peak

NUMBERS = st.integers(-3, 3).map(float)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=7), st.data())
def test_mean_over_all_subsets(samples: list[tuple[float, float]], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(samples)))
    proxy, gold = np.array(samples).T
    winners = []
    for subset in combinations(range(len(samples)), n):
        chosen = [i for i in subset if proxy[i] == proxy[list(subset)].max()]
        winners.append(gold[chosen].mean())
    assert best_of_n(proxy, gold, [n])[0] == pytest.approx(np.mean(winners), abs=1e-12)


def test_ends_and_rows() -> None:
    rng = np.random.default_rng(0)
    proxy, gold = rng.normal(size=(2, 5, 400))
    curve = best_of_n(proxy, gold, [1, 20, 400])
    np.testing.assert_allclose(curve[:, 0], gold.mean(1))
    np.testing.assert_allclose(curve[:, 2], np.take_along_axis(gold, proxy.argmax(1)[:, None], 1)[:, 0])
    np.testing.assert_allclose(best_of_n(proxy[3], gold[3], [1, 20, 400]), curve[3])


def test_many_samples_give_the_expected_maximum() -> None:
    """The largest of n uniform draws is n/(n + 1) on average; a grid of N has (n (N + 1))/((n + 1) N)."""
    size = 20_000
    grid = np.arange(1, size + 1) / size
    sizes = np.array([1, 7, 100, 5_000])
    np.testing.assert_allclose(
        best_of_n(grid, grid, sizes.tolist()), sizes / (sizes + 1) * (size + 1) / size, rtol=1e-9
    )


def test_kl_is_that_of_the_distribution_of_the_maximum() -> None:
    """Under the base policy ranks are uniform on [0, 1]; the best of n has the distribution Beta(n, 1)."""
    for n in (1, 2, 5, 64):
        expected = -stats.beta(n, 1).entropy()  # KL to the uniform distribution
        assert best_of_n_kl([n])[0] == pytest.approx(expected, abs=1e-12)


def test_peak() -> None:
    found = peak([4.0, 1.0, 2.0, 3.0], [0.5, 1.0, 2.0, 2.0])
    assert (found.gold, found.kl, found.drop) == (2.0, 2.0, 1.5)
    assert peak([0.0, 1.0], [0.0, 1.0]).drop == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: best_of_n([1.0, 2.0], [1.0], [1]), "one shape"),
        (lambda: best_of_n([1.0, np.nan], [1.0, 1.0], [1]), "finite"),
        (lambda: best_of_n([1.0, 2.0], [1.0, 1.0], [3]), r"1\.\.2"),
        (lambda: best_of_n([1.0, 2.0], [1.0, 1.0], [1.5]), r"1\.\.2"),
        (lambda: best_of_n_kl([0]), "at least 1"),
        (lambda: peak([], []), "at least 1"),
        (lambda: peak([1.0], [np.inf]), "finite"),
    ],
)
def test_illegal_arguments(call: object, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        call()  # type: ignore[operator]
