"""`pluralign select`: what it writes, resumes, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from fake_backbone import ratings_rows
from pluralign.policy.rewards.table_texts import read_texts
from pluralign.policy.selection import tables

ROWS = [
    {"prompt": f"p{i}", "completion": f"{j}.5 1 w{i}", "reward": float(i * j % 4), "cut_off": j == 3}
    for i in range(5)
    for j in range(4)
]
BY_COLUMN = "select --shards foreign.jsonl --reward_column --prompts_per_shard 2 --json --out"


@pytest.fixture
def place(workplace):
    Path("foreign.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Path("judge.py").write_text(
        "def count(prompts, completions):\n    return [float(c[0]) for c in completions]\n"
    )
    return workplace


def selected(out: str) -> list[dict]:
    path = json.loads(out)["table"]
    if path.endswith(".parquet"):
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_best_of_n_by_any_risk_measure(place, fake, command):
    assert command("fit --ratings ratings.jsonl --l1 0.003 --levels [0.1,0.5,0.9] --out fitted")[0] == 0
    for risk in ("mean", "cvar:0.5"):
        line = f"select --shards foreign.jsonl --reward_model fitted --risk {risk} --cache none --json"
        status, out, err = command(line)
        assert status == 0, err
        rows = selected(out)
        # the reward grows with the first number; the last completion of each prompt was cut off
        assert [row["completion"] for row in rows] == [
            [{"role": "assistant", "content": f"2.5 1 w{i}"}] for i in range(5)
        ]
        assert rows[0]["prompt"] == [{"role": "user", "content": "p0"}]
        assert json.loads(out)["left_out"] == {"cut off": 5}
        status, out, _ = command(line, "--leave_out_cut_off", "false")
        assert [row["completion"][0]["content"][0] for row in selected(out)] == ["3"] * 5


def test_top_k_and_pairs_in_both_formats(place, command):
    status, out, _ = command(f"{BY_COLUMN} a --method top_k --k 2 --leave_out_cut_off false")
    assert status == 0
    rows = selected(out)
    expected = []
    for i in range(5):
        group = [row for row in ROWS if row["prompt"] == f"p{i}"]
        expected += sorted(group, key=lambda row: -row["reward"])[:2]
    assert [(row["completion"][0]["content"], row["reward"]) for row in rows] == [
        (row["completion"], row["reward"]) for row in expected
    ]
    line = "--pairs true --method top_k --k 2 --leave_out_cut_off false"
    found = {
        form: selected(command(f"{BY_COLUMN} {form} {line} --format {form}")[1])
        for form in ("parquet", "jsonl")
    }
    assert found["parquet"] == found["jsonl"]
    assert all(row["utility_chosen"] > row["utility_rejected"] for row in found["jsonl"])
    assert len(found["jsonl"]) == 2 * 3  # in p0 and p4 all rewards are equal


def test_a_share_of_all_completions(place, command):
    line = f"{BY_COLUMN} share --method threshold --share 0.2 --leave_out_cut_off false"
    status, out, _ = command(line)
    assert status == 0
    result = json.loads(out)
    rewards = sorted((row["reward"] for row in ROWS), reverse=True)
    assert result["threshold"] == rewards[3]
    assert result["rows"] == sum(reward >= rewards[3] for reward in rewards)
    assert result["prompts_without_rows"] == 2  # p0 and p4
    line = "select --shards foreign.jsonl --reward_column --method threshold --threshold 99 --out none"
    _, out, err = command(line)
    assert "nothing was selected" in err
    assert pq.read_table("none/selected.parquet").num_rows == 0


def test_rejection_does_not_depend_on_shards_or_order(place, command):
    line = "select --reward_column --method rejection --beta 1.5 --json --pairs true"
    _, first, _ = command(f"{line} --shards foreign.jsonl --prompts_per_shard 1 --out first")
    Path("other.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in sorted(ROWS, key=lambda r: r["prompt"], reverse=True))
    )
    _, second, _ = command(f"{line} --shards other.jsonl --out second")
    rows = [sorted(selected(out), key=str) for out in (first, second)]
    assert rows[0] == rows[1]
    assert rows[0]
    _, other, _ = command(f"{line} --shards foreign.jsonl --seed 1 --out third")
    assert sorted(selected(other), key=str) != rows[0]


def test_rewards_of_an_earlier_run_are_used(place, command):
    assert (
        command("sample --shards foreign.jsonl --reward_function judge.py:count --beta null --out run")[0]
        == 0
    )
    status, out, err = command("select --samples run --json --out again")
    assert status == 0, err
    assert [row["reward"] for row in selected(out)] == [2.0] * 5
    assert not Path("again/rewards").exists()
    status, out, _ = command("select --samples run --reward_function judge.py:count --json --out scored")
    assert [row["reward"] for row in selected(out)] == [2.0] * 5


def test_an_interrupted_command_continues(place, command):
    Path("judge.py").write_text(
        "from pathlib import Path\n"
        "def count(prompts, completions):\n"
        "    seen = Path('seen')\n"
        "    calls = int(seen.read_text()) if seen.exists() else 0\n"
        "    seen.write_text(str(calls + 1))\n"
        "    if calls == 1:\n        raise KeyboardInterrupt\n"
        "    return [float(c[0]) for c in completions]\n"
    )
    line = "select --shards foreign.jsonl --reward_function judge.py:count --prompts_per_shard 2 --json"
    line += " --out run"
    assert command(line)[0] == 130
    status, out, _ = command(line)
    assert status == 0
    assert Path("seen").read_text() == "4"  # three shards, one of them twice
    assert len(selected(out)) == 5
    _, again, err = command(line)
    assert again == out
    assert "nothing to do" in err


def test_pessimism_changes_the_choice(place, fake, command):
    ratings = ratings_rows(num_prompts=20)
    Path("ratings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ratings))
    assert (
        command("fit --family regression --l2 0.1 --ensemble 3 --ratings ratings.jsonl --out fitted")[0] == 0
    )
    candidates = [{"prompt": "p", "completion": f"{x} 1 c"} for x in (0.5, 1.0, 60.0)]
    Path("far.jsonl").write_text("".join(json.dumps(row) + "\n" for row in candidates))
    line = "select --shards far.jsonl --reward_model fitted --cache none --json"
    (plain,) = selected(command(line)[1])
    assert plain["completion"][0]["content"] == "60.0 1 c"
    for novelty in ("disagreement", "distance --training_data ratings.jsonl"):
        status, out, err = command(f"{line} --novelty {novelty} --penalty 1000")
        assert status == 0, err
        (row,) = selected(out)
        assert row["completion"][0]["content"] != "60.0 1 c"
        assert row["utility"] == pytest.approx(row["reward"] - 1000 * row["novelty"])
        status, out, err = command(f"{line} --novelty {novelty} --penalty 0")
        assert selected(out)[0]["completion"] == plain["completion"]


def test_trainers_read_the_tables(place, command):
    _, out, _ = command(f"{BY_COLUMN} rows")
    table = read_texts(Dataset.from_parquet(json.loads(out)["table"]), "rows")
    assert table[0]["completion"] == "0.5 1 w0"
    _, out, _ = command(f"{BY_COLUMN} pairs --pairs true")
    table = read_texts(Dataset.from_parquet(json.loads(out)["table"]), "pairs")
    assert {"chosen", "rejected", "reward_chosen", "reward_rejected"} <= set(table.column_names)


@pytest.mark.peer
def test_trl_reads_the_tables(place, command):
    from trl.data_utils import is_conversational

    for flag in ("false", "true"):
        _, out, _ = command(f"{BY_COLUMN} t{flag} --pairs {flag} --format jsonl")
        assert all(is_conversational(row) for row in selected(out))


def test_foreign_rewards_are_refused(place, command):
    assert (
        command("sample --shards foreign.jsonl --reward_function judge.py:count --beta null --out run")[0]
        == 0
    )
    Path("few.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    assert command(
        "sample --shards few.jsonl --reward_function judge.py:count --beta null --table pairs --out few"
    )
    with pytest.raises(tables.ArgumentError, match="has the reward of other samples than"):
        tables.Selection("run/samples", "few/rewards", tables.SelectionConfig())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("select", "exactly one of --samples and --shards; received neither"),
        ("select --samples a --shards b", "received both"),
        ("select --shards foreign.jsonl", "--shards needs rewards"),
        ("select --samples nowhere", "has no rewards of its own"),
        ("select --shards foreign.jsonl --reward_column --reward_model m", "pass only one source of rewards"),
        ("select --shards foreign.jsonl --reward_column --risk cvar:0.1", "--risk needs --reward_model"),
        (
            "select --shards foreign.jsonl --reward_column --novelty disagreement",
            "--novelty needs --reward_model",
        ),
        ("select --shards foreign.jsonl --reward_model m --novelty distance", "go together"),
        ("select --shards foreign.jsonl --reward_model none", "none is not a model folder"),
        ("select --shards foreign.jsonl --reward_column --metod best", "did you mean --method"),
        ("select --shards foreign.jsonl --reward_column --method bset", "--method"),
        ("select --samples run --reward_column --columns.completion text", "--columns is for --shards"),
        (f"{BY_COLUMN} r --neighbours 0", "--neighbours must be at least 1"),
        (f"{BY_COLUMN} r --prompts_per_shard 0", "--prompts_per_shard must be at least 1"),
    ],
)
def test_wrong_commands(place, command, line, message):
    status, out, err = command(line)
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--method top_k", "top_k needs"),
        ("--method rejection", "rejection needs"),
        ("--method threshold", "either"),
        ("--method threshold --threshold 1 --share 0.5", "either"),
        ("--k 3", "is for"),
        ("--method rejection --beta 0", "beta must be positive"),
        ("--method threshold --share 2", "share must lie in"),
        ("--margin 1", "margin is for"),
        ("--penalty -1", "penalty must be finite and at least 0"),
    ],
)
def test_settings_that_do_not_go_together(place, command, flags, message):
    status, out, err = command(f"{BY_COLUMN} run {flags}")
    assert status in (1, 2)
    assert out == ""
    assert message in err
    assert not Path("run").exists()


def test_samples_of_our_own_are_named_as_such(place, command):
    assert command("sample --shards foreign.jsonl --reward_column --out sampled")[0] == 0
    status, _, err = command("select --shards sampled --reward_column")
    assert (status, "--shards: sampled contains samples written by pluralign; pass it as" in err) == (2, True)


def test_a_reward_that_is_missing_is_named(place, command):
    Path("foreign.jsonl").write_text(json.dumps({"prompt": "p", "completion": "0.5 1 w"}) + "\n")
    status, _, err = command(f"{BY_COLUMN} run")
    assert status == 1
    assert "1 of 1 rewards are not finite numbers" in err
