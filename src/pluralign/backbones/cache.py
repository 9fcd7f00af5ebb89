"""A cache of embeddings on a local disk: with a given backbone, each text is computed only once ever.

In: keys (hashes of the backbone's identity and the text) and `Record`s. Out: the stored records that are
intact.

It is one LMDB database: crash-safe, memory-mapped, with any number of readers and one writer at a time.
Each `write` is one transaction, so an interrupted run loses at most the batch in flight. A record ends in
a checksum over key and content, so a damaged entry, or one that belongs to another key, counts as absent
and is computed again.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pluralign.backbones.disk import cache_folder, file_system, is_network_file_system
from pluralign.errors import ArgumentError, CacheError

__all__ = ["EmbeddingCache", "Record"]

# format version, truncated, tokens, width; then the vector as float32, then the checksum.
_HEAD = struct.Struct("<BBIQ")
_VERSION = 1
_CHECK_BYTES = 8
_FIRST_MAP_BYTES = 64 * 2**20
_MAX_READERS = 1024

# LMDB allows a file to be opened once per process, so all handles on a path share one environment.
_open: dict[str, Any] = {}
_lock = threading.RLock()


def _forget_after_fork() -> None:
    """Forgets open environments: they must not be used across a fork, so the child opens its own."""
    global _lock
    _lock = threading.RLock()
    for environment in _open.values():
        environment.close()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


class Record(NamedTuple):
    """The stored data of one text: its vector, the number of response tokens, whether it was truncated."""

    vector: NDArray[np.float32]
    num_tokens: int
    truncated: bool


class EmbeddingCache:
    """Embeddings on disk, addressed by content.

    Args:
        path: folder of the database; by default `embeddings` under `PLURALIGN_CACHE`, or under
            `~/.cache/pluralign`. It must be on a local disk.
        max_bytes: maximum size of the database; None for as much as the disk holds.
        readonly: never write. Only then may the folder be on a network file system; it must exist.

    Raises:
        CacheError: the folder cannot be used; the message says why.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | None = None,
        readonly: bool = False,
    ) -> None:
        if max_bytes is not None and max_bytes < 2**20:
            raise ArgumentError(f"max_bytes is {max_bytes}; a cache needs at least {2**20} (1 MiB)")
        self.path = Path(os.path.realpath(cache_folder() / "embeddings" if path is None else path))
        self.readonly = readonly
        self._max_bytes = max_bytes
        kind = file_system(self.path)
        self._network = is_network_file_system(kind)
        if self._network and not readonly:
            raise CacheError(
                f"the embedding cache {self.path} is on a network file system ({kind}), where a "
                "memory-mapped database is not safe to write; set PLURALIGN_CACHE to a local disk, or open "
                "it with readonly=True"
            )
        with _lock:
            self._environment()

    def read(self, keys: Sequence[bytes], width: int) -> dict[int, Record]:
        """The intact records among `keys`.

        Args:
            keys: at most some tens of thousands of keys.
            width: length of the vectors; a record of another length counts as absent.

        Returns:
            Position in `keys` -> record.
        """
        import lmdb

        found: dict[int, Record] = {}
        with _lock:
            try:
                with self._begin(write=False) as transaction:
                    for place, key in enumerate(keys):
                        record = _unpack(key, transaction.get(key), width)
                        if record is not None:
                            found[place] = record
            except lmdb.Error as error:
                raise self._failure("read", error) from error
        return found

    def write(self, records: Mapping[bytes, Record]) -> None:
        """Stores records in one transaction, all or none; does nothing if the cache is read-only.

        Raises:
            CacheError: the disk is full, the cache has reached `max_bytes`, or the file cannot be written.
        """
        import lmdb

        if self.readonly:
            return
        items = [(key, _pack(key, record)) for key, record in records.items()]
        with _lock:
            try:
                while True:
                    try:
                        with self._begin(write=True) as transaction:
                            for key, value in items:
                                transaction.put(key, value)
                        return
                    except lmdb.MapFullError:
                        self._grow()
            except lmdb.Error as error:
                raise self._failure("written", error) from error

    def __len__(self) -> int:
        """How many records there are."""
        with _lock:
            return int(self._environment().stat()["entries"])

    def _environment(self) -> Any:
        import lmdb

        identity = str(self.path)
        if identity in _open and not self.readonly and _open[identity].flags()["readonly"]:
            _open.pop(identity).close()
        if identity not in _open:
            try:
                if not self.readonly:
                    self.path.mkdir(parents=True, exist_ok=True)
                _open[identity] = lmdb.open(
                    str(self.path),
                    map_size=min(_FIRST_MAP_BYTES, self._max_bytes or _FIRST_MAP_BYTES),
                    readonly=self.readonly,
                    lock=not self._network,
                    readahead=False,
                    max_readers=_MAX_READERS,
                )
            except (lmdb.Error, OSError) as error:
                raise self._failure("opened", error) from error
        return _open[identity]

    def _begin(self, *, write: bool) -> Any:
        import lmdb

        environment = self._environment()
        try:
            return environment.begin(write=write)
        except lmdb.MapResizedError:  # another process made the file larger
            environment.set_mapsize(0)
            return environment.begin(write=write)

    def _grow(self) -> None:
        environment = self._environment()
        size = environment.info()["map_size"]
        if self._max_bytes is not None and size >= self._max_bytes:
            raise CacheError(
                f"the embedding cache {self.path} has reached max_bytes={self._max_bytes}; raise it, delete "
                "the folder, or work without a cache (cache=None)"
            )
        environment.set_mapsize(min(2 * size, self._max_bytes or 2 * size))

    def _failure(self, verb: str, error: Exception) -> CacheError:
        return CacheError(
            f"the embedding cache {self.path} cannot be {verb}: {error}; if the disk is full, free "
            "some space or set PLURALIGN_CACHE to another local disk; stored embeddings are kept; cache=None "
            "works without a cache"
        )


def _pack(key: bytes, record: Record) -> bytes:
    vector = np.ascontiguousarray(record.vector, dtype="<f4")
    head = _HEAD.pack(_VERSION, record.truncated, record.num_tokens, vector.size)
    content = head + vector.tobytes()
    return content + _checksum(key, content)


def _unpack(key: bytes, value: bytes | None, width: int) -> Record | None:
    if value is None or len(value) != _HEAD.size + 4 * width + _CHECK_BYTES:
        return None
    content, check = value[:-_CHECK_BYTES], value[-_CHECK_BYTES:]
    if check != _checksum(key, content):
        return None
    version, truncated, num_tokens, size = _HEAD.unpack_from(content)
    if version != _VERSION or size != width:
        return None
    return Record(np.frombuffer(content, dtype="<f4", offset=_HEAD.size), num_tokens, bool(truncated))


def _checksum(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECK_BYTES, key=key).digest()
