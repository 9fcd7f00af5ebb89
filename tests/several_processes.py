"""Starts a script in one or several processes (gloo), and lets accelerate shard models on CPUs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path


def launch(
    folder: Path, script: str, processes: int, *arguments: str, dies_in_step: int | None = None
) -> None:
    """Runs the script to its end, or, with `dies_in_step` in its environment, to the death of a process."""
    folder.mkdir(exist_ok=True)
    file = folder / "script.py"
    file.write_text(script)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    paths = os.pathsep.join(filter(None, sys.path))  # so that the script can import what the test can
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    if dies_in_step is not None:
        environment["DIES_IN_STEP"] = str(dies_in_step)
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={port}"]
    done = subprocess.run(
        [*command, str(file), *arguments], env=environment, capture_output=True, text=True, timeout=900
    )
    assert (done.returncode == 0) == (dies_in_step is None), done.stderr[-3000:]


def allow_fsdp_on_cpus() -> None:
    """accelerate falls back on DDP where there is no accelerator; torch can shard there as well."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    plain = AcceleratorState.__init__

    def initialize(self, *args, fsdp_plugin=None, **options):
        plain(self, *args, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            if self._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self._mixed_precision)

    AcceleratorState.__init__ = initialize
