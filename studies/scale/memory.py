"""Memory against rows: `pluralign score` on a tiny random encoder, the whole table at once and by engine.

In: how, and the number of rows. Out: the most memory that the command held, and that of the largest worker of
Ray. Each run is a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from typing import Any

from studies.scale.world import PLACE, descendants, highest_mib, is_worker, model_on, rows_file

ROWS = (10_000, 100_000, 1_000_000)
HOW = {
    "local": ["--engine", "local"],
    "Ray": ["--engine", "ray", "--ray_workers", "2"],
    "whole table": ["--cache", "none"],
}
RUNS = [{"how": how, "rows": rows} for rows in ROWS for how in HOW]


def run(how: str, rows: int, seed: int) -> dict[str, Any]:
    """Scores so many rows.

    Args:
        how: of `HOW`.
        rows: number of rows.
        seed: 0; the encoder's and the head's.
    """
    model, source = model_on("tiny"), rows_file(rows)
    out = PLACE / f"scores-{list(HOW).index(how)}-{rows}.jsonl"
    shutil.rmtree(f"{out}.shards", ignore_errors=True)
    line = ["score", "--model", str(model), "--data", str(source), "--out", str(out), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pluralign.cli.main", *line, *HOW[how]]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    most = workers = 0.0
    while process.poll() is None:
        most = max(most, highest_mib(process.pid))
        if how == "Ray":
            here = [highest_mib(pid) for pid, name in descendants(process.pid) if is_worker(name)]
            workers = max([workers, *here])
        time.sleep(0.2)
    seconds = time.perf_counter() - started
    assert process.stderr is not None
    said = process.stderr.read().decode()
    if process.returncode:
        raise RuntimeError(said[-2000:])
    with out.open("rb") as file:
        written = sum(1 for _ in file)
    if written != rows:
        raise RuntimeError(f"{written} of {rows} rows were written")
    found = {"peak_mib": most, "seconds": seconds, "out_mib": out.stat().st_size / 2**20}
    with contextlib.suppress(FileNotFoundError):
        out.unlink()
    shutil.rmtree(f"{out}.shards", ignore_errors=True)
    return found | ({"worker_peak_mib": workers} if how == "Ray" else {})
