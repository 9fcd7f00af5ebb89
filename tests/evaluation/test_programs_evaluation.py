"""pass@k and shares of tests of many programs, held against enumeration and the reward's own pass@k."""

from __future__ import annotations

import itertools
import random
from statistics import mean

import pytest

import pluralign as pl
from pluralign.errors import ArgumentError
from pluralign.evaluation import evaluate_programs, mean_interval
from pluralign.report.shapes import RESULTS, check

RNG = random.Random(0)
BY_PROMPT = [
    [RNG.random() < p for _ in range(n)] for p, n in ((0.0, 4), (0.3, 7), (0.6, 4), (1.0, 5), (0.2, 9))
]
PROMPTS = [str(prompt) for prompt, programs in enumerate(BY_PROMPT) for _ in programs]
PASSED = [one for programs in BY_PROMPT for one in programs]
SHARES = [1.0 if one else RNG.choice([0.0, 0.25, 0.5]) for one in PASSED]


def test_pass_at_k_is_the_share_of_all_subsets_that_hold_one_that_passes():
    found = evaluate_programs(PROMPTS, SHARES, PASSED, k=[1, 2, 4])
    for k in (1, 2, 4):
        by_prompt = [
            mean(any(some) for some in itertools.combinations(programs, k)) for programs in BY_PROMPT
        ]
        score = found["scores"][f"pass@{k}"]
        assert score["overall"] == pytest.approx(mean(by_prompt))
        assert score["overall"] == pytest.approx(pl.policy.pass_at_k(BY_PROMPT, k))
        expected = mean_interval(by_prompt).to_dict()
        assert score["interval"]["overall"]["high"] == pytest.approx(expected["high"])
        assert score["interval"]["overall"]["groups"] == len(BY_PROMPT)


def test_order_of_rows_does_not_matter_and_other_numbers_are_as_counted():
    ends = [{"passed": 2, "timeout": 1}] * len(PASSED)
    found = evaluate_programs(PROMPTS, SHARES, PASSED, ends, [1, 3])
    order = random.Random(1).sample(range(len(PASSED)), len(PASSED))
    shuffled = [[values[row] for row in order] for values in (PROMPTS, SHARES, PASSED, ends)]
    again = evaluate_programs(*shuffled, [1, 3])
    assert again["scores"]["pass@3"]["overall"] == pytest.approx(found["scores"]["pass@3"]["overall"])
    assert found["ends"] == {"passed": 2 * len(PASSED), "timeout": len(PASSED)}
    assert found["share"]["estimate"] == pytest.approx(mean(SHARES))
    assert found["share"]["groups"] == 5
    assert found["solved"] == mean(any(programs) for programs in BY_PROMPT)
    assert found["tied"] == mean(all(p) or not any(p) for p in BY_PROMPT)
    assert (found["rows"], found["groups"]) == (len(PASSED), 5)


def test_a_report_can_read_it():
    about = {
        "schema": 1,
        "pluralign": "0",
        "family": "programs",
        "backbone": {"name_or_path": "p"},
        "fitted": {},
    }
    rest = {"risk": "pass@1", "seed": 0, "ratings": {}, "pairs": {}}
    check({**about, **rest, "suite": evaluate_programs(PROMPTS, SHARES, PASSED)}, RESULTS, "results.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "at least one program"),
        ((["a"], [1.0, 1.0], [True]), "2 shares"),
        ((["a"], [1.0], [True], [{}, {}]), "2 ends"),
        ((["a"], [1.5], [True]), "not in"),
        ((["a"], [float("nan")], [True]), "not in"),
        ((["a", "a", "b"], [1.0] * 3, [True] * 3, [], [2]), "the prompt b has 1 programs"),
        ((["a"], [1.0], [True], [], [0]), "whole numbers of at least 1"),
        ((["a"], [1.0], [True], [], []), "whole numbers of at least 1"),
        ((["a", "a"], [1.0] * 2, [True] * 2, [], [1, 1]), "each once"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        evaluate_programs(*arguments)
