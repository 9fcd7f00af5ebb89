"""A stage without a model, which tests and their workers can import: how long a text is, and who did it.

Files in a folder say what happened: `calls` has a line for every batch, and where `stop-SHARD` lies the
process that comes to the first row of that shard is killed, once; with `deadly-SHARD` always.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pluralign.engines import Job, Stage, store_rows
from pluralign.engines.stages import text_column
from pluralign.errors import ArgumentError

COLUMNS = pa.schema({"id": pa.string(), "length": pa.int64(), "vector": pa.list_(pa.float32())})


class Lettered:
    """Counts the letters of responses."""

    def __init__(self, folder: str, factor: int = 1, seconds: float = 0.0) -> None:
        self.folder, self.factor, self.seconds = Path(folder), factor, seconds

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        first = str(batch["id"][0])
        with (self.folder / "calls").open("a") as log:
            log.write(f"{os.getpid()} {first} {len(batch['id'])}\n")
        time.sleep(self.seconds)
        for mark in self.folder.glob("stop-*"):
            if mark.name == f"stop-{first}":
                mark.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        if (self.folder / f"deadly-{first}").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if "refused" in batch["response"]:
            raise ArgumentError("a response that this stage refuses")
        length = np.array([len(text) * self.factor for text in batch["response"]])
        vector = np.stack([length, np.sqrt(length)], axis=1).astype(np.float32)
        return {"id": text_column(list(batch["id"])), "length": length, "vector": vector}


def small_files(**arguments: Any) -> Lettered:
    """The stage in a process that may write files of 400 bytes only."""
    sys.dont_write_bytecode = True  # 400 bytes of it would break the imports of other processes
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return Lettered(**arguments)


def tables(count: int, at_a_time: int = 7) -> list[pa.Table]:
    """Rows with ids 0, 1, ... and responses of growing length."""
    return [
        pa.table(
            {
                "id": [str(i) for i in range(start, min(start + at_a_time, count))],
                "response": ["x" * (i % 50) for i in range(start, min(start + at_a_time, count))],
            }
        )
        for start in range(0, count, at_a_time)
    ]


def lettered_job(
    folder: Path,
    count: int = 40,
    rows_per_shard: int = 6,
    batch_rows: int = 4,
    make: Callable[..., Any] = Lettered,
    model: str = "a",
    **arguments: Any,
) -> Job:
    """A job over made-up rows; `calls` and `stop-*` are in `folder`."""
    rows = store_rows(tables(count), folder / "rows", rows_per_shard, {"count": count})
    stage = Stage(make, {"folder": str(folder), **arguments}, COLUMNS, batch_rows)
    return Job(stage, rows.path, folder / "out", {"stage": "lettered", "model": model, "rows": count})


def calls(folder: Path) -> list[tuple[str, str, int]]:
    """Process, first id and number of rows of every batch."""
    lines = (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []
    return [(pid, first, int(rows)) for pid, first, rows in (line.split() for line in lines)]
