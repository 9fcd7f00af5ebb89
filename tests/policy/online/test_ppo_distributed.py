"""Two processes (gloo, DDP) train the same policy as one, on the same rollouts."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from several_processes import launch

SCRIPT = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import tiny_bandit
from pluralign.policy import PPOConfig, PPOTrainer, lora_config

folder, options = sys.argv[1], json.loads(sys.argv[2])
lora = options.pop("lora", False)
critic = tiny_bandit.model(7) if options.pop("critic", False) else None

def reward(talks):
    return [one[-1]["content"].count("a") - 0.1 * len(one[-1]["content"]) for one in talks]

config = PPOConfig(
    folder, steps=3, prompts_per_step=4, completions=4, max_new_tokens=4, epochs=2, learning_rate=1e-2,
    critic_learning_rate=1e-2, micro_batch_size=3, normalize_rewards=True, use_cpu=True, **options,
)
trainer = PPOTrainer(
    tiny_bandit.model(), config, prompts=["xa", "xb", "c", "dd", "ab"], reward=reward,
    processing_class=tiny_bandit.tokenizer(), eval_prompts=["b", "ca", "d"], gold=reward,
    peft_config=lora_config(4, 8, 0.0, "all-linear") if lora else None, critic_model=critic,
)
last = trainer.train()
trainer.save_model(folder + "/model")
if trainer.accelerator.is_main_process:
    lines = [{k: v for k, v in one.items() if not k.startswith("seconds/")} for one in trainer.history]
    Path(folder, "found.json").write_text(json.dumps([last, lines]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"advantages": "gae"}, {"advantages": "gae", "critic": True}, {"advantages": "rloo", "lora": True}],
)
def test_two_processes_train_as_one(tmp_path, options):
    found, models = [], []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        launch(folder, SCRIPT, processes, str(folder), json.dumps(options))
        found.append(json.loads((folder / "found.json").read_text()))
        (weights,) = (folder / "model").glob("*.safetensors")
        models.append(load_file(weights))
    assert models[0].keys() == models[1].keys()
    for name, value in models[0].items():
        torch.testing.assert_close(
            models[1][name], value, atol=5e-4, rtol=1e-2, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-2, abs=1e-3)
    for one, two in zip(found[0][1], found[1][1], strict=True):
        for name in one.keys() & {"reward/utility", "reward/shaped", "kl", "length", "update/grad_norm"}:
            assert one[name] == pytest.approx(two[name], rel=1e-2, abs=1e-3), (one["step"], name)


FAILING = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import tiny_bandit
from pluralign.policy import PPOConfig, PPOTrainer

folder = sys.argv[1]

def reward(talks):
    if made.step == 1 and made.accelerator.process_index == 1:
        raise TimeoutError("no answer")
    return tiny_bandit.reward(talks)

config = PPOConfig(folder, **tiny_bandit.SETTINGS, reward_retries=1, use_cpu=True)
made = PPOTrainer(
    tiny_bandit.model(), config, prompts=tiny_bandit.PROMPTS, reward=reward,
    processing_class=tiny_bandit.tokenizer(),
)
made._scorer._wait = 0.001
try:
    made.train()
except Exception as error:
    Path(folder, f"{made.accelerator.process_index}.txt").write_text(f"{type(error).__name__}: {error}")
"""


@pytest.mark.slow
def test_a_reward_that_fails_in_one_process_stops_all_with_the_state_saved(tmp_path):
    """The first process, which writes, is not the one whose reward server stopped answering."""
    launch(tmp_path, FAILING, 2, str(tmp_path))
    assert (tmp_path / "1.txt").read_text() == "TimeoutError: no answer"
    assert (tmp_path / "0.txt").read_text() == "DataError: process 1 stopped the run: TimeoutError: no answer"
    state = json.loads((tmp_path / "checkpoint-1" / "trainer_state.json").read_text())
    assert state["global_step"] == 1
