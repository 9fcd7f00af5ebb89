"""Judges as sources: columns, repeated scores, token probabilities; other rows and NaN are refused."""

from __future__ import annotations

import pytest
import torch

from fake_backbone import talk
from pluralign.distributions import Categorical, Empirical, Point
from pluralign.errors import ArgumentError
from pluralign.model import Scorer, judge_probabilities, judge_scores

ROWS = [talk("good"), talk("bad"), talk("good", prompt="another")]


def test_a_column_is_looked_up_by_the_text():
    judge = judge_scores(ROWS, [5, 1, 3])
    assert isinstance(judge, Scorer)
    assert isinstance(judge.distribution(ROWS), Point)
    assert judge.score([ROWS[2], ROWS[0], ROWS[2]]).tolist() == [3.0, 5.0, 3.0]
    copied = [[{"content": m["content"], "role": m["role"], "extra": "x"} for m in ROWS[1]]]
    assert judge.score(copied).tolist() == [1.0]
    assert judge.preference_probability(ROWS[:1], ROWS[1:2]).tolist() == [1.0]
    assert judge.score([]).shape == (0,)


def test_one_conversation_may_have_one_reward_only_but_for_rounding():
    last_place = torch.nextafter(torch.tensor(3.1), torch.tensor(9.0))
    judge = judge_scores(
        [ROWS[0], ROWS[1], ROWS[0]], torch.stack([torch.tensor(3.1), last_place, last_place])
    )
    assert judge.score(ROWS[:1]).tolist() == pytest.approx([3.1])
    with pytest.raises(ArgumentError, match="different rewards"):
        judge_scores([ROWS[0], ROWS[1], ROWS[0]], [3.1, 3.1, 3.1001])


def test_repeated_scores_are_a_spread():
    judge = judge_scores(ROWS, [[1.0, 5.0], [2.0, float("nan")], [3.0, 3.0]])
    distribution = judge.distribution(ROWS)
    assert isinstance(distribution, Empirical)
    assert distribution.mean().tolist() == [3.0, 2.0, 3.0]
    assert distribution.std().tolist() == [2.0, 0.0, 0.0]


def test_token_probabilities_are_categories():
    distribution = judge_probabilities(ROWS, [[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]], [1, 9]).distribution(
        ROWS
    )
    assert isinstance(distribution, Categorical)
    assert distribution.mean().tolist() == [5.0, 1.0, 7.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: judge_scores(ROWS, [1.0, 2.0]), "3 conversations and 2 rows of scores"),
        (lambda: judge_scores(ROWS, [1.0, float("nan"), 2.0]), "row 1 has no score"),
        (lambda: judge_scores(ROWS, [1.0, float("inf"), 2.0]), "row 1 has an infinite score"),
        (lambda: judge_scores(ROWS, [[1.0], [float("nan")], [2.0]]), "row 1 has no score"),
        (lambda: judge_scores(ROWS, [[1.0], [float("inf")], [2.0]]), "row 1 has an infinite score, one of 1"),
        (lambda: judge_scores(ROWS, ["7", "1", "2"]), "scores must be numbers, row by row: row 0 has '7'"),
        (lambda: judge_scores(ROWS, [1.0, None, 2.0]), "row 1 has None; for a missing score, pad with NaN"),
        (lambda: judge_scores(ROWS, [[1.0], [2.0, 3.0], [1.0]]), "different lengths; pad with NaN"),
        (lambda: judge_scores(ROWS, 3.0), r"scores must be \[N\]"),
        (lambda: judge_scores([*ROWS, ROWS[0]], [5.0, 1.0, 3.0, 4.0]), "0 and 3 are the same"),
        (lambda: judge_scores("text", [1.0]), "needed: a list of conversations"),
        (lambda: judge_scores(["text"], [1.0]), "conversation 0 is str"),
        (
            lambda: judge_probabilities(ROWS, [[0.5, 0.5], [0.5, 0.2], [0.1, 0.1]], [1, 2]),
            "row 1 of probs sums to 0.7 instead of 1, and 2 of 3",
        ),
        (lambda: judge_probabilities(ROWS, [[1.5, -0.5]] * 3, [1, 2]), "not negative"),
        (lambda: judge_probabilities(ROWS, [[0.5, float("nan")]] * 3, [1, 2]), "sums to nan"),
        (lambda: judge_probabilities(ROWS, [0.5, 0.5], [1, 2]), r"probs must be \[N, C\]"),
        (lambda: judge_probabilities(ROWS, [[0.5, 0.5]] * 3, [1, 2, 3]), "atoms must have shape"),
    ],
)
def test_illegal_judgements_are_named(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_no_rows_are_evaluated_with_no_scores():
    for judge in (judge_scores([], []), judge_scores([], torch.zeros(0, 2))):
        assert judge.score([]).shape == (0,)


def test_other_rows_are_refused():
    judge = judge_scores([*ROWS, ROWS[1]], [5, 1, 3, 1])  # the same twice with one score is fine
    with pytest.raises(
        ArgumentError, match="2 of 3 conversations have no score, the first is conversation 1"
    ):
        judge.score([ROWS[0], talk("unseen"), talk("good", prompt="third")])
