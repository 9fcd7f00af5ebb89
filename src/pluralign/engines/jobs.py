"""A job: a stage, rows on disk, and a folder of finished shards; `finish` brings it to its end on any engine.

    rows/   the input, cut into shards (`stored_rows`)
    shards  the results (`policy.sampling.shards`), one file per file of rows, each complete or absent

A shard is the unit of work and of loss: a worker that dies, a full disk or Ctrl-C loses only the shards in
progress, and the same call makes those that are missing. Which worker makes a shard changes nothing in it,
since batches are counted from its first row. The manifest of the shards names the model, the input and the
settings; a folder of others is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pluralign.backbones.progress import Progress
from pluralign.engines.stages import Batch, RowFunction, Stage, text_column
from pluralign.engines.stored_rows import StoredRows, read_stored_rows
from pluralign.errors import RunError
from pluralign.policy.sampling.shards import ShardFolder, read_manifest

__all__ = ["Engine", "Job", "ShardWorker", "finish"]


@dataclass(frozen=True)
class Job:
    """What is to be done, and where; it can be pickled.

    Attributes:
        stage: what is done to rows.
        rows: folder of the rows.
        out: folder of the finished shards.
        description: everything that determines the results: input, model, settings; JSON types.
    """

    stage: Stage
    rows: Path
    out: Path
    description: Mapping[str, Any]

    def shards(self) -> ShardFolder:
        """The folder of finished shards.

        Raises:
            RunError: it is that of another model, input or other settings.
            ArtifactError: there are no rows.
        """
        shards = read_stored_rows(self.rows).num_shards
        return ShardFolder(self.out, self.description, shards, self.stage.columns)


class Engine(Protocol):
    """Runs the shards of a job; when it returns they are finished."""

    name: str

    def run(self, job: Job, shards: Sequence[int], progress: Progress | None) -> None:
        """Works on these shards until all of them are on disk.

        Args:
            job: what is to be done, and where.
            shards: numbers of shards.
            progress: called with (shards done, shards in all) after each.

        Raises:
            PluralignError: a shard cannot be made; finished ones stay.
        """
        ...


def finish(job: Job, engine: Engine, progress: Progress | None = None) -> ShardFolder:
    """Makes the shards that are missing.

    Args:
        job: its rows are stored.
        engine: where it runs.
        progress: called with (shards done, shards in all), first with those that were there.

    Returns:
        The folder, finished.

    Raises:
        RunError: the folder belongs to another job, or a worker wrote elsewhere.
        PluralignError: a shard cannot be made.
    """
    folder = job.shards()
    missing = folder.missing()
    if not missing:
        return folder
    folder.begin()
    there = folder.num_shards - len(missing)

    def advance(done: int, _: int) -> None:
        if progress is not None:
            progress(there + done, folder.num_shards)

    advance(0, 0)
    engine.run(job, missing, advance)
    lost = folder.missing()
    if lost:
        raise RunError(
            f"{len(lost)} of {folder.num_shards} shards are not in {folder.path}, the first is {lost[0]}, "
            "though workers reported them as written. The folder must be on storage that all machines share"
        )
    return folder


class ShardWorker:
    """Makes shards, one at a time; its object of the stage is made with the first and then kept."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._function: RowFunction | None = None
        self._rows: StoredRows | None = None
        self._folder: ShardFolder | None = None

    def make(self, number: int) -> None:
        """Makes one shard, unless it is there.

        Raises:
            RunError: this machine does not see the folders of the job.
            PluralignError: the model cannot be loaded, or fails on rows of the shard.
        """
        folder, rows = self._places()
        if folder.is_whole(number):  # this worker, or another one, was killed just after it wrote it
            return
        stage = self._job.stage
        if self._function is None:
            self._function = stage.make(**stage.arguments)
        table = rows.read(number)
        parts = [
            self._function(_batch(table.slice(start, stage.batch_rows)))
            for start in range(0, len(table), stage.batch_rows)
        ]
        folder.write(number, {name: _joined(parts, name, stage) for name in stage.columns.names})

    def _places(self) -> tuple[ShardFolder, StoredRows]:
        if self._folder is None or self._rows is None:
            job = self._job
            try:
                self._rows = read_stored_rows(job.rows)
                read_manifest(job.out)
            except ValueError as error:  # an ArtifactError
                raise RunError(
                    f"{job.rows} and {job.out} cannot be read here ({error}). Input and output must be on "
                    "storage that every machine sees under the same path: put --out there"
                ) from error
            self._folder = job.shards()
        return self._folder, self._rows


def _batch(table: Any) -> Batch:
    return {name: text_column(table.column(name).to_pylist()) for name in table.column_names}


def _joined(parts: list[Batch], name: str, stage: Stage) -> Any:
    """One column of a shard, from those of its batches."""
    import pyarrow as pa

    kind = stage.columns.field(name).type
    arrays = []
    for part in parts:
        values = part[name]
        if values.ndim == 2:
            bounds = np.arange(0, values.size + 1, values.shape[1] or 1, dtype=np.int32)[: len(values) + 1]
            flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
            arrays.append(pa.ListArray.from_arrays(pa.array(bounds), flat))
        else:
            arrays.append(pa.array(values.tolist(), kind))
    return pa.chunked_array(arrays, kind)
