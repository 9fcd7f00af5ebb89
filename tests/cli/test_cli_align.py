"""`pluralign align`: from files to a policy, interrupted and continued, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

import remembered_probes
import tiny_policy
import tiny_tables
from pluralign.cli.align_tables import read_table
from pluralign.errors import ArtifactError

SMALL = (
    "--report_to none --use_cpu true --logging_steps 1 --per_device_train_batch_size 4 --learning_rate 1e-4 "
    "--save_steps 2 --disable_tqdm true"
)


@pytest.fixture
def policy(workplace):
    remembered_probes.install()
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
    status, out, err = command("report run --json")
    assert status == 0, err
    content = json.loads(out)
    after = {line["key"]: line["after"] for line in content["headlines"]}
    assert after["reward"] == result["metrics"]["eval_samples/reward"]
    assert [curve["name"] for curve in content["curves"]] == [
        *("Reward", "Spread of the reward", "KL divergence from the reference", "Length", "Cut off"),
        *("Loss", "Implicit rewards"),
    ]
    assert [sign["name"] for sign in content["signs"]] == ["kl_beyond_optimum"]
    assert "QRPO of policy" in Path(content["page"]).read_text()


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


def test_a_run_that_was_killed_after_its_last_step_is_not_trained_further(policy, command, monkeypatch):
    from safetensors.torch import load_file

    from pluralign.cli import align

    line = (
        "align --method qrpo --beta 0.3 --model policy --data train.jsonl --max_steps 4 "
        f"--lr_scheduler_type constant {SMALL} --json"
    )
    status, out, err = command(f"{line} --out straight")
    assert status == 0, err
    straight = json.loads(out)

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(align, "_save", killed)
        assert command(f"{line} --out killed")[0] == 130
    status, out, err = command(f"{line} --out killed")
    assert status == 0, err
    assert "continuing from killed/training/checkpoint-4" in err
    one, other = (load_file(f"{run}/model/model.safetensors") for run in ("straight", "killed"))
    assert all((one[name] == other[name]).all() for name in one)
    losses = [result["metrics"]["train_loss"] for result in (straight, json.loads(out))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.parametrize(
    ("objective", "told", "warned"),
    [
        ("qrpo --beta 0.3", "KL of the optimum: 0.36 nats (beta 0.3, identity)", False),
        ("qrpo --beta 0.03", "KL of the optimum: 2.51 nats (beta 0.03, identity)", True),
        ("dpo", "KL of the optimum: unknown", False),
    ],
)
def test_the_optimum_is_named_before_training(policy, command, caplog, monkeypatch, objective, told, warned):
    from pluralign.policy import OfflineTrainer

    def stops(self, *args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(OfflineTrainer, "training_step", stops)
    status, _, err = command(
        f"align --method {objective} --model policy --data train.jsonl --out run {SMALL}"
    )
    assert status == 130
    assert told in err
    assert ("too far for the policies of our lab" in caplog.text) == warned


def test_tables_of_any_file_are_one_table(policy, command):
    rows = tiny_tables.unpaired(6).to_list()
    for row in rows[3:]:
        row["cut_off"] = True
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Path("rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "cut_off"])
        writer.writeheader()
        writer.writerows(row | {"ref_rewards": json.dumps(row["ref_rewards"])} for row in rows)
    found = [read_table(name, None).to_list() for name in ("rows.jsonl", "rows.csv")]
    assert found[0] == found[1] == [row | {"cut_off": row.get("cut_off")} for row in rows]


def test_a_disk_that_is_full_at_the_end_leaves_no_half_model(policy, command, monkeypatch):
    from pluralign.policy import OfflineTrainer

    line = f"align --method dpo --model policy --data train.jsonl {SMALL} --out run"
    real = OfflineTrainer.save_model

    def full(self, folder=None, **options):
        real(self, folder, **options)
        if folder == "run/model":
            raise SafetensorError("No space left on device")

    monkeypatch.setattr(OfflineTrainer, "save_model", full)
    status, _, err = command(line)
    assert status == 1
    assert "run/model could not be written (No space left on device)" in err
    assert not Path("run/model").exists()
    monkeypatch.setattr(OfflineTrainer, "save_model", real)
    assert command(line)[0] == 0


def test_a_reward_that_fails_at_the_end_leaves_the_policy(policy, command):
    Path("judge.py").write_text("def length(prompts, completions):\n    raise KeyError('answer')\n")
    status, _, err = command(
        f"align --model policy --data train.jsonl --eval_data eval.jsonl --reward_function judge.py:length "
        f"--eval_max_new_tokens 4 --out run {SMALL}"
    )
    assert status == 1
    assert "failed: KeyError: 'answer'" in err
    assert Path("run/model/model.safetensors").exists()


def test_a_run_of_align_is_a_policy(policy, command):
    small = f"{SMALL} --max_steps 1"
    assert command(f"align --model policy --data train.jsonl --out first {small}")[0] == 0
    status, _, err = command(f"align --model first --data train.jsonl --out second {small}")
    assert status == 0, err
    Path("prompts.jsonl").write_text(json.dumps({"prompt": "p"}) + "\n")
    sample = "sample --prompts prompts.jsonl --completions 2 --max_new_tokens 3 --device cpu"
    status, _, err = command(f"{sample} --model first --out sampled")
    assert status == 0, err


def test_an_adapter_is_a_policy_to_sample_from(policy, command):
    from transformers import AutoModelForCausalLM

    from pluralign.policy import LocalSampler

    line = f"align --model policy --data train.jsonl --lora_r 2 --lora_target_modules q_proj,v_proj {SMALL}"
    status, _, err = command(f"{line} --learning_rate 0.1 --out run")
    assert status == 0, err
    sampler = LocalSampler.from_pretrained("run/model", device="cpu")
    base = LocalSampler.from_pretrained("policy", device="cpu").describe()
    stated = sampler.describe()
    assert stated["fingerprint"] == base["fingerprint"]
    assert len(stated["adapter"]) == 64
    whole = AutoModelForCausalLM.from_pretrained("run/model")  # transformers puts the adapter on its base
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        assert torch.allclose(sampler.model(ids).logits, whole(ids).logits, atol=1e-5)
        plain = AutoModelForCausalLM.from_pretrained("policy")
        assert not torch.allclose(plain(ids).logits, whole(ids).logits, atol=1e-2)
    shutil.rmtree("policy")
    with pytest.raises(ArtifactError, match="an adapter whose base cannot be found"):
        LocalSampler.from_pretrained("run/model", device="cpu")


def test_responses_longer_than_the_policy_are_cut(policy, command, caplog):
    rows = tiny_tables.unpaired(4).to_list()
    Path("long.jsonl").write_text("".join(json.dumps(r | {"completion": "x" * 400}) + "\n" for r in rows))
    status, _, err = command(f"align --model policy --data long.jsonl --out run {SMALL}")
    assert status == 0, err
    assert "--max_length becomes 256, the policy's maximum number of positions" in err
    assert "4 responses their end" in caplog.text


def test_measurements_are_not_repeated_when_a_run_continues(policy, command, monkeypatch):
    from pluralign.policy import OfflineTrainer

    line = f"align --method dpo --model policy --data train.jsonl {SMALL} --num_train_epochs 2 --out run"
    real = OfflineTrainer.training_step

    def stops(self, *args, **options):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return real(self, *args, **options)

    monkeypatch.setattr(OfflineTrainer, "training_step", stops)
    assert command(line)[0] == 130
    monkeypatch.setattr(OfflineTrainer, "training_step", real)
    assert command(line)[0] == 0
    logged = [json.loads(x) for x in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in logged if "loss" in x] == [1, 2, 3, 4, 5, 6]


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
        ("--method rebell --model policy --data train.jsonl", "did you mean 'rebel'"),
        ("--method dpo --model policy --data unpaired.parquet", "--table pairs"),
        ("--method dpo --model policy --data absent.jsonl", "no such file"),
        ("--method dpo --model absent --data train.jsonl", "absent"),
        ("--method dpo --model policy --data train.jsonl --learnin_rate 1", "did you mean --learning_rate"),
        ("--method dpo --model policy --data train.jsonl --output_dir x", "--out"),
        ("--method dpo --model policy --data train.jsonl --beta 0", "beta"),
        ("--method dpo --model policy --data train.jsonl --reward_function judge.py:length", "--eval_data"),
        ("--method qrpo --model policy --data train.jsonl --lora_r -1", "--lora_r"),
        ("--model policy --data train.jsonl --lora_alpha 2", "--lora_alpha needs --lora_r"),
        ("--model policy --data train.jsonl --lora_r 2 --lora_dropout 1", "0 to below 1"),
        (
            "--model policy --data train.jsonl --lora_r 2 --lora_target_modules none",
            "training with these settings is not possible",
        ),
        ("--model policy --data train.jsonl --dtype int8", "received 'int8'; allowed: float32"),
        (
            "--model policy --data train.jsonl --eval_strategy steps",
            "--eval_strategy steps needs --eval_data",
        ),
        ("--model policy --data train.jsonl --learning_rate -1", "--learning_rate: received -1.0"),
        ("--model policy --data train.jsonl --per_device_train_batch_size 0", "allowed: 1 or more"),
        ("--model policy --data train.jsonl --seed -1", "--seed: received -1; allowed: 0 or more"),
        ("--model policy --data train.jsonl --logging_steps 0", "logging_steps"),
        ("--model policy --data train.jsonl --method dpo --transform log", "--transform applies to quantile"),
        ("--model policy --data mixed.jsonl", "column 'prompt' holds str and, in row 2, list"),
        ("--model policy --data half.jsonl", "row 1, column 'prompt': an unpaired surrogate"),
        ("--model policy --data broken.parquet", "damaged Parquet file, or not Parquet"),
        ("--model adapter --data train.jsonl", "adapter is an adapter"),
        ("--model policy --data train.jsonl --resume_from_checkpoint x", "the same command continues"),
        (
            "--model policy --data train.jsonl --eval_data eval.jsonl --reward_model none",
            "--reward_model: none is not a model folder",
        ),
    ],
)
def test_what_cannot_be_done_is_reported(policy, command, line, message):
    texts = {"chosen": "a", "rejected": "b"}
    mixed = [{"prompt": "p", **texts}, {"prompt": tiny_policy.user("p"), **texts}]
    Path("mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    Path("half.jsonl").write_text(json.dumps({"prompt": "\ud83d", **texts}) + "\n")
    Path("broken.parquet").write_bytes(b"PAR1")
    Path("adapter").mkdir()
    Path("adapter/adapter_model.safetensors").touch()
    shutil.copy("policy/tokenizer.json", "adapter")
    status, _, err = command(f"align {line} --report_to none --use_cpu true")
    assert status in (1, 2)
    assert message in err
    assert "Traceback" not in err
    assert "bug in pluralign" not in err
    assert not Path("runs").exists() or not any(Path("runs").iterdir())
