"""Plain terms: counts, patterns, functions; their sum shifts the whole distribution."""

from __future__ import annotations

import pytest
import torch

import pluralign as pl
from fake_backbone import talk
from pluralign.distributions import Empirical
from pluralign.errors import ArgumentError
from pluralign.model import Format, Length, Sum, judge_scores

ROWS = [talk("one two three"), talk("<answer> 4 </answer>"), talk("")]
JUDGE = judge_scores(ROWS, [[1.0, 3.0], [0.0, 0.0], [5.0, 7.0]])


def test_length_counts_what_is_beyond_the_free_part():
    assert Length(-0.5)(ROWS).tolist() == [-1.5, -1.5, 0.0]
    assert Length(1.0, free=2)(ROWS).tolist() == [1.0, 1.0, 0.0]
    assert Length(2.0, unit="characters", free=10)(ROWS).tolist() == [6.0, 20.0, 0.0]


def test_format_is_found_or_not():
    assert Format(r"<answer>.*</answer>", 2.0)(ROWS).tolist() == [0.0, 2.0, 0.0]
    assert Format(r"\Aone two three\Z", -1.0)(ROWS).tolist() == [-1.0, 0.0, 0.0]


def test_the_sum_is_the_utility_plus_the_terms():
    summed = Sum(JUDGE, [Length(-0.5), Format("answer", 2.0), lambda rows: [float(len(rows))] * len(rows)])
    shift = torch.tensor([-1.5 + 3, -1.5 + 2 + 3, 3.0])
    assert isinstance(summed.distribution(ROWS), Empirical)
    for measure in ("mean", "median", "quantile:0.2", "cvar:0.3", "entropic:2", "mean_std:1"):
        torch.testing.assert_close(summed.score(ROWS, measure), JUDGE.score(ROWS, measure) + shift)
    distribution = summed.distribution(ROWS)
    assert torch.equal(summed.score(ROWS, "exponential:1"), pl.risk.parse("exponential:1")(distribution))
    assert torch.equal(Sum(JUDGE, []).score(ROWS), JUDGE.score(ROWS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Length(float("nan")), "weight must be a finite number"),
        (lambda: Length("long"), "weight must be a finite number"),
        (lambda: Length(1.0, unit="tokens"), "unit must be words or characters"),
        (lambda: Length(1.0, free=-1), "free must be at least 0"),
        (lambda: Length(1.0, free="ten"), "free must be at least 0"),
        (lambda: Format("(", 1.0), "not a regular expression"),
        (lambda: Format("a", float("inf")), "weight must be a finite number"),
        (lambda: Sum(JUDGE, [3.0]), "terms must be functions"),
        (lambda: Sum(JUDGE, Length(1.0)), "terms must be functions"),
        (lambda: Sum(JUDGE, [lambda rows: ["good"] * 3]).score(ROWS), "did not return numbers"),
        (lambda: Sum(JUDGE, [lambda rows: [0.0]]).score(ROWS), "a finite number for each of 3"),
        (lambda: Sum(JUDGE, [lambda rows: [float("nan")] * 3]).score(ROWS), "3 of them not finite"),
        (lambda: Sum(JUDGE, [lambda rows: "good"]).score(ROWS), "did not return numbers"),
        (lambda: Sum(torch.ones(3), []).score(ROWS), "the scorer is Tensor"),
        (lambda: Sum(JUDGE, [Length(1.0)]).score("text"), "needed: a list of conversations"),
    ],
)
def test_illegal_terms_are_named(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
