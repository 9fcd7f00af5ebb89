"""Engines beside each other on one machine: 20,000 responses scored on MiniLM, one worker killed on the way.

In: a case. Out: processor seconds of the process that asks, of workers and of the rest of Ray; seconds by the
clock; and a digest of all finished shards, which is
the same for cases that give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from studies.scale.world import PLACE, Processor, descendants, is_worker, model_on, rows_file

ROWS = 20_000
ROWS_PER_SHARD = 512


class Case(NamedTuple):
    """Workers (None for the local engine), threads of each, and after how many shards one is killed."""

    workers: int | None
    threads: int
    kill_after: int | None = None


CASES = {
    "local, one thread": Case(None, 1),
    "local, two threads": Case(None, 2),
    "Ray, one worker": Case(1, 1),
    "Ray, two workers": Case(2, 1),
    "Ray, two workers, one killed": Case(2, 1, kill_after=10),
}


def run(case: str, seed: int) -> dict[str, Any]:
    """Scores the rows.

    Args:
        case: of `CASES`.
        seed: 0; the head's weights are those of this seed.
    """
    import torch

    from pluralign import data
    from pluralign.engines import Engine, Job, LocalEngine, RayEngine, finish, score_stage, store_rows

    wanted, place = CASES[case], PLACE / "engines"
    shutil.rmtree(place, ignore_errors=True)
    started = time.perf_counter()
    source = rows_file(ROWS)
    rows = store_rows(data.stream_responses(source), place / "rows", ROWS_PER_SHARD, {"rows": ROWS})
    stored = time.perf_counter() - started
    stage = score_stage(str(model_on("minilm")), ["response"], device="cpu")
    job = Job(stage, rows.path, place / "out", {"stage": "scores", "rows": ROWS})
    engine: Engine = LocalEngine()
    if wanted.workers is not None:
        engine = RayEngine(workers=wanted.workers, cpus=wanted.threads)
    times: list[float] = []
    killed: list[int] = []

    def watch(done: int, total: int) -> None:
        times.append(time.perf_counter())
        if wanted.kill_after is not None and done >= wanted.kill_after and not killed:
            killed.append(_kill_a_worker())

    before = torch.get_num_threads()
    torch.set_num_threads(wanted.threads)
    try:
        processor = Processor()
        started, cpu = time.perf_counter(), time.process_time()
        finish(job, engine, watch)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        of_workers, of_ray = processor.stop()
    finally:
        torch.set_num_threads(before)
    # The first call says what was there; the next ones are behind a shard each.
    rate = ROWS_PER_SHARD * (len(times) - 2) / (times[-1] - times[1])
    found = {
        "rows": ROWS,
        "shards": rows.num_shards,
        "store_seconds": stored,
        "seconds": seconds,
        "cpu_seconds": {"asking": cpu, "workers": of_workers, "others": of_ray},
        "first_shard_seconds": times[1] - started,
        "rows_per_second": rate,
        "killed": len([pid for pid in killed if pid]),
        "digest": _digest(place / "out"),
    }
    shutil.rmtree(place)
    return found


def _kill_a_worker() -> int:
    """Ends the first worker without warning, in a thread that waits until it is at work; its number."""
    found = [pid for pid, command in descendants(os.getpid()) if is_worker(command)]
    if not found:
        return 0
    threading.Timer(0.5, os.kill, (found[0], signal.SIGKILL)).start()
    return found[0]


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(folder.glob("shard-*.parquet")):
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]
