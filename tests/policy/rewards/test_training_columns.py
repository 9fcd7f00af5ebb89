"""The columns of training tables: which shape, what is needed, and every problem of every row."""

from __future__ import annotations

import math

import pytest
from datasets import Dataset

from pluralign.errors import ArgumentError, DataError
from pluralign.policy.rewards.columns import check_training_table, is_finite_number

UNPAIRED = {"prompt": "p", "completion": "c", "reward": 1.0, "ref_rewards": [0.5, 1.0]}
PAIRS = {
    "prompt": [{"role": "user", "content": "p"}],
    "chosen": "c",
    "rejected": "",
    "reward_chosen": 1.0,
    "reward_rejected": 0,
    "ref_rewards": [0.5],
}


def table(*rows):
    return Dataset.from_list(list(rows))


def test_shapes_are_recognised():
    assert check_training_table(table(UNPAIRED)) == "unpaired"
    assert check_training_table(table(PAIRS)) == "pairs"


def test_only_what_the_objective_needs_is_needed():
    texts = {"prompt": "p", "chosen": "a", "rejected": "b"}
    assert check_training_table(table(texts), rewards=False, references=False) == "pairs"
    with pytest.raises(DataError, match="no column reward_chosen, reward_rejected; this objective needs"):
        check_training_table(table(texts), references=False)
    with pytest.raises(DataError, match="no column ref_rewards"):
        check_training_table(table({k: v for k, v in UNPAIRED.items() if k != "ref_rewards"}))


def test_every_problem_is_named_with_its_row():
    rows = [
        UNPAIRED,
        UNPAIRED | {"reward": math.nan},
        UNPAIRED | {"completion": None},
        UNPAIRED | {"ref_rewards": []},
        UNPAIRED | {"ref_rewards": [0.0, math.inf]},
        UNPAIRED | {"reward": math.inf},
    ]
    with pytest.raises(DataError) as caught:
        check_training_table(table(*rows), name="train.parquet")
    places = {(problem.row, problem.column) for problem in caught.value.problems}
    assert places == {(2, "reward"), (3, "completion"), (4, "ref_rewards"), (5, "ref_rewards"), (6, "reward")}
    assert "train.parquet, row 2, column 'reward': found nan; allowed: a finite number" in str(caught.value)


def test_a_value_that_the_objective_does_not_read_is_not_checked():
    broken = table(UNPAIRED | {"reward": math.nan, "ref_rewards": []})
    assert check_training_table(broken, rewards=False, references=False) == "unpaired"


@pytest.mark.parametrize("flag", ["cut_off", "among_references"])
def test_flags_are_not_texts(flag):
    check_training_table(table(UNPAIRED | {flag: None}, UNPAIRED | {flag: True}))
    with pytest.raises(DataError, match=f"row 2, column '{flag}': found 'no'; allowed: true, false or null"):
        check_training_table(table(UNPAIRED | {flag: None}, UNPAIRED | {flag: "no"}))


def test_an_integer_beyond_every_float_is_not_a_reward():
    assert is_finite_number(10**308)
    assert not is_finite_number(10**400)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table({"prompt": "p", "text": "c"}), "make neither of the two shapes"),
        (table(UNPAIRED | {"chosen": "a", "rejected": "b"}), "make both of the two shapes"),
        (table(UNPAIRED).select([]), "received no rows"),
    ],
)
def test_what_is_not_a_training_table(rows, message):
    with pytest.raises(DataError, match=message):
        check_training_table(rows)
    with pytest.raises(ArgumentError, match="received list"):
        check_training_table([UNPAIRED])
