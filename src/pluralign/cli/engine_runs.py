"""What `embed`, `score` and `sample` share when they work in shards: the engine, the rows, the progress."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pluralign.cli.console import Console
from pluralign.cli.engine_flags import RayFlags
from pluralign.cli.parsing import UsageError
from pluralign.errors import ArgumentError, DataError
from pluralign.report.wording import counted

if TYPE_CHECKING:
    from pluralign.engines import Engine, StoredRows

__all__ = ["check_workers", "engine_from", "progress_lines", "rows_of", "worker_device"]

ROWS = "rows"  # in the run folder, while it is not finished

_SECONDS = 10.0  # between lines of progress


def check_workers(engine: str | None, flags: RayFlags) -> None:
    """Rejects flags of Ray without it.

    Raises:
        UsageError: one was given.
    """
    given = [name for name, value in vars(flags).items() if value != getattr(RayFlags(), name)]
    if given and engine != "ray":
        raise UsageError(f"--{given[0]} needs --engine ray")


def engine_from(name: str, flags: RayFlags) -> Engine:
    """The engine of that name.

    Raises:
        UsageError: a number is out of range.
        MissingDependencyError: Ray Data is not installed.
    """
    from pluralign.backbones import use_idle_cores
    from pluralign.engines import LocalEngine, RayEngine

    if name == "local":
        use_idle_cores()
        return LocalEngine()
    try:
        return RayEngine(
            workers=flags.ray_workers, cpus=flags.ray_cpus, gpus=flags.ray_gpus, address=flags.ray_address
        )
    except ArgumentError as error:
        raise UsageError(f"--ray_{error}") from None  # arguments have the names of the flags without it


def worker_device(name: str, device: str | None, flags: RayFlags) -> str | None:
    """The device of a worker's model: Ray's workers have the GPUs that they ask for, and no others."""
    return "cpu" if device is None and name == "ray" and not flags.ray_gpus else device


def rows_of(
    source: str,
    folder: Path,
    rows_per_shard: int,
    console: Console,
    *,
    digest: str,
    columns: Mapping[str, str] | None,
    split: str | None,
) -> StoredRows:
    """The rows of a source, checked and cut into shards in the run folder.

    Args:
        source: file, folder or hub id.
        folder: the run folder.
        rows_per_shard: see `store_rows`.
        console: where their number is printed.
        digest: of the source.
        columns: our column names to the file's.
        split: of a hub data set.

    Raises:
        DataError: rows are invalid.
    """
    from pluralign import data
    from pluralign.engines import store_rows

    facts = {"source": digest, "columns": columns, "split": split}
    tables = data.stream_responses(source, columns=columns, split=split)
    try:
        rows = store_rows(tables, folder / ROWS, rows_per_shard, facts)
    except DataError:  # a corrected file is another one, and finds a free name
        shutil.rmtree(folder / ROWS, ignore_errors=True)
        raise
    console.say(
        f"{counted(rows.rows, 'row')} in {counted(rows.num_shards, 'shard')} of at most {rows_per_shard:,}, "
        f"in {folder}"
    )
    return rows


def progress_lines(console: Console, what: str) -> Callable[[int, int], None]:
    """A function that prints how many shards are done: what was there already, and then every few seconds."""
    last = -_SECONDS

    def print_progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last >= _SECONDS:
            last = now
            console.say(f"  {done:,} of {total:,} {what}")

    return print_progress
