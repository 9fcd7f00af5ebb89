"""Two processes (gloo) train the same model as one: whole (DDP) or sharded (FSDP 2), interrupted or not."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from several_processes import launch

# 11 and 5 rows: the last batches are filled up with rows that must not count twice (but in tokens seen).
SCRIPT = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import several_processes, tiny_architectures, tiny_policy, tiny_tables
several_processes.allow_fsdp_on_cpus()
from pluralign.policy import FunctionReward, OfflineConfig, OfflineTrainer, lora_config

folder, options = sys.argv[1], json.loads(sys.argv[2])
lora, resume = options.pop("lora", False), options.pop("resume", False)
architecture, bins = options.pop("architecture", None), options.pop("bins", None)
config = OfflineConfig(
    folder, method="qrpo", beta=0.5, learning_rate=1e-3, num_train_epochs=2, logging_steps=1,
    report_to="none", use_cpu=True, disable_tqdm=True, eval_max_new_tokens=6, eval_prompts=5, save_steps=3,
    per_device_eval_batch_size=2, **options,
)
model = tiny_policy.model() if architecture is None else tiny_architectures.tiny_model(architecture, 261)
trainer = OfflineTrainer(
    model, config, tiny_tables.pairs(11), tiny_tables.pairs(5, 1), tiny_policy.tokenizer(),
    peft_config=lora_config(4, 8, 0.0, "all-linear") if lora else None,
    reward=FunctionReward(lambda prompts, texts: [float(len(text)) for text in texts], "length"),
)
done = trainer.train(resume_from_checkpoint=resume or None)
metrics = trainer.evaluate() | {"train_loss": done.training_loss}
if config.fsdp:
    assert trainer.data_collator.bin_tokens == bins, trainer.data_collator.bin_tokens
    from torch.distributed.tensor import DTensor
    for module in trainer.model.modules():
        if hasattr(module, "reshard"):
            module.reshard()
    for p in trainer.model.parameters():
        assert isinstance(p, DTensor) and p.to_local().numel() < p.numel()
trainer.save_model(f"{folder}/model")
if trainer.is_world_process_zero():
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    found = {k: v for k, v in metrics.items() if not k.endswith(("_runtime", "_second", "_time", "_seen"))}
    Path(folder, "found.json").write_text(json.dumps([losses, found, trainer._reference.tolist()]))
"""

SHARDS = {"fsdp": True, "fsdp_config": {"auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}}


def run(folder, processes, **options):
    size = 4 // processes
    launch(
        folder, SCRIPT, processes, str(folder), json.dumps({"per_device_train_batch_size": size} | options)
    )
    (file,) = (folder / "model").glob("*model.safetensors")
    return [*json.loads((folder / "found.json").read_text()), load_file(file)]


def assert_same(one, other):
    for key in one[1]:
        assert one[1][key] == pytest.approx(other[1][key], rel=1e-3, abs=1e-4), key
    assert one[0] == pytest.approx(other[0], rel=1e-3)
    torch.testing.assert_close(torch.tensor(one[2]), torch.tensor(other[2]), atol=1e-4, rtol=1e-5)
    assert one[3].keys() == other[3].keys()
    for name in one[3]:
        torch.testing.assert_close(one[3][name], other[3][name], atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    options = {"optim": "sgd", "max_grad_norm": 0.0}
    assert_same(run(tmp_path / "one", 1, **options), run(tmp_path / "two", 2, **options))


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_sharded_training_is_that_of_one_process_and_resumes_exactly(tmp_path, lora):
    """Checkpoints are sharded too; what is saved at the end is a whole model."""
    kind = "FULL_STATE_DICT" if lora else "SHARDED_STATE_DICT"
    shards = {"fsdp": True, "fsdp_config": SHARDS["fsdp_config"] | {"state_dict_type": kind}}
    straight = run(tmp_path / "two", 2, lora=lora, **shards)
    assert_same(run(tmp_path / "one", 1, lora=lora), straight)
    if not lora:
        from transformers import AutoModelForCausalLM

        AutoModelForCausalLM.from_pretrained(tmp_path / "two" / "model")
    shutil.rmtree(tmp_path / "two" / "checkpoint-6")
    shutil.rmtree(tmp_path / "two" / "model")
    resumed = run(tmp_path / "two", 2, lora=lora, resume=True, **shards)
    for name, value in straight[3].items():
        assert torch.equal(resumed[3][name], value), name
    assert resumed[1]["train_loss"] == pytest.approx(straight[1]["train_loss"], rel=1e-6)
    assert {k: v for k, v in resumed[1].items() if "samples/" in k} == {
        k: v for k, v in straight[1].items() if "samples/" in k
    }


@pytest.mark.slow
def test_sharded_training_in_half_precision_does_not_round_log_probabilities(tmp_path):
    found = run(tmp_path, 2, bf16=True, **SHARDS)
    reference = torch.tensor(found[2])
    assert (reference.bfloat16().float() != reference).float().mean() > 0.8
    assert found[3]["model.norm.weight"].dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["lfm2", "opt"])
def test_shards_of_a_model_that_mixes_packed_sequences(tmp_path, architecture):
    """Each sequence alone, as often in one process as in the other: also where batches differ in rows."""
    options = {"architecture": architecture, "reference_batch_tokens": 60}
    options |= {"optim": "sgd", "max_grad_norm": 0.0}
    one = run(tmp_path / "one", 1, **options)
    two = run(tmp_path / "two", 2, bins=1, **options, **SHARDS)
    head = two[3].pop("lm_head.weight")  # a tied head is saved beside the embeddings
    assert any(torch.equal(head, weight) for weight in two[3].values())
    assert_same(one, two)
