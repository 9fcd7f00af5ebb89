"""Resuming: a run that is over stays as it is, and the mean loss is that of all its steps."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from transformers import TrainerCallback

import tiny_policy
import tiny_tables
from pluralign.errors import ArtifactError
from pluralign.policy import OfflineConfig, OfflineTrainer
from pluralign.training.resuming import RunLoss


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def trainer(folder, objective="dpo", evaluation=None, callbacks=None, **options):
    defaults = {"beta": 0.5, "learning_rate": 1e-3, "per_device_train_batch_size": 4, "logging_steps": 1}
    config = OfflineConfig(
        str(folder),
        method=objective,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **(defaults | options),
    )
    return OfflineTrainer(
        tiny_policy.model(),
        config,
        tiny_tables.pairs(),
        evaluation,
        tiny_policy.tokenizer(),
        callbacks=callbacks,
    )


def weights(made):
    return {name: value.clone() for name, value in made.model.state_dict().items()}


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# 12 rows, 4 to a step
SPANS = {
    "inside an epoch": {"num_train_epochs": 4, "max_steps": 5},
    "at the end of an epoch": {"max_steps": 6},
    "epochs": {"num_train_epochs": 2},
    "part of an epoch": {"num_train_epochs": 1.5},
    "steps of several batches": {  # the last step of each epoch has 2 rows
        "max_steps": 4,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 5,
    },
}
FAST = ("inside an epoch", "steps of several batches")
spans = pytest.mark.parametrize(
    "span", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in SPANS]
)


def hostile_state(path):
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"stateful_callbacks": {"RunLoss": {"args": {"total": "x"}}}}))


def another_model(path):
    save_file({"w": torch.zeros(1)}, path)


def other_moments(path):
    saved = torch.load(path, weights_only=True)
    torch.save({"state": saved["state"], "param_groups": []}, path)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, caplog):
    options = {"max_steps": 4, "save_steps": 1, "save_strategy": "steps", "save_total_limit": None}
    straight = trainer(tmp_path, **options)
    straight.train()
    (tmp_path / "checkpoint-4" / "optimizer.pt").write_bytes(b"half")
    (tmp_path / "checkpoint-3" / "model.safetensors").write_bytes(b"half")
    again = trainer(tmp_path, **options)
    again.train(resume_from_checkpoint=True)
    assert_equal_weights(weights(straight), weights(again))
    assert "checkpoint-4 was not written completely or is damaged: optimizer.pt" in caplog.text
    assert "checkpoint-3 was not written completely or is damaged: model.safetensors" in caplog.text
    # Files that can be read, with a content that cannot be used: the folder is named.
    for name, damage, what in (
        ("trainer_state.json", lambda p: p.write_text('{"global_step": 2, "odd": 1}'), "state"),
        ("trainer_state.json", hostile_state, "state"),
        ("model.safetensors", another_model, "weights"),
        ("optimizer.pt", other_moments, "optimizer or schedule"),
        ("scheduler.pt", lambda p: torch.save([], p), "optimizer or schedule"),
        ("rng_state.pth", lambda p: torch.save({"python": 1}, p), "random numbers"),
    ):
        copied = shutil.copytree(tmp_path / "checkpoint-2", tmp_path / "copies" / "checkpoint-2")
        damage(copied / name)
        with pytest.raises(ArtifactError, match=f"checkpoint-2: its {what} cannot be used"):
            trainer(tmp_path, **options).train(resume_from_checkpoint=str(copied))
        shutil.rmtree(copied)


@spans
def test_a_run_that_stands_at_its_last_step_is_finished(tmp_path, span):
    """Under a constant schedule one more step would move the weights by 1e-3."""
    options = {"lr_scheduler_type": "constant", "save_strategy": "epoch", "eval_strategy": "epoch"} | SPANS[
        span
    ]
    straight = trainer(tmp_path, "qrpo", evaluation=tiny_tables.pairs(3, 1), **options)
    done = straight.train()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert (tmp_path / f"checkpoint-{done.global_step}").is_dir()
    again = trainer(tmp_path, "qrpo", evaluation=tiny_tables.pairs(3, 1), **options)
    found = again.train(resume_from_checkpoint=True)
    assert found.global_step == done.global_step
    assert_equal_weights(weights(straight), weights(again))
    assert found.training_loss == found.metrics["train_loss"] == pytest.approx(done.training_loss, rel=1e-12)
    lines = [
        [line for line in made.state.log_history if "train_loss" not in line] for made in (straight, again)
    ]
    assert lines[0] == lines[1]  # nothing was logged or evaluated again
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_last_step_that_was_moved_closer_is_reached_already(tmp_path):
    options = {"lr_scheduler_type": "constant", "save_steps": 5}
    straight = trainer(tmp_path, "dpo", max_steps=5, **options)
    straight.train()
    again = trainer(tmp_path, "dpo", max_steps=4, **options)
    assert again.train(resume_from_checkpoint=True).global_step == 5
    assert_equal_weights(weights(straight), weights(again))


@spans
@pytest.mark.parametrize("logging_steps", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_training_loss_is_that_of_the_whole_run(tmp_path, span, logging_steps):
    """The mean of the logged losses, and the same after interruptions, also twice and between log lines."""
    options = {"save_steps": 1, "logging_steps": logging_steps, "max_grad_norm": 1.0} | SPANS[span]
    straight = trainer(tmp_path / "straight", **options)
    done = straight.train()
    assert done.training_loss == done.metrics["train_loss"]
    if logging_steps == 1:
        losses = [line["loss"] for line in straight.state.log_history if "loss" in line]
        assert len(losses) == done.global_step
        assert done.training_loss == pytest.approx(sum(losses) / len(losses), rel=1e-6)

    class Stop(TrainerCallback):
        def __init__(self, step):
            self.step = step

        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == self.step:
                raise KeyboardInterrupt

    for start, stop in ((None, 1), (True, 2)):
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path / "broken", callbacks=[Stop(stop)], **options).train(start)
    resumed = trainer(tmp_path / "broken", **options)
    found = resumed.train(resume_from_checkpoint=True)
    assert_equal_weights(weights(straight), weights(resumed))
    assert found.training_loss == found.metrics["train_loss"] == pytest.approx(done.training_loss, rel=1e-6)
    assert resumed.state.log_history[-1]["train_loss"] == found.training_loss


def test_the_loss_of_a_second_run_of_one_trainer_is_its_own(tmp_path):
    made = trainer(tmp_path, max_steps=2, learning_rate=1e-3)
    first = made.train().training_loss
    losses = [line["loss"] for line in made.state.log_history if "loss" in line]
    assert first == pytest.approx(sum(losses) / 2, rel=1e-6)
    second = made.train().training_loss
    losses = [line["loss"] for line in made.state.log_history if "loss" in line]
    assert second == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert second < first


def test_callbacks_that_transformers_restores_itself_count_the_loss_too(tmp_path):
    options = {"max_steps": 4, "save_steps": 2, "restore_callback_states_from_checkpoint": True}
    done = trainer(tmp_path, **options).train()
    shutil.rmtree(tmp_path / "checkpoint-4")
    found = trainer(tmp_path, **options).train(resume_from_checkpoint=True)
    assert found.training_loss == pytest.approx(done.training_loss, rel=1e-6)


def test_the_sum_of_losses_by_hand():
    """Two batches a step; what is no number counts as the mean so far where that is asked for."""
    counted = RunLoss()
    assert counted.mean is None
    for losses in ((1.0, 2.0), (3.0, float("nan"))):
        for loss in losses:
            counted.add(torch.tensor(loss), filtered=True)
        counted.on_step_end(None, None, None)
    counted.settle(lambda value: value)
    assert counted.state()["args"] == {"total": 12.0, "steps": 2}  # 1 + 2 + 3 + (1 + 2 + 3) / 1
    assert counted.mean == 6.0
    counted.add(torch.tensor(float("nan")))
    counted.settle(lambda value: value / 2)
    assert counted.mean != counted.mean
