"""Spearman's correlation against scipy's, and its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pluralign.errors import ArgumentError
from pluralign.rank_correlation import mean_ranks, spearman

VALUES = st.floats(-5, 5, allow_subnormal=False)
ROWS = st.lists(st.tuples(st.integers(0, 5), VALUES), min_size=2, max_size=40)


@given(ROWS)
def test_it_is_scipys_also_with_ties(rows):
    x, y = torch.tensor(rows, dtype=torch.float64).T
    assert mean_ranks(x).tolist() == stats.rankdata(x).tolist()
    ours = spearman(x, y)
    if len(set(x.tolist())) == 1 or len(set(y.tolist())) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert spearman(x, -y) == pytest.approx(-ours, abs=1e-12)


def test_infinities_rank_and_float32_is_ranked_as_given():
    x = torch.tensor([-np.inf, 0.0, 1.0, np.inf])
    assert spearman(x, torch.arange(4.0)) == pytest.approx(1)
    assert spearman(x, torch.arange(4)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("first", "second"),
    [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([[1.0, 2.0]], [[1.0, 2.0]]), ([1.0, float("nan")], [1.0, 2.0])],
)
def test_illegal_columns(first, second):
    with pytest.raises(ArgumentError, match="rank"):
        spearman(torch.tensor(first), torch.tensor(second))
