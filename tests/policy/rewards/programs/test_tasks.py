"""Tests of prompts, from files with the columns of the data sets that people use to a reward per completion."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset

import pluralign as pl
from pluralign.errors import ArgumentError, DataError
from pluralign.policy.rewards.programs.reward import ProgramReward
from pluralign.policy.rewards.programs.shapes import read_tests
from pluralign.policy.rewards.programs.stored_tests import call_tests
from pluralign.policy.rewards.programs.tasks import load_tasks

LEETCODE = {
    "task_id": "two-sum",
    "question_id": 1,
    "difficulty": "Easy",
    "tags": ["Array"],
    "problem_description": "Given an array ...",
    "starter_code": "class Solution:\n    def twoSum(self, nums: List[int], target: int) -> List[int]:\n        ",
    "prompt": "import math\nfrom typing import *\nfrom collections import *\n",
    "completion": "class Solution: ...",
    "entry_point": "Solution().twoSum",
    "test": "def check(candidate):\n    assert candidate(nums = [2, 7], target = 9) == [0, 1]\n"
    "    assert candidate(nums = [3, 3], target = 7) == []\n",
    "input_output": [{"input": "nums = [2, 7], target = 9", "output": "[0, 1]"}],
    "query": "You are an expert Python programmer. Solve two-sum.",
    "response": "```python\nclass Solution: ...\n```",
}
HUMAN_EVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def add(x: int, y: int) -> int:\n    """Add."""\n',
    "canonical_solution": "    return x + y\n",
    "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(0, 0) == 1\n",
    "entry_point": "add",
}
MBPP = {
    "task_id": 2,
    "text": "Write a function to square a number.",
    "code": "def sq(x): return x * x",
    "test_list": ["assert sq(2) == 4", "assert sq(3) == root(81)"],
    "test_setup_code": "def root(x): return int(x ** 0.5)",
    "challenge_test_list": [],
}
SANITIZED = {
    "source_file": "x",
    "task_id": 3,
    "prompt": "Write a function for the floor.",
    "code": "...",
    "test_imports": ["import math", "HALF = 0.5"],
    "test_list": ["assert fl(2 + HALF) == math.floor(2.5)"],
}
APPS = {
    "problem_id": 0,
    "question": "Read two numbers and print their sum.",
    "solutions": '["..."]',
    "input_output": json.dumps({"inputs": ["1 2\n", "5 6\n"], "outputs": ["3\n", "12\n"]}),
    "difficulty": "interview",
    "url": "https://example.com",
    "starter_code": "",
}
APPS_CALL = APPS | {
    "question": "Write f, which doubles.",
    "input_output": json.dumps({"fn_name": "f", "inputs": [[2], [[1]]], "outputs": [[4], [[1, 1]]]}),
    "starter_code": "class Solution:\n    def f(self, x):\n",
}
PROGRAMS = {
    "leetcode": (LEETCODE, LEETCODE["query"], "class Solution:\n    def twoSum(self, nums: List[int], target: int) -> List[int]:\n        assert math and Counter\n        return [0, 1]", 0.5),
    "humaneval": (HUMAN_EVAL, HUMAN_EVAL["prompt"], "    return x + y\n", 0.5),
    "mbpp": (MBPP, MBPP["text"], "```python\ndef sq(x): return x * x\n```", 1.0),
    "mbpp sanitized": (SANITIZED, SANITIZED["prompt"], "def fl(x): return int(x)", 1.0),
    "apps": (APPS, APPS["question"], "print(sum(map(int, input().split())))", 0.5),
    "apps calls": (APPS_CALL, APPS_CALL["question"], "class Solution:\n    def f(self, x): return x * 2", 1.0),
}  # fmt: skip


@pytest.fixture
def scored(reward):
    """The reward with tasks, in the processes of the shared one."""

    def score(tasks, rows):
        found = ProgramReward(reward.limits, tasks=tasks, workers=1, cache_size=0)
        try:
            return found(rows)
        finally:
            found.close()

    return score


def test_columns_of_known_data_sets(tmp_path, scored):
    files = []
    for name, (row, *_) in PROGRAMS.items():
        files.append(tmp_path / f"{name}.jsonl")
        files[-1].write_text(json.dumps(row) + "\n", "utf-8")
    tasks = load_tasks(*files)
    assert len(tasks) == len(PROGRAMS)
    rows = {
        "prompt": [[{"role": "user", "content": prompt}] for _, prompt, _, _ in PROGRAMS.values()],
        "completion": [program for _, _, program, _ in PROGRAMS.values()],
    }
    assert scored(tasks, rows) == [share for *_, share in PROGRAMS.values()]


def test_plain_columns_mappings_texts_and_parquet(tmp_path, scored):
    rows = [
        {"question": "square", "checks": ["assert f(2) == 4"], "head": "import math"},
        {"question": "cube", "checks": ["assert f(2) == 8", "assert math.pi"], "head": "import math"},
    ]
    columns = {"prompt": "question", "tests": "checks", "setup": "head"}
    Dataset.from_list(rows).to_parquet(str(tmp_path / "tasks.parquet"))
    csv = tmp_path / "tasks.csv"
    csv.write_text('question,checks,head\nsquare,"[""assert f(2) == 4""]",import math\n', "utf-8")
    asked = {"prompt": ["square", "square"], "completion": ["def f(x): return 4", "def f(x): return 5"]}
    for source in (rows, Dataset.from_list(rows), tmp_path / "tasks.parquet", csv):
        assert scored(load_tasks(source, columns=columns), asked) == [1.0, 0.0]
    assert load_tasks(rows, columns=columns).digest == load_tasks(rows[::-1], columns=columns).digest
    assert load_tasks(rows, columns=columns).digest != load_tasks(rows[:1], columns=columns).digest


def test_rows_with_tests_of_their_own_do_without_tasks(scored):
    tasks = load_tasks([{"prompt": "p", "tests": ["assert f() == 1"]}])
    own = {"prompt": ["q"], "completion": ["def f(): return 2"], "tests": [["assert f() == 2"]]}
    assert scored(tasks, own) == [1.0]


def test_a_reward_with_tasks_is_described_by_them(reward):
    rows = [{"prompt": "p", "tests": ["assert f() == 1"]}]
    one, other = (
        ProgramReward(tasks=load_tasks(rows + more))
        for more in ([], [{"prompt": "q", "tests": ["assert f()"]}])
    )
    assert one.describe() != other.describe() != reward.describe()
    one.check([[{"role": "user", "content": "p"}]])
    with pytest.raises(DataError, match=r"--prompts: 1 of 2 prompts have no tests; the first is 'q'"):
        one.check([[{"role": "user", "content": "p"}], [{"role": "user", "content": "q"}]], "--prompts")
    with pytest.raises(DataError, match="row 1: there are no tests for the prompt 'r'; the 1 tasks"):
        one({"prompt": ["p", "r"], "completion": ["", ""]})
    with pytest.raises(DataError, match="needs a column 'prompt'"):
        one({"completion": ["", ""]})


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([{"prompt": "p"}], None, "row 1, column 'tests': found nothing"),
        ([{"prompt": "p", "tests": []}], None, "the list is empty"),
        ([{"prompt": "p", "tests": ["assert f("]}], None, "test 0 is not valid Python"),
        ([{"prompt": "p", "tests": ["f(1) == 2"]}, {"tests": ["assert f()"]}], None, "row 2, column 'prompt'"),
        ([{"prompt": "p", "tests": ["x"]}], None, "neither asserts nor calls anything"),
        ([{"prompt": "p", "tests": '{"passed": true}'}], None, "received dict"),
        ([{"prompt": "p", "tests": ["assert f()"]}, {"prompt": "p", "tests": ["assert g()"]}], None, "other tests than those of the same prompt in rows, row 1"),
        ([{"prompt": "p", "tests": ["assert f()"], "setup": 3}], None, "setup is 3"),
        ([APPS | {"input_output": ""}], None, "column 'input_output': found nothing"),
        ([APPS_CALL | {"input_output": '{"fn_name": "f", "inputs": [3], "outputs": [3]}'}], None, "a list of arguments"),
        ([APPS_CALL | {"input_output": '{"fn_name": "f", "inputs": [[NaN]], "outputs": [3]}'}], None, "finite"),
        ([APPS_CALL | {"input_output": '{"fn_name": "f;", "inputs": [[1]], "outputs": [3]}'}], None, "entry_point is 'f;'"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(rows, columns, message):
    with pytest.raises(DataError) as caught:
        load_tasks(rows, columns=columns)
    assert message in str(caught.value)


def test_the_same_row_twice_is_one_task():
    assert len(load_tasks([HUMAN_EVAL, HUMAN_EVAL], [HUMAN_EVAL])) == 1


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match="the key 'test'"):
        load_tasks([HUMAN_EVAL], columns={"test": "x"})
    with pytest.raises(ArgumentError, match="no table"):
        load_tasks()
    with pytest.raises(ArgumentError, match="what load_tasks returns"):
        ProgramReward(tasks=[HUMAN_EVAL])
    assert pl.policy.load_tasks is load_tasks


@pytest.mark.parametrize(
    ("wanted", "got", "passes"),
    [
        ([4], "4", True),  # the value as the first element of a list
        ([4], "[4]", True),
        ([1, 2], "(1, 2)", True),  # a tuple is a list
        (4, "4", True),
        (4, "[4]", False),
        ([4], "5", False),
        ("a", "'a'", True),
        ([[1], [2]], "[1]", True),
        ({"a": 1}, "{'a': 1}", True),
        (True, "1", True),
    ],
)
def test_calls_compare_as_apps_does(wanted, got, passes):
    """The expected outcomes are those of APPS's `testing_util`: == on lists, also with the first element."""
    space = {"candidate": lambda *_: eval(got)}
    (test,) = call_tests([[1, "x"]], [wanted])
    try:
        exec(test, space)
    except AssertionError:
        assert not passes
    else:
        assert passes
    suite = read_tests({"fn_name": "f", "inputs": [[1]], "outputs": [wanted]})
    assert (suite.count, suite.names, suite.candidate) == (1, ("f",), ("candidate", "f"))
