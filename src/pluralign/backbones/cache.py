"""A cache of embeddings on a local disk: with a given backbone, each text is computed only once ever.

In: keys (hashes of the backbone's identity and the text) and `Record`s. Out: the stored records that are
intact.

It is one LMDB database: crash-safe, memory-mapped, with any number of readers and one writer at a time.
Each `write` is one transaction, so an interrupted run loses at most the batch in flight. A record ends in
a checksum over key and content, so a damaged entry, or one that belongs to another key, counts as absent
and is computed again. A damaged database is an error that says which folder to delete. If the folder is not
writable, its contents are used and nothing is stored.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pluralign.backbones.cut_off import DATA_FILE, CutOffError, check_whole
from pluralign.backbones.disk import cache_folder, file_system, is_network_file_system
from pluralign.errors import ArgumentError, CacheError, CacheWarning

__all__ = ["EmbeddingCache", "Record"]

# format version, truncated, tokens, width; then the vector as float32, then the checksum.
_HEAD = struct.Struct("<BBIQ")
_VERSION = 1
_CHECK_BYTES = 8
_FIRST_MAP_BYTES = 64 * 2**20
_MAX_READERS = 1024

# LMDB allows a file to be opened once per process, so all handles on a path share one environment.
_open: dict[str, Any] = {}
_page_bytes: dict[str, int] = {}
_files: dict[str, tuple[int, int]] = {}  # device and number of the file that is open
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
        readonly: never write. Only then may the folder be on a network file system; it must exist. A
            database that this user may not write to is also opened read-only.

    Raises:
        CacheError: the folder cannot be used, or the database is damaged; the message says why.
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
        self._forbidden = False  # to write: found out by trying
        self._warned = False
        with _lock:
            self._environment()

    def read(self, keys: Sequence[bytes], width: int) -> dict[int, Record]:
        """The intact records among `keys`.

        Args:
            keys: at most some tens of thousands of keys.
            width: length of the vectors; a record of another length counts as absent.

        Returns:
            Position in `keys` -> record.

        Raises:
            CacheError: the database is damaged.
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

        Warns:
            CacheWarning: this user may not write to the cache, so nothing is stored.

        Raises:
            CacheError: the disk is full, the cache has reached `max_bytes`, or the file cannot be written.
        """
        import lmdb

        if self._forbidden and not self._warned:
            self._warned = True
            warnings.warn(
                f"the embedding cache {self.path} is read-only: new embeddings are not kept. "
                "Set PLURALIGN_CACHE to a folder of your own to keep it",
                CacheWarning,
                stacklevel=2,
            )
        if self.readonly or self._forbidden:
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
        """The open database, which has all pages that it uses."""
        import lmdb

        identity = str(self.path)
        readonly = self.readonly or self._forbidden
        if identity in _open and not readonly and _open[identity].flags()["readonly"]:
            _open.pop(identity).close()
        if identity in _open and self._is_another_file(readonly):
            _open.pop(identity).close()
        try:
            if identity not in _open:
                _open[identity] = self._opened()
                _page_bytes[identity] = _open[identity].stat()["psize"]
                _files[identity] = _number_of(self.path / DATA_FILE)
            check_whole(_open[identity], self.path, _page_bytes[identity])
        except (lmdb.Error, OSError, CutOffError) as error:
            raise self._failure("opened", error) from error
        return _open[identity]

    def _is_another_file(self, readonly: bool) -> bool:
        """Whether the folder was deleted since: what is written into the old file would be lost."""
        try:
            return _number_of(self.path / DATA_FILE) != _files.get(str(self.path))
        except OSError:  # gone, and still readable by those that have it open
            return not readonly

    def _opened(self) -> Any:
        import lmdb

        def attempt(readonly: bool, lock: bool) -> Any:
            return lmdb.open(
                str(self.path),
                map_size=min(_FIRST_MAP_BYTES, self._max_bytes or _FIRST_MAP_BYTES),
                readonly=readonly,
                lock=lock,
                readahead=False,
                max_readers=_MAX_READERS,
            )

        if not self.readonly and not self._forbidden:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                return attempt(readonly=False, lock=True)
            except (lmdb.Error, OSError) as error:
                if not _is_forbidden(error) or not (self.path / DATA_FILE).exists():
                    raise
                self._forbidden = True
        try:
            return attempt(readonly=True, lock=not self._network)
        except lmdb.Error as error:
            if not _is_forbidden(error):
                raise
            return attempt(readonly=True, lock=False)  # the lock file is read-only too

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
        """The error to raise; a damaged database is closed, so that the folder can be deleted."""
        import lmdb

        damaged = (
            *(CutOffError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError),
            *(lmdb.VersionMismatchError, lmdb.PanicError, lmdb.BadTxnError),
        )
        advice = "set PLURALIGN_CACHE to another local disk, or go without (cache=None, --cache none)"
        if isinstance(error, damaged):
            if environment := _open.pop(str(self.path), None):
                environment.close()
            advice = (
                "the database is damaged, or not ours. Delete the folder, and its embeddings "
                f"are computed again; or {advice}"
            )
        elif isinstance(error, lmdb.DiskError):
            advice = f"free some of the disk, or {advice}; what was stored is kept"
        return CacheError(f"the embedding cache {self.path} cannot be {verb}: {error}; {advice}")


def _is_forbidden(error: Exception) -> bool:
    """Whether the system refused to write for lack of permission; LMDB says so in the system's words."""
    return any(os.strerror(number) in str(error) for number in (errno.EACCES, errno.EPERM, errno.EROFS))


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


def _number_of(file: Path) -> tuple[int, int]:
    """What distinguishes a file from another of the same name."""
    found = file.stat()
    return found.st_dev, found.st_ino
