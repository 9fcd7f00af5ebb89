"""What answers of judges say, and that nothing else becomes a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralign.errors import ConfigError
from pluralign.policy.judges.answers import (
    Nothing,
    check_scale,
    score_probabilities,
    stated_score,
    stated_vote,
)

FIVE = (1, 2, 3, 4, 5)
TEN = tuple(range(1, 11))
UNPARSEABLE, REFUSED = Nothing.UNPARSEABLE, Nothing.REFUSED


@pytest.mark.parametrize(
    ("text", "scale", "expected"),
    [
        ("Score: 4", FIVE, 4.0),
        ("4", FIVE, 4.0),
        (" **4** ", FIVE, 4.0),
        ("4/5", FIVE, 4.0),
        ("4 out of 5", FIVE, 4.0),
        ("Polite, but 2 of 3 facts are wrong.\n**Score:** 2", FIVE, 2.0),
        ("I can't find a mistake.\nScore: 5", FIVE, 5.0),
        ("Rating = 10/10.", TEN, 10.0),
        ("Final score: [[7]]", TEN, 7.0),
        ("I would give it a score of 7.", TEN, 7.0),
        ("A score of 3 would be harsh.\nScore: 4", FIVE, 4.0),
        ("Score: -1", (-1, 0, 1), -1.0),
        ("Score: 2.5", (1, 2, 2.5), 2.5),
        # no number, or not one
        ("", FIVE, UNPARSEABLE),
        ("It is a good answer.", FIVE, UNPARSEABLE),
        ("There are 3 mistakes and 4 typos.", FIVE, UNPARSEABLE),
        ("Score: 3\nScore: 4", FIVE, UNPARSEABLE),
        ("Score: 6", FIVE, UNPARSEABLE),
        ("Score: 0", FIVE, UNPARSEABLE),
        ("4/10", FIVE, UNPARSEABLE),
        ("Score: 2.5", FIVE, UNPARSEABLE),
        ("Score: -4", FIVE, UNPARSEABLE),
        ("Score: four", FIVE, UNPARSEABLE),
        ("Score: 3 to 4", FIVE, UNPARSEABLE),
        ("Score: nan", FIVE, UNPARSEABLE),
        # refusals
        ("I'm sorry, but I can't rate this.", FIVE, REFUSED),
        ("I\u2019m sorry, I cannot help with that.", FIVE, REFUSED),
        ("As an AI, I do not rate people.", FIVE, REFUSED),
    ],
)
def test_scores(text, scale, expected):
    assert stated_score(text, scale) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Verdict: A", 1),
        ("b", UNPARSEABLE),
        ("B", -1),
        ("**Verdict:** Tie", 0),
        ("A is longer, B is right.\nVerdict: B", -1),
        ("[[C]]", 0),
        ("[[A]]", 1),
        ("Winner: Response B.", -1),
        ("The answer is a good one.", UNPARSEABLE),
        ("Answer: A longer one would be better.", UNPARSEABLE),
        ("Verdict: A\nVerdict: B", UNPARSEABLE),
        ("Both are fine.", UNPARSEABLE),
        ("I cannot compare these.", REFUSED),
    ],
)
def test_votes(text, expected):
    assert stated_vote(text) == expected


@given(st.text(max_size=40))
def test_any_text_is_on_the_scale_or_nothing(text):
    score, vote = stated_score(text, FIVE), stated_vote(text)
    assert isinstance(score, Nothing) or score in FIVE
    assert isinstance(vote, Nothing) or vote in (-1, 0, 1)


def test_probabilities_of_score_tokens():
    top = [(" 4", math.log(0.5)), ("4", math.log(0.1)), ("2", math.log(0.2)), ("The", math.log(0.2))]
    assert score_probabilities(top, FIVE) == pytest.approx([0, 0.25, 0, 0.75, 0])
    prose = [("The", math.log(0.7)), ("4", math.log(0.3))]
    assert score_probabilities(prose, FIVE) is UNPARSEABLE
    assert score_probabilities([], FIVE) is UNPARSEABLE
    assert score_probabilities([("4", math.nan), ("3", math.inf)], FIVE) is UNPARSEABLE


def test_scales():
    assert check_scale([3, 1, 2], True) == (1.0, 2.0, 3.0)
    assert check_scale(range(1, 11), False)[-1] == 10.0
    with pytest.raises(ConfigError, match="'1' may be the beginning of '10'"):
        check_scale(range(1, 11), True)
    for wrong in ([1], [1, 1], [1, math.inf], []):
        with pytest.raises(ConfigError, match="at least two different finite scores"):
            check_scale(wrong, False)
