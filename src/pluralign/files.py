"""Files and folders that are written whole or not at all.

In: a path, and what to write there. Out: the file or the folder; or an `ArtifactError` that says what could
not be written, why, and what to do, while what was there before stays as it was.

Everything is written under a temporary name beside its place, forced to the disk, given the permissions that
the umask leaves (some libraries write files that only their owner can read), and renamed. Parent folders are
made. Where the path is a link, what it points to is replaced, and the link stays.

A process that is killed leaves its temporary file or folder behind:

    .scores.jsonl.7c0f12ab-4242-91d3e6f0.partial    name, machine, process, a random number

The next process that writes into the same folder removes it, if that process ran on the same machine and is
gone. A folder that is replaced is moved aside, as `.old`, for the moment between two renames; it comes back
where the process was killed in that moment.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pluralign.errors import ArtifactError

__all__ = [
    "append_line",
    "files_into",
    "finish_folder",
    "is_temporary",
    "sweep",
    "whole_file",
    "whole_folder",
    "why_not",
    "write_file",
    "write_json",
]

_GRACE = 60.0  # seconds for which leftovers stay, and after which a folder is searched for them again
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<machine>\w{8})-(?P<process>\d+)-\w{8}\.(?P<kind>partial|old)")
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_DISK = {*_FULL, errno.EFBIG, errno.EIO}  # what writing to an open file meets

_in_progress: set[str] = set()
_next_sweep: dict[Path, float] = {}


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path to write to; the file takes its place when the block ends without an error.

    Args:
        path: the file; replaced where it exists.

    Raises:
        ArtifactError: the path is not that of a file, or cannot be written.
    """
    target = Path(os.path.realpath(path))
    with _temporary(path, target) as work:
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "not a regular file"
            raise ArtifactError(f"{path} is {kind}; name a file")
        work.touch()
        mode = stat.S_IMODE(work.stat().st_mode)
        yield work
        work.chmod(mode)
        _sync(work)
        work.replace(target)
        _sync(target.parent)


@contextmanager
def whole_folder(
    path: str | os.PathLike[str], may_replace: Callable[[Path], bool] = lambda path: False
) -> Iterator[Path]:
    """Yields a temporary folder to fill; it takes its place when the block ends without an error.

    Args:
        path: the folder; it does not exist, or is empty, or may be replaced.
        may_replace: whether a folder that is not empty may be replaced.

    Raises:
        ArtifactError: the path holds something else, or cannot be written.
    """
    target = Path(os.path.realpath(path))
    with _temporary(path, target) as work:
        free = not any(target.iterdir()) or may_replace(target) if target.is_dir() else not target.exists()
        if not free:
            raise ArtifactError(f"{path} holds something else; nothing was written. Choose another path")
        work.mkdir()
        yield work
        finish_folder(work)
        with _temporary(path, target, "old") as old:
            try:
                if target.exists():
                    target.replace(old)
                work.replace(target)
            finally:
                if old.exists() and not target.exists():
                    old.replace(target)
        _sync(target.parent)


