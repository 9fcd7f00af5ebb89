"""The engine of one process: shards one after the other, in this process, on its cores or its GPU."""

from __future__ import annotations

from collections.abc import Sequence

from pluralign.backbones.progress import Progress
from pluralign.engines.jobs import Job, ShardWorker

__all__ = ["LocalEngine"]


class LocalEngine:
    """Makes shards in this process."""

    name = "local"

    def run(self, job: Job, shards: Sequence[int], progress: Progress | None) -> None:
        """Makes these shards; see `Engine`."""
        worker = ShardWorker(job)
        for done, number in enumerate(shards, start=1):
            worker.make(number)
            if progress is not None:
                progress(done, len(shards))
