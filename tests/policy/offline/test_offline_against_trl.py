"""TRL's `DPOTrainer` as an oracle: the same pairs, the same loss, the same first step."""

from __future__ import annotations

import pytest
import torch

import tiny_policy
import tiny_tables
from pluralign.policy import OfflineConfig, OfflineTrainer


@pytest.mark.peer
def test_dpo_steps_are_those_of_trl(tmp_path):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    torch.set_num_threads(1)
    table = tiny_tables.pairs(8)
    common = {
        "beta": 0.5,
        "learning_rate": 1e-3,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "max_length": None,
    }
    tokenizer = tiny_policy.tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    talks = [
        {
            "prompt": tiny_policy.user(row["prompt"]),
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in table
    ]
    ours = OfflineTrainer(
        tiny_policy.model(),
        OfflineConfig(str(tmp_path / "ours"), method="dpo", **common),
        table,
        processing_class=tokenizer,
    )
    theirs = DPOTrainer(
        tiny_policy.model(),
        args=DPOConfig(
            str(tmp_path / "theirs"), gradient_checkpointing=False, precompute_ref_log_probs=True, **common
        ),
        train_dataset=Dataset.from_list(talks),
        processing_class=tokenizer,
    )
    ours.train()
    theirs.train()
    logs = [[line for line in made.state.log_history if "loss" in line] for made in (ours, theirs)]
    for one, other in zip(*logs, strict=True):
        for key in ("loss", "rewards/margins", "logps/chosen", "logps/rejected"):
            assert one[key] == pytest.approx(other[key], rel=1e-3, abs=1e-4), key
    # Before the first step nothing differs; TRL counts the signs of rounding, we count a half.
    assert logs[0][0]["rewards/accuracies"] == 0.5
    assert [line["rewards/accuracies"] for line in logs[0][1:]] == pytest.approx(
        [line["rewards/accuracies"] for line in logs[1][1:]]
    )
    for (name, one), (_, other) in zip(
        ours.model.state_dict().items(), theirs.model.state_dict().items(), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
