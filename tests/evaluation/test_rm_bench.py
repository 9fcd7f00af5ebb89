"""RM-Bench: values derived by hand, and a per-cell count over random tables."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from pluralign.errors import ArgumentError
from pluralign.evaluation.rm_bench import RM_BENCH_DOMAINS, RM_BENCH_STYLES, rm_bench

SUBSETS = [name for members in RM_BENCH_DOMAINS.values() for name in members]


def full_table(reward, prompts=1, subsets=SUBSETS):
    """All nine style pairs of each prompt; `reward(right, style)` scores one response."""
    rows = list(itertools.product(subsets, range(prompts), range(3), range(3)))
    names = [subset for subset, _, _, _ in rows]
    chosen_styles = [RM_BENCH_STYLES[i] for _, _, i, _ in rows]
    rejected_styles = [RM_BENCH_STYLES[j] for _, _, _, j in rows]
    return (
        names,
        chosen_styles,
        rejected_styles,
        [reward(True, i) for _, _, i, _ in rows],
        [reward(False, j) for _, _, _, j in rows],
    )


def test_a_model_that_sees_style_only():
    result = rm_bench(*full_table(lambda right, style: float(style)))
    assert result["difficulty"] == {"hard": 0.0, "normal": 0.0, "easy": 1.0}
    assert result["overall"] == pytest.approx(1 / 3)


def test_a_model_that_sees_substance_only():
    result = rm_bench(*full_table(lambda right, style: float(right)))
    assert result["overall"] == 1.0
    assert result["missing"] == []


def test_substance_worth_one_and_a_half_styles():
    # Right answers win against the same style and the next one, and lose against two styles up.
    result = rm_bench(*full_table(lambda right, style: 1.5 * right + style))
    assert result["difficulty"] == pytest.approx({"hard": 2 / 3, "normal": 1.0, "easy": 1.0})
    assert result["matrices"]["chat"] == [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]


def test_domains_weigh_the_same_and_safety_is_the_mean_of_its_two():
    good = full_table(
        lambda right, style: float(right), prompts=1, subsets=["safety-refuse", "chat", "math", "code"]
    )
    bad = full_table(lambda right, style: -float(right), prompts=50, subsets=["safety-response"])
    result = rm_bench(*[a + b for a, b in zip(good, bad, strict=True)])
    assert result["domains"]["safety"] == {"hard": 0.5, "normal": 0.5, "easy": 0.5}
    assert result["overall"] == pytest.approx(3.5 / 4)


def test_matches_a_count_over_cells():
    generator = np.random.default_rng(0)
    names, chosen_styles, rejected_styles, _, _ = full_table(
        lambda right, style: 0.0, prompts=9, subsets=["code"]
    )
    chosen, rejected = generator.normal(size=81), generator.normal(size=81)
    wins = np.zeros((3, 3))
    for i, j, a, b in zip(chosen_styles, rejected_styles, chosen, rejected, strict=True):
        wins[RM_BENCH_STYLES.index(i), RM_BENCH_STYLES.index(j)] += a > b
    result = rm_bench(names, chosen_styles, rejected_styles, chosen, rejected)
    np.testing.assert_allclose(result["matrices"]["code"], wins / 9)
    assert result["difficulty"]["hard"] == pytest.approx(np.triu(wins / 9, 1).sum() / 3)
    assert result["difficulty"]["easy"] == pytest.approx(np.tril(wins / 9, -1).sum() / 3)


def test_equal_rewards_are_wrong():
    assert rm_bench(*full_table(lambda right, style: 1.0))["overall"] == 0.0


def test_a_copy_without_math_says_so():
    result = rm_bench(
        *full_table(lambda right, style: float(right), subsets=[s for s in SUBSETS if s != "math"])
    )
    assert result["missing"] == ["math"]
    assert result["overall"] == 1.0


def test_half_of_safety_is_not_safety():
    result = rm_bench(*full_table(lambda right, style: float(right), subsets=["chat", "safety-refuse"]))
    assert set(result["domains"]) == {"chat"}
    assert set(result["matrices"]) == {"chat", "safety-refuse"}


def test_an_empty_cell_is_none_and_not_zero():
    result = rm_bench(["chat"], ["concise"], ["detailed_plain"], [1.0], [0.0])
    assert result["matrices"]["chat"] == [[None, 1.0, None], [None] * 3, [None] * 3]
    assert result["overall"] is None
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (("chats", "concise", "concise", 1.0, 0.0), "did you mean 'chat'"),
        (("chat", "markdown", "concise", 1.0, 0.0), "did you mean 'detailed_markdown'"),
        (("chat", "concise", "concise", float("nan"), 0.0), "not a score"),
    ],
)
def test_illegal_tables(row, match):
    with pytest.raises(ArgumentError, match=match):
        rm_bench(*[[cell] for cell in row])
