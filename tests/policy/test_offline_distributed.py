"""Two processes (gloo) train the same model as one."""

from __future__ import annotations

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


def run(folder: Path, processes: int, size: int) -> None:
    folder.mkdir()
    script = folder / "train.py"
    script.write_text(SCRIPT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tests = Path(__file__).parent.parent
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tests)}
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={port}"]
    done = subprocess.run(
        [*launch, str(script), str(folder), str(size)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    import json

    run(tmp_path / "one", 1, 4)
    run(tmp_path / "two", 2, 2)
    one, two = (load_file(tmp_path / name / "w.safetensors") for name in ("one", "two"))
    for name in one:
        assert (one[name] - two[name]).abs().max() < 1e-5, name
    first, second = (json.loads((tmp_path / name / "found.json").read_text()) for name in ("one", "two"))
    assert first[0] == pytest.approx(second[0], rel=1e-4)
    assert first[1] == pytest.approx(second[1], rel=1e-3, abs=1e-4)
    assert first[2] == pytest.approx(second[2], rel=1e-4)
