"""Two processes (gloo) train the same policy as one, on the same rollouts: DDP, or shards of FSDP 2."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from several_processes import launch

SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
folder, options = sys.argv[1], json.loads(sys.argv[2])
lora, resume, shards = (options.pop(name, False) for name in ("lora", "resume", "shards"))
if shards:
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    }
import several_processes, tiny_bandit
several_processes.allow_fsdp_on_cpus()
from pluralign.distributions import GaussianEnsemble
from pluralign.policy import PPOConfig, PPOTrainer, lora_config

critic = tiny_bandit.model(7) if options.pop("critic", False) else None

def reward(talks):
    return [one[-1]["content"].count("a") - 0.1 * len(one[-1]["content"]) for one in talks]

class Heads:
    # They disagree the more, the more of the letter a there is.

    def distribution(self, talks):
        liked = torch.tensor([[float(one[-1]["content"].count("a"))] for one in talks])
        means = liked * torch.tensor([[1.0, 0.5]]) + torch.tensor([[0.0, 0.3]])
        return GaussianEnsemble(means, torch.tensor([[0.5, 1.0]]).expand(len(talks), -1).contiguous())

config = PPOConfig(
    folder, steps=3, prompts_per_step=4, completions=4, max_new_tokens=4, epochs=2, learning_rate=1e-2,
    critic_learning_rate=1e-2, micro_batch_size=3, normalize_rewards=True, use_cpu=True, **options,
)
trainer = PPOTrainer(
    tiny_bandit.model(), config, prompts=["xa", "xb", "c", "dd", "ab"],
    reward=Heads() if "risk" in options else reward,
    processing_class=tiny_bandit.tokenizer(), eval_prompts=["b", "ca", "d"], gold=reward,
    peft_config=lora_config(4, 8, 0.0, "all-linear") if lora else None, critic_model=critic,
)
last = trainer.train(resume_from_checkpoint=resume or None)
if shards:
    from torch.distributed.tensor import DTensor
    for module in trainer.policy.modules():
        if hasattr(module, "reshard"):
            module.reshard()
    for p in trainer.policy.parameters():
        assert isinstance(p, DTensor) and p.to_local().numel() < p.numel()
trainer.save_model(folder + "/model")
if trainer.accelerator.is_main_process:
    lines = [{k: v for k, v in one.items() if not k.startswith("seconds/")} for one in trainer.history]
    Path(folder, "found.json").write_text(json.dumps([last, lines]))
"""


NAMES = {"reward/utility", "reward/shaped", "kl", "length", "update/grad_norm", "reward/robust_weight"}


def run(folder, processes, **options):
    launch(folder, SCRIPT, processes, str(folder), json.dumps(options))
    (weights,) = (folder / "model").glob("*.safetensors")
    return json.loads((folder / "found.json").read_text()), load_file(weights)


def assert_as_one(one, two):
    (last, lines), weights = one
    (other_last, other_lines), other_weights = two
    assert weights.keys() == other_weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(
            other_weights[name], value, atol=5e-4, rtol=1e-2, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert last == pytest.approx(other_last, rel=1e-2, abs=1e-3)
    for line, other in zip(lines, other_lines, strict=True):
        for name in line.keys() & NAMES:
            assert line[name] == pytest.approx(other[name], rel=1e-2, abs=1e-3), (line["step"], name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"advantages": "gae"},
        {"advantages": "gae", "critic": True},
        {"advantages": "rloo", "lora": True},
        {"advantages": "rloo", "risk": "robust:1", "robust_weight": "disagreement"},
    ],
)
def test_two_processes_train_as_one(tmp_path, options):
    assert_as_one(run(tmp_path / "one", 1, **options), run(tmp_path / "two", 2, **options))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"advantages": "gae"}, {"advantages": "rloo", "lora": True}])
def test_shards_train_as_one_process_and_resume_exactly(tmp_path, options):
    """Five prompts for four of a step, and three to evaluate: some shares of processes are unequal."""
    straight = run(tmp_path / "two", 2, shards=True, save_steps=1, save_total_limit=0, **options)
    assert_as_one(run(tmp_path / "one", 1, **options), straight)
    for gone in ("checkpoint-3", "model", "best"):
        shutil.rmtree(tmp_path / "two" / gone)
    shutil.copytree(tmp_path / "two", tmp_path / "alone")
    resumed = run(tmp_path / "two", 2, shards=True, resume=True, save_steps=1, save_total_limit=0, **options)
    assert resumed[0] == straight[0]
    for name, value in straight[1].items():
        assert torch.equal(resumed[1][name], value), name
    # A checkpoint holds whole weights, so the run may go on in one process.
    assert_as_one(
        run(tmp_path / "alone", 1, resume=True, save_steps=1, save_total_limit=0, **options), straight
    )


FAILING = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
folder, how, shards = sys.argv[1:]
if shards == "shards":
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    }
import several_processes, tiny_bandit
several_processes.allow_fsdp_on_cpus()
from pluralign.policy import PPOConfig, PPOTrainer

def reward(talks):
    if made.step == 1 and made.accelerator.process_index == 1:
        if how == "fails":
            raise TimeoutError("no answer")
        os.kill(os.getpid(), signal.SIGINT)
    return tiny_bandit.reward(talks)

config = PPOConfig(folder, **tiny_bandit.SETTINGS, reward_retries=1, use_cpu=True)
made = PPOTrainer(
    tiny_bandit.model(), config, prompts=tiny_bandit.PROMPTS, reward=reward,
    processing_class=tiny_bandit.tokenizer(),
)
made._scorer._wait = 0.001
try:
    made.train()
except (Exception, KeyboardInterrupt) as error:
    Path(folder, f"{made.accelerator.process_index}.txt").write_text(f"{type(error).__name__}: {error}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["whole", "shards"])
def test_a_reward_that_fails_in_one_process_stops_all_with_the_state_saved(tmp_path, weights):
    """The first process, which writes, is not the one whose reward server stopped answering."""
    launch(tmp_path, FAILING, 2, str(tmp_path), "fails", weights)
    assert (tmp_path / "1.txt").read_text() == "TimeoutError: no answer"
    assert (tmp_path / "0.txt").read_text() == "DataError: process 1 stopped the run: TimeoutError: no answer"
    state = json.loads((tmp_path / "checkpoint-1" / "trainer_state.json").read_text())
    assert state["global_step"] == 1


@pytest.mark.slow
def test_ctrl_c_in_one_process_stops_all_that_share_weights_after_the_step(tmp_path):
    launch(tmp_path, FAILING, 2, str(tmp_path), "interrupted", "shards")
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["KeyboardInterrupt: "] * 2
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["global_step"] == 2
