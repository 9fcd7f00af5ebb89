"""Gzip files, unpacked while they are read, and only as far as a table of texts can be.

In: a path. Out: a stream of bytes. A megabyte of gzip can unpack to a gigabyte of zeros, which would fill
the memory before anything else notices: a file that unpacks to more than `MOST_RATIO` times its size, and to
more than `ALWAYS_ALLOWED` bytes, is refused. Tables of ratings have ratios of 3 to 50, and one whose rows all
share a long prompt 150; zeros have 1,000.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO, Any

from pluralign.data.problems import Problem, raise_problems

__all__ = ["ALWAYS_ALLOWED", "MOST_RATIO", "is_gzip", "open_gzip"]

MOST_RATIO = 200
ALWAYS_ALLOWED = 64 << 20  # bytes; less is harmless
_BUFFER = 1 << 18


def open_gzip(path: Path, name: str) -> IO[bytes]:
    """The unpacked bytes of a gzip file; it can seek.

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        DataError: while reading, if it unpacks to too much.
    """
    return io.BufferedReader(_Unpacked(path, name), _BUFFER)


def is_gzip(stream: IO[bytes]) -> bool:
    """Whether a stream is one of `open_gzip`, in which going back is slow."""
    return isinstance(getattr(stream, "raw", None), _Unpacked)


class _Unpacked(io.RawIOBase):
    """Counts the unpacked bytes."""

    def __init__(self, path: Path, name: str) -> None:
        self._file = gzip.GzipFile(path)
        self._name = name
        self._size = path.stat().st_size
        self._most = max(ALWAYS_ALLOWED, MOST_RATIO * self._size)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always; going back unpacks the file once more."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer; raises `DataError` where the file unpacks to too much."""
        data = self._file.read1(len(buffer))
        buffer[: len(data)] = data
        if self._file.tell() > self._most:
            found = f"{self._size:,} bytes of gzip that unpack to more than {self._most:,}"
            allowed = f"at most {MOST_RATIO} times the size; if it is what you want, unpack it with gunzip"
            raise_problems(self._name, [Problem(self._name, None, None, found, allowed)])
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place in the unpacked bytes."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Number of bytes unpacked so far."""
        return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()
