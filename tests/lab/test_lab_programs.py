"""Programs of the lab: its interpreter says what `ProgramReward` says, and a model learns to write them."""

from __future__ import annotations

import random
from statistics import mean

import pytest

from pluralign.lab import LanguageModelConfig, build_tokenizer, programs, train_language_model
from pluralign.lab.programs import WORDS, Instruction, behaviour, draw_instructions, right, share_passed
from pluralign.policy import ProgramLimits, ProgramReward

ONE = Instruction((("plus", 3), ("at most", 4), ("flip", 0)))


def test_an_instruction_its_solution_and_its_tests():
    assert ONE.text == "plus 3 then at most 4 then flip"
    assert ONE.solution == "def f(x): x+= 3; x=min(x, 4); x=-x; return x"
    assert [ONE(x) for x in (-5, 0, 7)] == [2, -3, -4]
    assert ONE.inputs(4) == ONE.inputs(4)
    assert len(set(ONE.inputs(19))) == 19
    x = ONE.inputs(1)[0]
    assert ONE.tests(1) == [f"assert f({x}) == {-min(x + 3, 4)}"]


@pytest.mark.parametrize("instruction", draw_instructions(40, 0))
def test_every_operation_means_what_its_code_does(instruction):
    space = {}
    exec(instruction.solution, space)
    assert [instruction(x) for x in range(-25, 26)] == [space["f"](x) for x in range(-25, 26)]
    assert right(instruction, instruction.solution)
    assert set(instruction.text.split()) | set(instruction.solution.split()) <= set(WORDS)


def _texts():
    """What the behaviour policy writes, the same with a token changed, and tokens in any order."""
    rng = random.Random(0)
    for instruction in draw_instructions(30, 1):
        whole = behaviour(instruction, rng)
        yield instruction, whole
        tokens = whole.split()
        tokens[rng.randrange(len(tokens))] = rng.choice(WORDS)
        yield instruction, " ".join(tokens)
        yield instruction, " ".join(rng.sample(tokens, len(tokens)))
        yield instruction, " ".join(whole.split()[:-2])
        yield instruction, f"{whole} {rng.choice(WORDS)}"
    for text in ("", "def f(x): return x", "return x", "def f(x): x+= return x", "x+= 3; return x"):
        yield ONE, text


def test_the_interpreter_agrees_with_the_programs_as_python_runs_them():
    pairs = list(_texts())
    rows = {
        "completion": [text for _, text in pairs],
        "tests": [one.tests(6) for one, _ in pairs],
    }
    reward = ProgramReward(ProgramLimits(memory_mib=256))
    try:
        ran = reward(rows)
    finally:
        reward.close()
    assert [share_passed(one, text, one.inputs(6)) for one, text in pairs] == ran
    assert {0.0, 1.0} < set(ran)  # shares between them too


def test_few_tests_pass_programs_that_are_wrong():
    wrong = "def f(x): x+= 3; x=-x; return x"
    assert share_passed(ONE, wrong, [-5]) == 1.0
    assert share_passed(ONE, wrong, [-5, 7]) == 0.5
    assert not right(ONE, wrong)


def test_the_behaviour_policy_takes_at_most_for_at_least_more_often_than_not():
    bound = Instruction((("at most", 3),))
    rng = random.Random(1)
    said = [behaviour(bound, rng) for _ in range(400)]
    assert 0.5 < mean("max" in text for text in said) < 0.7
    assert 0.2 < mean(right(bound, text) for text in said) < 0.45


def test_drawn_instructions_are_distinct_and_repeat():
    found = draw_instructions(200, 3)
    assert found == draw_instructions(200, 3)
    assert len(set(found)) == 200
    assert not set(draw_instructions(50, 3, without=found)) & set(found)


def test_a_language_model_learns_other_texts_with_their_own_words(tmp_path):
    rng = random.Random(0)
    talks = [
        [*one.messages, {"role": "assistant", "content": behaviour(one, rng)}]
        for one in draw_instructions(300, 4)
    ]
    config = LanguageModelConfig(epochs=3, layers=1, width=32, heads=2, max_length=64, learning_rate=1e-2)
    report = train_language_model(tmp_path / "model", config, conversations=talks, words=WORDS)
    assert report["last_loss"] < report["first_loss"] - 0.5
    tokenizer = build_tokenizer(64, WORDS)
    text = programs.Instruction((("size", 0), ("modulo", 5))).solution
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text