@contextmanager
def files_into(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary folder to fill; its files take their places in a folder when the block ends without
    an error. Each is whole; what else the folder holds stays.

    Args:
        folder: made if it does not exist.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    target = Path(os.path.realpath(folder))
    with _temporary(folder, target / "files") as work:
        work.mkdir()
        yield work
        finish_folder(work)
        for file in sorted(work.iterdir()):
            file.replace(target / file.name)
        _sync(target)


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file whole or not at all; text as UTF-8.

    Raises:
        ArtifactError: the path is not that of a file, or cannot be written.
    """
    with whole_file(path) as work:
        work.write_bytes(content.encode() if isinstance(content, str) else content)


def append_line(path: Path, line: str) -> None:
    """Adds a line to a journal, which may end in part of one: readers of journals skip incomplete lines.

    Raises:
        ArtifactError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        number = error.errno or errno.EIO
        raise ArtifactError(
            f"{path} cannot be written: {_FULL.get(number, 'writing is refused')} ({os.strerror(number)}). "
            "Free some space, or choose another place, and repeat: finished steps are kept"
        ) from error


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes a JSON file whole or not at all.

    Raises:
        ArtifactError: the path is not that of a file, or cannot be written.
        ValueError: the value holds NaN or an infinite number, which JSON does not have.
    """
    write_file(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def finish_folder(folder: Path) -> None:
    """Gives all files below a folder the permissions that its own imply, and forces them to the disk.

    Raises:
        OSError: the disk is full, or fails.
    """
    mode = stat.S_IMODE(folder.stat().st_mode)
    for file in folder.rglob("*"):
        if not file.is_symlink():
            file.chmod(mode if file.is_dir() else mode & 0o666)
            _sync(file)
    _sync(folder)


def is_temporary(path: Path) -> bool:
    """Whether a name is one under which this module writes."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep(folder: Path) -> None:
    """Removes what killed processes of this machine left in a folder; what cannot be removed stays."""
    with suppress(OSError):
        for path in folder.iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if not found or found["machine"] != _machine() or _is_running(found):
                continue
            if time.time() - path.lstat().st_ctime < _GRACE:
                continue
            if found["kind"] == "old" and not path.with_name(found["name"]).exists():
                path.replace(path.with_name(found["name"]))
            _remove(path)


@contextmanager
def _temporary(path: str | os.PathLike[str], target: Path, kind: str = "partial") -> Iterator[Path]:
    """A name beside `target` that nothing has, now or afterwards; explains errors of writing."""
    folder = target.parent
    work = folder / f".{target.name}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.{kind}"
    _in_progress.add(work.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if time.monotonic() >= _next_sweep.get(folder, 0.0):
            _next_sweep[folder] = time.monotonic() + _GRACE
            sweep(folder)
        yield work
    except Exception as error:
        number = _error_of_writing(error, target, work)
        if number is None:
            raise
        advice = "Free some space" if number in _FULL else "Choose another place"
        raise ArtifactError(
            f"{path} cannot be written: {why_not(folder, number)}; nothing was changed. {advice} and repeat"
        ) from error
    finally:
        _remove(work)
        _in_progress.discard(work.name)


def why_not(folder: Path, number: int) -> str:
    """Why nothing could be made in a folder, in words.

    Args:
        folder: it, or a part of its path, may not be there.
        number: of the system's error.
    """
    there = next(one for one in (folder, *folder.absolute().parents) if os.path.exists(one))
    if not there.is_dir():
        return f"{there} is a file"
    if number == errno.ENOENT:  # of a folder that is there, such as /proc
        return f"{there} takes no files"
    return f"{_FULL.get(number, 'writing is refused')} ({os.strerror(number)})"


def _error_of_writing(error: BaseException, target: Path, work: Path) -> int | None:
    """The system's number of an error of writing there; None for an error of anything else."""
    if isinstance(error, ArtifactError) and error.__cause__:  # from a writer in a folder being written
        error = error.__cause__
    in_words = re.search(r"\(os error (\d+)\)", str(error))  # as libraries in Rust say it
    number = getattr(error, "errno", None) or (int(in_words[1]) if in_words else None)
    named = getattr(error, "filename", None)
    ours = named and (str(named).startswith(str(work)) or Path(named) in (target, *target.parents))
    return number if ours or (named is None and number in _DISK) else None


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)  # a folder
    with suppress(OSError):  # a file
        path.unlink()


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk, where that can be asked for."""
    with suppress(PermissionError):  # we may write there, and not read
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(opened)


@functools.cache
def _machine() -> str:
    """Eight digits for what shares our process numbers: the host, and the container on it."""
    space = Path("/proc/self/ns/pid")
    container = os.readlink(space) if space.is_symlink() else ""  # Linux has it
    return hashlib.sha256(f"{socket.gethostname()} {container}".encode()).hexdigest()[:8]


def _is_running(found: re.Match[str]) -> bool:
    """Whether the process that made a temporary name still works on it."""
    process = int(found["process"])
    if process == os.getpid():  # or the number of an earlier one: containers reuse numbers
        return found[0] in _in_progress
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True
