"""Several processes that embed together: `accelerate launch` or `torchrun`, one process per GPU.

Each process calls `Backbone.embed` with the same conversations, runs its share of the texts that are in no
cache, and gets every vector. In and out: masks, small objects and tensors, which are exchanged over gloo on
the CPU in a separate group: vectors are needed on the CPU anyway, and neither the backend chosen for training
nor GPU memory matters.

All processes of a machine share one cache, without shards. LMDB allows one writer at a time, but storing a
batch of 64 vectors takes 2 ms (6 ms for 4,096 numbers each; 9 and 22 ms when four processes do so at once),
far less than computing it, and a single database needs no merging. With several machines each keeps what its
own processes computed, and texts that are missing on any of them are computed again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pluralign.errors import ArgumentError, RunError

__all__ = ["ALONE", "World", "find_world", "is_first", "local_device"]

_T = TypeVar("_T")
# How long to wait for a slower process; a process that ended is noticed at once.
_PATIENCE = timedelta(hours=2)
_CHUNK_BYTES = 64 * 2**20


@final
class World:
    """The processes that embed together.

    Args:
        rank: this process, from 0.
        size: the number of processes; with 1, every method is local and free.
        group: their torch.distributed group.
    """

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None) -> None:
        self.rank = rank
        self.size = size
        self._group = group

    @contextmanager
    def step(self) -> Iterator[None]:
        """Runs the body in every process; an error in one of them stops all, with its message.

        Raises:
            RunError: another process failed. The one that failed raises its own error.
        """
        if self.size == 1:
            yield
            return
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        try:
            stories = self.gather(None if failure is None else f"{type(failure).__name__}: {failure}")
        except RunError as gone:
            raise failure or gone from None  # this process's own error is more informative
        if failure is not None:
            raise failure
        for rank, story in enumerate(stories):
            if story is not None:
                raise RunError(
                    f"rank {rank} of the {self.size} processes that embed together failed: {story}"
                )

    def gather(self, value: _T) -> list[_T]:
        """Each process's small picklable `value`, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self._together():
            torch.distributed.all_gather_object(values, value, group=self._group)
        return values

    def check_same(self, keys: Iterable[bytes]) -> None:
        """Raises `ArgumentError` in every process unless all have the same text keys."""
        if self.size == 1:
            return
        digest = hashlib.blake2b(digest_size=16)
        for key in keys:
            digest.update(key)
        if len(set(self.gather(digest.digest()))) > 1:
            raise ArgumentError(
                f"the {self.size} processes that embed together were given different conversations; give all "
                "of them the same, or set distributed=False on the backbone to let each embed its own"
            )

    def any(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Elementwise, whether the mask is true in any process."""
        if self.size == 1:
            return mask
        found = torch.from_numpy(mask.astype(np.uint8))
        with self._together():
            torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX, group=self._group)
        return found.numpy().astype(bool)

    def broadcast(self, tensor: Tensor, source: int) -> None:
        """Fills a contiguous CPU tensor with that of the process `source`, in chunks."""
        if self.size == 1:
            return
        with self._together():
            for part in torch.split(tensor.flatten().view(torch.uint8), _CHUNK_BYTES):
                torch.distributed.broadcast(part, group_src=source, group=self._group)

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RunError(
                f"one of the {self.size} processes that embed together ended or did not call "
                f"Backbone.embed (see its own message; with a cache, start again to continue): {error}"
            ) from error


ALONE = World()


def find_world() -> World:
    """The processes that were started together with this one; joins them on the first call.

    If torch.distributed has not been initialised yet, this does so, from the launcher's environment.
    """
    distributed = torch.distributed
    if not distributed.is_available():
        return ALONE
    if not distributed.is_initialized():
        if not _launched():
            return ALONE
        # On GPUs both gloo and NCCL, for training in this process later.
        distributed.init_process_group(None if torch.cuda.is_available() else "gloo")
    if distributed.get_world_size() == 1:
        return ALONE
    return World(distributed.get_rank(), distributed.get_world_size(), _own_group(distributed.group.WORLD))


@lru_cache(maxsize=1)
def _own_group(everyone: Any) -> Any:
    """A gloo group of the processes of `everyone`."""
    return torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)


def local_device() -> torch.device:
    """The device for this process's model: its own GPU, the only GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if not _launched():
        return torch.device("cuda")
    # A launcher may also have made only its own GPU visible to each process.
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


def is_first() -> bool:
    """Whether this process is the one on its machine that prints messages."""
    return not _launched() or os.environ.get("LOCAL_RANK", "0") == "0"


def _launched() -> bool:
    names = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
    return all(name in os.environ for name in names) and int(os.environ["WORLD_SIZE"]) > 1
