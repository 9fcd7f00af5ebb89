"""`--programs`: the tests that a program passes as reward of `sample` and `align`, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset

import tiny_bandit
from pluralign.policy.rewards.programs import probing

SQUARE = {
    "query": "square",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9\n",
    "entry_point": "Solution().f",
    "prompt": "import math\n",
    "completion": "...",
}
CUBE = SQUARE | {"query": "cube", "test": "def check(candidate):\n    assert candidate(2) == 8\n"}
SAID = {
    "square": ("```python\nclass Solution:\n    def f(self, x): return x * x\n```", "I cannot."),
    "cube": (
        "class Solution:\n    def f(self, x): return 8",
        "class Solution:\n    def f(self, x): return 4",
    ),
}
# A response is a name in a program that its prefix begins; only "a" is 1 and defined.
LETTERS = [
    {"prompt": text, "tests": ["assert f() == 1"], "prefix": "a = 1\ndef f():\n    return \\"}
    for text in ("xa", "xbc", "c", "b")
]
SHARDS = "sample --shards said.jsonl --programs leetcode.jsonl"
PPO = (
    "align --method ppo --model policy --prompts letters.jsonl --eval_data held.jsonl --steps 2 "
    "--prompts_per_step 3 --completions 2 --max_new_tokens 1 --use_cpu --eval_completions 8"
)


def write(name, rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.fixture(autouse=True)
def place(workplace):
    torch.set_num_threads(1)
    write("leetcode.jsonl", [SQUARE, CUBE])
    said = [{"prompt": p, "completion": c, "cut_off": False} for p, both in SAID.items() for c in both]
    write("said.jsonl", said)
    write("letters.jsonl", LETTERS)
    write("held.jsonl", LETTERS[2:])


@pytest.fixture
def policy():
    tiny_bandit.model().save_pretrained("policy")
    tiny_bandit.tokenizer().save_pretrained("policy")


def test_completions_are_rewarded_by_tests_of_another_file(command):
    line = f"{SHARDS} --program_limits.memory_mib 256 --out run"
    status, out, err = command(line, "--json")
    assert status == 0, err
    result = json.loads(out)
    table = Dataset.from_parquet(result["table"])
    assert table["reward"][:] == [1.0, 0.0, 1.0, 0.0]
    assert table["ref_rewards"][0] == [1.0, 0.0]
    assert "tests of programs: 3 passed, 2 no code, 1 wrong answer" in err
    manifest = json.loads(Path("run/rewards/manifest.json").read_text())["description"]["reward"]
    assert (manifest["kind"], manifest["limits"]["memory_mib"]) == ("programs", 256)
    again = command(line, "--json", "--sandbox", "rlimits", "--program_workers", "1")
    assert again[1] == out  # neither changes a reward
    assert command(line, "--all_or_nothing")[0] == 1  # another reward, the same folder


@pytest.mark.parametrize("verb", ["sample", "select"])
def test_completions_without_tests_are_refused_before_a_program_runs(command, verb, monkeypatch):
    rows = [json.loads(line) for line in Path("said.jsonl").read_text().splitlines()]
    write("more.jsonl", [*rows, {"prompt": "halve", "completion": "def f(x): return x / 2"}])
    ran = []
    monkeypatch.setattr("pluralign.policy.rewards.programs.runner.Runner.run", lambda *_: ran.append(1))
    line = f"{verb} --shards more.jsonl --programs leetcode.jsonl --prompts_per_shard 1 --out {verb}"
    status, _, err = command(line)
    assert (status, ran) == (1, []), err
    assert "1 of 3 prompts have no tests; the first is 'halve'" in err


def test_samples_of_a_policy_and_their_rewards(policy, command):
    line = (
        "sample --model policy --prompts letters.jsonl --programs letters.jsonl --completions 8 "
        "--max_new_tokens 1 --out run --json"
    )
    status, out, err = command(line)
    assert status == 0, err
    table = Dataset.from_parquet(json.loads(out)["table"])
    assert table["reward"][:] == [float(text == "a") for text in table["completion"]]
    assert 0 < sum(table["reward"]) < len(table)


def test_a_policy_is_trained_and_evaluated_on_tests(policy, command):
    status, out, err = command(PPO, "--programs", "letters.jsonl", "--out", "run", "--json")
    assert status == 0, err
    assert "mean of the share of passed tests of letters.jsonl" in err
    for step in (0, 2):
        samples = Path(f"run/training/samples/step-{step:06d}.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in samples]
        assert [one["reward"] for one in found] == [float(one["response"] == "a") for one in found]
        assert len(found) == 16
    assert 0 < json.loads(out)["metrics"]["reward"] < 1
    status, out, err = command("report run --json")
    assert status == 0, err
    assert "--programs letters.jsonl" in Path(json.loads(out)["page"]).read_text()


def test_samples_of_offline_training_are_scored_by_tests(policy, command):
    rows = [{"prompt": r["prompt"], "chosen": "a", "rejected": "b"} for r in LETTERS]
    write("train.jsonl", rows)
    line = (
        "align --method dpo --model policy --data train.jsonl --eval_data train.jsonl "
        "--programs letters.jsonl --eval_max_new_tokens 1 --eval_completions 8 --report_to none "
        "--use_cpu true --max_steps 1 "
        "--disable_tqdm true --out run --json"
    )
    status, out, err = command(line)
    assert status == 0, err
    assert 0 < json.loads(out)["metrics"]["eval_samples/reward"] < 1
    write("other.jsonl", [r | {"prompt": "d"} for r in rows[:1]] + rows[1:])
    status, _, err = command(line.replace("--eval_data train", "--eval_data other").replace("run", "other"))
    assert status == 1
    assert "--eval_data: 1 of 4 prompts have no tests; the first is 'd'" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{SHARDS} --reward_column", "received --programs and --reward_column"),
        (
            "sample --shards said.jsonl --reward_column --all_or_nothing",
            "--all_or_nothing belongs to --programs",
        ),
        (f"{SHARDS} --program_limits.memory 3", "--program_limits.memory: allowed: test_seconds"),
        (f"{SHARDS} --program_limits.memory_mib 3", "--program_limits.memory_mib is 3; allowed"),
        (f"{SHARDS} --program_limits.memory_mib much", "--program_limits"),
        (
            f"{SHARDS} --program_packages nothing_like_it",
            "--program_packages: nothing_like_it is not installed",
        ),
        (f"{SHARDS} --program_packages [torch]", "--program_packages: torch has compiled parts"),
        ("sample --shards said.jsonl --reward_column --program_packages x", "belongs to --programs"),
        (f"{SHARDS} --program_workers 0", "--program_workers must be at least 1"),
        (f"{SHARDS} --program_columns.test x", "--program_columns.test: allowed: prompt, tests"),
        (f"{SHARDS} --sandbox docker", "--sandbox: received 'docker'; allowed: bubblewrap"),
        (
            "sample --shards said.jsonl --programs said.jsonl",
            "said.jsonl, 4 rows (1, 2, 3, 4), column 'tests': found nothing",
        ),
        ("sample --shards said.jsonl --programs nowhere.jsonl", "nowhere.jsonl"),
        ("sample --shards letters.jsonl --programs leetcode.jsonl", "letters.jsonl"),
        (
            "sample --model policy --prompts said.jsonl --programs letters.jsonl",
            "--prompts: 2 of 2 prompts have no tests; the first is 'square'",
        ),
        (f"{PPO} --programs held.jsonl", "--prompts: 2 of 4 prompts have no tests; the first is 'xa'"),
        (f"{PPO} --programs letters.jsonl --risk cvar:0.1", "--programs gives numbers, not distributions"),
        (
            f"{PPO} --programs letters.jsonl --combine [a]",
            "--combine applies to --reward_model; --programs does not use it",
        ),
        (f"{PPO} --reward_model m --sandbox rlimits", "--sandbox belongs to --programs, which is missing"),
        (
            "align --method dpo --model policy --data t.jsonl --programs letters.jsonl",
            "--programs scores samples for the prompts of --eval_data",
        ),
    ],
)
def test_what_cannot_be_done_is_reported(command, line, message):
    status, out, err = command(f"{line} --out refused")
    assert (status in (1, 2), out) == (True, ""), err
    assert message in err
    assert "Traceback" not in err


def test_a_missing_sandbox_names_the_flag(command, monkeypatch):
    monkeypatch.setattr(probing, "_try_level", lambda level, *_: (None, f"no {level} here"))
    status, _, err = command(f"{SHARDS} --out run")
    assert status == 1
    assert "bubblewrap: no bubblewrap here" in err
    assert "apt-get install bubblewrap" in err
    assert "; --sandbox rlimits consents" in err


def test_pass_at_k_of_samples_and_of_completions_from_elsewhere(command):
    line = (
        "evaluate --suite programs --shards said.jsonl --programs leetcode.jsonl --k [1,2] --out run --json"
    )
    status, out, err = command(line)
    assert status == 0, err
    suite = json.loads(out)["suite"]
    scores = {name: one["overall"] for name, one in suite["scores"].items()}
    assert scores == pytest.approx({"pass@1": 0.5, "pass@2": 1.0})
    assert suite["ends"] == {"passed": 3, "no code": 2, "wrong answer": 1}
    assert (suite["rows"], suite["groups"], suite["share"]["estimate"]) == (4, 2, 0.5)
    lines = [json.loads(text) for text in Path("run/programs.jsonl").read_text().splitlines()]
    assert [line["share"] for line in lines] == [1.0, 0.0, 1.0, 0.0]
    assert lines[3]["tests"][0]["reason"] == "wrong answer"
    assert "already holds this run" in command(line)[2]
    status, out, err = command("evaluate --suite programs --samples run --programs leetcode.jsonl")
    assert status == 0, err
    assert "pass@1" in out
    assert "how 6 tests ended" in out
    status, out, err = command("report run --json")
    assert status == 0, err
    assert [table["title"] for table in json.loads(out)["suites"]] == ["Programs"]


def test_programs_that_print_no_valid_unicode_are_evaluated(command):
    """What a program says reaches a file; half a surrogate pair in it stopped the whole evaluation."""
    wrong = "```python\nclass Solution:\n    def f(self, x): raise ValueError(chr(0xD800) + chr(0))\n```"
    write("odd.jsonl", [{"prompt": "square", "completion": wrong}])
    status, _, err = command(
        "evaluate --suite programs --shards odd.jsonl --programs leetcode.jsonl --out run"
    )
    assert status == 0, err
    (line,) = Path("run/programs.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["tests"][0]["detail"] == "ValueError: \\ud800\0"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--shards said.jsonl", "--suite programs needs --programs"),
        ("--programs leetcode.jsonl", "one of --samples and --shards is needed; received neither"),
        ("--programs leetcode.jsonl --shards said.jsonl --k [1,4]", "--k: received 4, and the prompt"),
        ("--programs leetcode.jsonl --shards said.jsonl --k 0", "--k: received [0]; allowed: whole numbers"),
        ("--programs letters.jsonl --shards said.jsonl", "2 of 2 prompts have no tests"),
        ("--programs leetcode.jsonl --samples nowhere", "nowhere"),
        ("--programs leetcode.jsonl --samples said.jsonl --model m", "unknown option --model"),
    ],
)
def test_programs_that_cannot_be_evaluated(command, line, message):
    status, out, err = command(f"evaluate --suite programs {line} --out refused")
    assert (status in (1, 2), out) == (True, ""), err
    assert message in err
