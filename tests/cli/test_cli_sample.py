"""`pluralign sample` from prompts to the training table: what it writes, resumes, prints and refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Dataset

import tiny_policy
from pluralign.policy.rewards.columns import check_training_table
from pluralign.policy.sampling import local as sampling_local

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SAMPLE = (
    "sample --prompts prompts.jsonl --model policy --completions 3 --max_new_tokens 6 --device cpu "
    "--prompts_per_shard 2 --out run"
)
LENGTH = ["--reward_function", "judge.py:count", "--length_control", "--end_tokens", '["e"]']
COUNT = "def count(prompts, completions):\n    return [len(text) for text in completions]\n"


@pytest.fixture(scope="session")
def policy(tmp_path_factory):
    return tiny_policy.saved(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def place(workplace, policy):
    Path("policy").symlink_to(policy)
    rows = [{"prompt": f"question {i}"} for i in range(5)] + [{"prompt": "question 0"}]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("judge.py").write_text(COUNT)
    Path("foreign.jsonl").write_text(
        "".join(
            json.dumps(
                {"prompt": f"p{i}", "completion": f"{i + j}.5 1 w", "reward": i * j % 3, "cut_off": j == 2}
            )
            + "\n"
            for i in range(4)
            for j in range(3)
        )
    )
    return workplace


def test_prompts_to_completions(place, command):
    status, out, err = command(SAMPLE)
    assert (status, out.strip()) == (0, "run/samples")
    assert "5 distinct prompts in 6 rows; 3 completions each from policy" in err
    assert "15 completions of 5 prompts" in err
    assert sorted(p.name for p in Path("run/samples").iterdir()) == [
        "manifest.json",
        *(f"shard-0000{i}.parquet" for i in range(3)),
    ]
    manifest = json.loads(Path("run/samples/manifest.json").read_text())["description"]
    assert manifest["settings"] == {
        "completions": 3,
        "max_new_tokens": 6,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 0,
    }
    assert len(manifest["sampler"]["fingerprint"]) == 64
    _, again, err = command(SAMPLE)
    assert again == out
    assert "already holds this run" in err


def test_an_interrupted_command_continues(place, command, monkeypatch):
    ask, calls = sampling_local.LocalSampler.sample, []

    def breaks(self, prompts, settings):
        calls.append(len(prompts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return ask(self, prompts, settings)

    monkeypatch.setattr(sampling_local.LocalSampler, "sample", breaks)
    status, _, err = command(SAMPLE)
    assert status == 130
    assert "the same command continues" in err
    assert command(SAMPLE)[0] == 0
    assert calls == [2, 2, 2, 1]
    assert command(SAMPLE.replace("--out run", "--out whole"))[0] == 0
    for i in range(3):
        ours, whole = (pq.read_table(f"{run}/samples/shard-0000{i}.parquet") for run in ("run", "whole"))
        assert ours.equals(whole)


def test_one_command_to_the_training_table(place, command):
    status, out, err = command(f"{SAMPLE} --reward_function judge.py:count --beta 0.3 --alpaca_eval tiny")
    assert (status, out.strip()) == (0, "run/train.parquet")
    assert "break-even quantile" in err
    table = Dataset.from_parquet("run/train.parquet")
    assert check_training_table(table) == "unpaired"
    assert table["reward"][0] == len(table["completion"][0])
    assert len(json.loads(Path("run/alpaca_eval.json").read_text())) == 5
    status, again, _ = command(f"{SAMPLE} --reward_function judge.py:count --beta 0.3 --alpaca_eval tiny")
    assert (status, again) == (0, out)


def test_rewards_of_a_fitted_model_and_any_measure(place, fake, command):
    command("fit --ratings ratings.jsonl --l1 0.003 --levels [0.1,0.5,0.9] --out fitted")
    for risk in ("mean", "cvar:0.5"):
        line = f"sample --shards foreign.jsonl --reward_model fitted --risk {risk} --table pairs --json"
        status, out, err = command(line, "--cache", "none")
        assert (status, err.count("pluralign:")) == (0, 0), err
        result = json.loads(out)
        assert result["rows"] == 4
        assert result["diagnosis"]["among_references"] == 1.0
        rows = Dataset.from_parquet(result["table"])
        assert check_training_table(rows) == "pairs"
        assert rows["chosen"][0].startswith("2.5")
    status, _, err = command(
        "sample --shards foreign.jsonl --reward_model fitted --risk worst_case --out never"
    )
    assert (status, "--risk worst_case: fitted/model is of the family quantile" in err) == (2, True)
    assert not Path("never").exists()
    _, out, _ = command("sample --shards foreign.jsonl --reward_model fitted --smooth --cache none --json")
    shares = Dataset.from_parquet(json.loads(out)["table"])["ref_rewards"]
    assert all(sum(row) == pytest.approx(1.5) for row in shares)


def test_a_measure_of_heads_is_refused_before_sampling_by_every_model_without_heads(place, fake, command):
    import pluralign as pl

    for residual in ("point", "gaussian"):
        line = (
            f"fit --family regression --ratings ratings.jsonl --l2 0.1 --residual {residual} --out {residual}"
        )
        assert command(line)[0] == 0
    models = [pl.RewardModel.from_pretrained(f"{name}/model", cache=None) for name in ("point", "gaussian")]
    texts = [[{"role": "user", "content": "p"}, {"role": "assistant", "content": f"{x} 1"}] for x in range(9)]
    pl.combine(models, texts).save_pretrained("both")
    rewarded = "sample --shards foreign.jsonl --cache none --table pairs --risk worst_case --out run"
    for model, what in {"point": "of the family regression", "both": "a combination"}.items():
        status, _, err = command(f"{rewarded} --reward_model {model}")
        assert (status, f"--risk worst_case: {model}" in err, what in err) == (2, True, True), err
        assert not Path("run").exists()
    status, _, err = command(f"{rewarded} --reward_model gaussian")  # an ensemble of one
    assert status == 0, err


def test_rewards_that_came_with_the_completions(place, command):
    status, out, err = command("sample --shards foreign.jsonl --reward_column --out run --json")
    assert status == 0
    result = json.loads(out)
    # prompts 0 and 3 have tied rewards
    assert (result["rows"], result["left_out"]) == (6, {"references all tie": 6})
    assert "left out of training: 6 x references all tie" in err
    again = "sample --samples run --reward_column --leave_out_cut_off --beta null --out ended --json"
    status, out, _ = command(again)
    assert status == 0
    assert json.loads(out)["left_out"] == {"references all tie": 6, "cut off": 2}


def test_length_control_needs_lengths(place, command):
    status, _, err = command("sample --shards foreign.jsonl --reward_column --length_control --out run")
    assert status == 1
    assert "length control needs num_tokens" in err
    Path("judge.py").write_text(COUNT.replace("len(text)", "sum(map(ord, text))"))
    status, _, err = command(SAMPLE.replace("--out run", "--out other"), *LENGTH)
    assert status == 0
    assert "length control: slope" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sample", "no source of completions"),
        ("sample --model policy", "--model needs --prompts"),
        ("sample --model policy --shards foreign.jsonl", "received --model and --shards"),
        ("sample --prompts prompts.jsonl --server http://x", "no source of completions"),
        ("sample --shards foreign.jsonl --server http://x", "--server needs --model"),
        ("sample --shards foreign.jsonl --reward_column --reward_model m", "pass only one source of rewards"),
        ("sample --samples run", "--samples needs a task"),
        ("sample --shards foreign.jsonl --reward_column --smooth", "--smooth needs --reward_model"),
        ("sample --shards foreign.jsonl --reward_model m --smooth --risk cvar:0.1", "does not take --risk"),
        ("sample --shards foreign.jsonl --reward_function judge.py", "needed: FILE.py:NAME"),
        ("sample --shards foreign.jsonl --reward_function none.py:f", "needed: FILE.py:NAME"),
        ("sample --shards foreign.jsonl --reward_function judge.py:f --out r", "has no function 'f'"),
        ("sample --shards foreign.jsonl --reward_modle m", "did you mean --reward_model"),
        ("sample --shards foreign.jsonl --table pair", "--table"),
        ("sample --shards foreign.jsonl --reward_model none", "none is not a model folder"),
        ("sample --shards run", "pass it as --samples"),
        (f"{SAMPLE} --device cudax", "--device: received 'cudax'; allowed: cpu, cuda"),
        (f"{SAMPLE} --alpaca_eval=", "--alpaca_eval: received an empty name"),
        (f"{SAMPLE} --limit 0", "--limit must be at least 1, received 0"),
        (f"{SAMPLE} --reward_column", "sampled completions have none"),
        (f"{SAMPLE} --completions 1 --reward_function judge.py:count", "--completions must be at least 2"),
        (f"{SAMPLE} --reward_function judge.py:count --per_prompt 0", "--per_prompt must be at least 1"),
    ],
)
def test_wrong_commands(place, command, line, message):
    if line == "sample --shards run":
        assert command(SAMPLE)[0] == 0
    status, out, err = command(line)
    assert status == 2
    assert message in err
    assert out == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{SAMPLE} --completions 0", "completions must be at least 1"),
        (f"{SAMPLE} --reward_function judge.py:count --transform sqr", "unknown transform 'sqr'"),
        (f"{SAMPLE} --reward_function judge.py:count --beta -1", "beta must be positive"),
        (f"{SAMPLE} --reward_function judge.py:count --risk men", "men"),
        (f"{SAMPLE} --max_new_tokens 1000", "exceeds the model's 256 positions"),
        ("sample --prompts none.jsonl --model policy", "none.jsonl"),
        ("sample --prompts ratings.jsonl --model missing", "missing"),
        ("sample --shards prompts.jsonl --out run", "column 'completion'"),
        ("sample --samples nowhere --reward_column", "not a folder of shards"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(place, command, line, message):
    before = sorted(os.listdir())
    status, out, err = command(line)
    assert status == 1
    assert message in err
    assert out == ""
    assert not list(Path("run").rglob("*.parquet"))
    assert [name for name in sorted(os.listdir()) if name not in (*before, "run", "runs")] == []


def test_a_function_that_is_not_there_is_noticed_before_sampling(place, command):
    status, _, err = command(f"{SAMPLE} --reward_function judge.py:other")
    assert status == 2
    assert "has no function 'other'" in err
    assert not list(Path("run").rglob("*.parquet"))


def test_a_function_that_fails_is_not_reported_as_our_bug(place, command):
    Path("judge.py").write_text("def count(prompts, completions):\n    raise KeyError('answer')\n")
    status, _, err = command(f"{SAMPLE} --reward_function judge.py:count")
    assert status == 1
    assert "failed: KeyError: 'answer'" in err
    assert "bug in pluralign" not in err


def test_a_corrected_function_rewards_what_was_sampled(place, command):
    Path("judge.py").write_text(
        "def count(prompts, completions):\n    return [float('nan')] * len(completions)\n"
    )
    status, _, err = command(f"{SAMPLE} --reward_function judge.py:count")
    assert status == 1
    assert "the completions are kept: to score them, pass --samples run and another --out" in err
    Path("judge.py").write_text(COUNT)
    assert command("sample --samples run --reward_function judge.py:count --beta null --out other")[0] == 0


def test_a_function_of_a_file_that_is_a_program(place, command):
    Path("helper.py").write_text("def length(text):\n    return sum(map(ord, text))\n")
    Path("judge.py").write_text(
        "from __future__ import annotations\n"
        "import pickle\nfrom dataclasses import dataclass\nfrom helper import length\n"
        "@dataclass\nclass Case:\n    text: str\n"
        "def count(prompts, completions):\n"
        "    return [length(pickle.loads(pickle.dumps(Case(text))).text) for text in completions]\n"
    )
    status, _, err = command(
        "sample --shards foreign.jsonl --reward_function judge.py:count --beta null --out r"
    )
    assert status == 0, err


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("def count(", "SyntaxError"),
        ("import no_such_module", "No module named"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_file_that_fails_is_not_reported_as_our_bug(place, command, program, message):
    Path("judge.py").write_text(program + "\n")
    status, _, err = command(f"{SAMPLE} --reward_function judge.py:count")
    assert status == 2
    assert "--reward_function: judge.py fails: " in err
    assert message in err


def test_a_moved_run_is_found_where_it_is(place, command):
    line = "sample --shards foreign.jsonl --reward_column --beta null --json --out"
    _, out, _ = command(f"{line} run")
    Path("run").rename("moved")
    status, again, err = command(f"{line} moved")
    assert (status, "nothing to do" in err) == (0, True)
    assert again == out.replace("run/", "moved/").replace('"run": "run"', '"run": "moved"')


def test_a_finished_run_notices_a_shard_that_is_gone(place, command):
    assert command(SAMPLE)[0] == 0
    Path("run/samples/shard-00001.parquet").unlink()
    status, _, err = command(SAMPLE)
    assert status == 0
    assert "nothing to do" not in err
    assert Path("run/samples/shard-00001.parquet").exists()


def test_a_prompt_that_alpaca_eval_cannot_take_is_named_before_sampling(place, command):
    turns = [{"role": r, "content": "x"} for r in ("user", "assistant", "user")]
    Path("turns.jsonl").write_text(json.dumps({"prompt": turns}) + "\n")
    status, _, err = command(
        "sample --prompts turns.jsonl --model policy --alpaca_eval me --device cpu --out run"
    )
    assert status == 1
    assert "AlpacaEval needs single instructions" in err
    assert not Path("run").exists()


def test_address_and_key_of_a_server_are_checked_before_anything_is_made(place, command, monkeypatch):
    status, _, err = command(f"{SAMPLE} --server http://me:hunter2@gpu-7:8000")
    assert status == 1
    assert "with a user, a password or a query" in err
    assert "hunter2" not in err
    monkeypatch.setenv("PLURALIGN_SERVER_KEY", "hunter2")
    status, _, err = command(f"{SAMPLE} --server http://gpu-7:8000")
    assert status == 1
    assert "--key_over_http true" in err
    assert "hunter2" not in err
    assert not Path("run").exists()


def test_a_server_that_is_away(place, command, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    status, _, err = command(f"{SAMPLE} --server http://127.0.0.1:9")
    assert status == 1
    assert "did not respond after 5 attempts" in err
