"""Two processes (gloo) train the same model as one; weights sharded by FSDP give the same gradients."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
import tiny_policy, tiny_tables
from pluralign.policy import OfflineConfig, OfflineTrainer, FunctionReward

folder, size, steps = sys.argv[1], int(sys.argv[2]), 3
config = OfflineConfig(
    folder, method="qrpo", beta=0.5, learning_rate=1e-3, optim="sgd", max_grad_norm=0.0, max_steps=steps,
    per_device_train_batch_size=size, logging_steps=1, report_to="none", use_cpu=True, disable_tqdm=True,
    save_strategy="no", eval_max_new_tokens=6, eval_prompts=4, train_sampling_strategy="sequential",
)
trainer = OfflineTrainer(
    tiny_policy.model(), config, tiny_tables.pairs(12), tiny_tables.pairs(4, 1), tiny_policy.tokenizer(),
    reward=FunctionReward(lambda prompts, texts: [float(len(text)) for text in texts], "length"),
)
trainer.train()
metrics = trainer.evaluate()
if trainer.is_world_process_zero():
    import json
    from pathlib import Path
    from safetensors.torch import save_file
    weights = {k: v.contiguous().clone() for k, v in trainer.model.state_dict().items()}
    save_file(weights, f"{folder}/w.safetensors")
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    samples = {k: v for k, v in metrics.items() if "samples/" in k}
    Path(folder, "found.json").write_text(json.dumps([losses, samples, metrics["eval_loss"]]))
"""


SHARDED = """
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
import tiny_policy
from pluralign.policy.packing import pack
from pluralign.policy.scored_forward import install, response_log_probs

torch.set_num_threads(1)
dist.init_process_group("gloo")
packed = pack([([3, 4, 5], [6, 7]), ([8], [9, 10, 11, 12, 1]), ([13, 14], [15])], None)
upstream = torch.tensor([1.0, -2.0, 0.5])
found = []
for sharded in (False, True):
    model = tiny_policy.model()
    install(model)
    if sharded:
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
    log_probs = response_log_probs(model, packed)
    (log_probs * upstream).sum().backward()
    gradients = [p.grad.full_tensor() if sharded else p.grad for p in model.parameters()]
    found.append([log_probs.detach(), *gradients])
for one, other in zip(*found, strict=True):
    torch.testing.assert_close(one, other)
dist.destroy_process_group()
"""


def launch(folder: Path, script: str, processes: int, *arguments: str) -> None:
    folder.mkdir(exist_ok=True)
    file = folder / "script.py"
    file.write_text(script)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={port}"]
    done = subprocess.run(
        [*command, str(file), *arguments], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    launch(tmp_path / "one", SCRIPT, 1, str(tmp_path / "one"), "4")
    launch(tmp_path / "two", SCRIPT, 2, str(tmp_path / "two"), "2")
    one, two = (load_file(tmp_path / name / "w.safetensors") for name in ("one", "two"))
    for name in one:
        assert (one[name] - two[name]).abs().max() < 1e-5, name
    first, second = (json.loads((tmp_path / name / "found.json").read_text()) for name in ("one", "two"))
    assert first[0] == pytest.approx(second[0], rel=1e-4)
    assert first[1] == pytest.approx(second[1], rel=1e-3, abs=1e-4)
    assert first[2] == pytest.approx(second[2], rel=1e-4)


@pytest.mark.slow
def test_sharded_weights_are_gathered_for_the_head_and_the_layers(tmp_path):
    launch(tmp_path, SHARDED, 2)
