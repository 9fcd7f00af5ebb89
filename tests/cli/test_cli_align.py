"""`pluralign align`: from files to a policy, interrupted and continued, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny_policy
import tiny_tables

SMALL = (
    "--report_to none --use_cpu true --logging_steps 1 --per_device_train_batch_size 4 --learning_rate 1e-4 "
    "--save_steps 2 --disable_tqdm true"
)


@pytest.fixture
def policy(workplace):
    tiny_policy.saved(Path("policy"))
    tiny_tables.pairs(12).to_json("train.jsonl")
    tiny_tables.pairs(4, seed=1).to_json("eval.jsonl")
    tiny_tables.unpaired(12).to_parquet("unpaired.parquet")
    Path("judge.py").write_text(
        "def length(prompts, completions):\n    return [len(c) for c in completions]\n"
    )


def test_a_policy_comes_out_and_a_second_call_does_nothing(policy, command):
    from transformers import AutoModelForCausalLM

    line = (
        f"align --method qrpo --beta 0.1 --model policy --data train.jsonl --eval_data eval.jsonl "
        f"--reward_function judge.py:length --eval_max_new_tokens 6 --eval_prompts 2 --out run {SMALL} --json"
    )
    status, out, err = command(line)
    assert status == 0, err
    result = json.loads(out)
    assert "break-even quantile" in err  # the diagnosis comes before training
    assert {"eval_loss", "eval_samples/kl", "eval_samples/reward"} <= set(result["metrics"])
    AutoModelForCausalLM.from_pretrained(result["model"])
    assert not list(Path("run/model").glob("*.bin"))
    logged = [json.loads(x) for x in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in logged if "loss" in x] == [1, 2, 3]
    status, out, err = command(line)
    assert status == 0
    assert "nothing to do" in err
    assert json.loads(out) == result


def test_an_interrupted_run_continues(policy, command, monkeypatch):
    from safetensors.torch import load_file

    from pluralign.policy import OfflineTrainer

    line = f"align --method dpo --model policy --data train.jsonl {SMALL}"
    status, _, err = command(f"{line} --out straight")
    assert status == 0, err
    real = OfflineTrainer.training_step

    def stops(self, *args, **options):
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return real(self, *args, **options)

    monkeypatch.setattr(OfflineTrainer, "training_step", stops)
    status, _, err = command(f"{line} --out broken")
    assert status == 130
    assert "continues where this one stopped" in err
    monkeypatch.setattr(OfflineTrainer, "training_step", real)
    status, _, err = command(f"{line} --out broken")
    assert status == 0, err
    assert "continuing from broken/training/checkpoint-2" in err
    one, other = (load_file(f"{run}/model/model.safetensors") for run in ("straight", "broken"))
    assert all((one[name] == other[name]).all() for name in one)


def test_an_adapter_on_unpaired_rows(policy, command):
    status, out, err = command(
        f"align --method qrpo --model policy --data unpaired.parquet --lora_r 2 --out run {SMALL}"
    )
    assert status == 0, err
    assert out.strip() == "run/model"
    assert Path("run/model/adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--method dppo --model policy --data train.jsonl", "did you mean 'dpo'"),
        ("--method dpo --model policy --data unpaired.parquet", "do not fit this objective"),
        ("--method dpo --model policy --data absent.jsonl", "no such file"),
        ("--method dpo --model absent --data train.jsonl", "absent"),
        ("--method dpo --model policy --data train.jsonl --learnin_rate 1", "did you mean --learning_rate"),
        ("--method dpo --model policy --data train.jsonl --output_dir x", "--out"),
        ("--method dpo --model policy --data train.jsonl --beta 0", "beta"),
        ("--method dpo --model policy --data train.jsonl --reward_function judge.py:length", "--eval_data"),
        ("--method qrpo --model policy --data train.jsonl --lora_r -1", "--lora_r"),
    ],
)
def test_what_cannot_be_done_is_said(policy, command, line, message):
    status, _, err = command(f"align {line} --report_to none --use_cpu true")
    assert status in (1, 2)
    assert message in err
    assert "Traceback" not in err
    assert not Path("runs").exists() or not any(Path("runs").iterdir())
