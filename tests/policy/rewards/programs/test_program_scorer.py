"""`ProgramScorer`: the tests of a conversation's prompt decide, as a certain reward."""

from __future__ import annotations

import pytest
import torch

import pluralign as pl
from pluralign.errors import ArgumentError, DataError

TASKS = [
    {"prompt": "Square a number.", "tests": ["assert f(2) == 4", "assert f(3) == 9"]},
    {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Double it."}], "tests": ["assert f(2) == 4"]},
]  # fmt: skip


def talk(*messages: str) -> list[dict[str, str]]:
    roles = ["user", "assistant"] if len(messages) == 2 else ["system", "user", "assistant"]
    return [{"role": role, "content": text} for role, text in zip(roles, messages, strict=True)]


@pytest.fixture(scope="module")
def scorer():
    reward = pl.policy.ProgramReward(minimum="rlimits", tasks=pl.policy.load_tasks(TASKS))
    yield pl.policy.ProgramScorer(reward)
    reward.close()


@pytest.mark.filterwarnings("ignore::pluralign.errors.SandboxWarning")
def test_the_share_of_the_tests_of_the_prompt(scorer):
    found = scorer.distribution(
        [
            talk("Square a number.", "```python\ndef f(x): return x * x\n```"),
            talk("Square a number.", "def f(x): return 4"),
            talk("Be brief.", "Double it.", "def f(x): return 2 * x"),
            talk("Square a number.", "I cannot."),
        ]
    )
    assert isinstance(found, pl.Point)
    assert found.mean().tolist() == [1.0, 0.5, 1.0, 0.0]
    assert torch.equal(pl.risk.parse("cvar:0.1")(found), found.mean())


@pytest.mark.filterwarnings("ignore::pluralign.errors.SandboxWarning")
def test_a_prompt_without_tests_is_refused_and_named(scorer):
    with pytest.raises(DataError, match="row 1: there are no tests for the prompt 'Halve it.'"):
        scorer.distribution([talk("Square a number.", "x"), talk("Halve it.", "x")])


@pytest.mark.filterwarnings("ignore::pluralign.errors.SandboxWarning")
def test_a_reward_without_tests_of_its_own_is_refused():
    with pytest.raises(ArgumentError, match="needed: ProgramReward"):
        pl.policy.ProgramScorer(pl.policy.ProgramReward(minimum="rlimits"))
