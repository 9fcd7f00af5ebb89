"""Files and folders that are written whole or not at all.

In: a path, and what to write there. Out: the file or the folder; or an `ArtifactError` that says what could
not be written, why, and what to do, while what was there before stays as it was. It knows no formats.

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

from pluralign.errors import ArtifactError, PluralignError

__all__ = ["finish_folder", "is_temporary", "sweep", "whole_file", "whole_folder", "write_file", "write_json"]

_GRACE = 60.0  # seconds for which nobody's temporary files are removed, and between two looks for them
_TEMPORARY = re.compile(
    r"\.(?P<name>.+)\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.(?P<kind>partial|old)"
)
_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than allowed",
}

_in_progress: set[str] = set()
_swept: dict[Path, float] = {}


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path to write to; the file takes its place when the block ends without an error.

    Args:
        path: the file; replaced where it exists.

    Raises:
        ArtifactError: the path is not that of a file, or cannot be written.
    """
    target = Path(os.path.realpath(path))
    with _explained(path):
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "not a regular file"
            raise ArtifactError(f"{path} is {kind}; name a file")
    with _temporary(path, target, "partial") as work:
        with _explained(path):
            opened = os.open(work, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            mode = stat.S_IMODE(os.fstat(opened).st_mode)
            os.close(opened)
        with _explained(path, work):
            yield work
        with _explained(path):
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
    with _explained(path):
        occupied = target.exists() and not (target.is_dir() and not any(target.iterdir()))
        if occupied and not (target.is_dir() and may_replace(target)):
            raise ArtifactError(
                f"{path} exists and holds something else; nothing was written. Choose another path"
            )
    with _temporary(path, target, "partial") as work:
        with _explained(path):
            work.mkdir()
        with _explained(path, work):
            yield work
        with _explained(path):
            finish_folder(work)
            if occupied:
                _exchange(path, work, target)
            else:
                work.replace(target)
            _sync(target.parent)


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file whole or not at all; text as UTF-8.

    Raises:
        ArtifactError: the path is not that of a file, or cannot be written.
    """
    with whole_file(path) as work:
        work.write_bytes(content.encode() if isinstance(content, str) else content)


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


def sweep(folder: str | os.PathLike[str]) -> None:
    """Removes what killed processes of this machine left in a folder; what cannot be removed stays."""
    with suppress(OSError):
        for path in Path(folder).iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if found is None or found["machine"] != _machine() or _is_running(found):
                continue
            if time.time() - path.lstat().st_ctime < _GRACE:
                continue
            if found["kind"] == "old" and not (target := path.with_name(found["name"])).exists():
                path.replace(target)
            else:
                _remove(path)


@contextmanager
def _temporary(path: str | os.PathLike[str], target: Path, kind: str) -> Iterator[Path]:
    """A name beside `target` that nothing has, and that nothing has afterwards."""
    folder = target.parent
    with _explained(path):
        folder.mkdir(parents=True, exist_ok=True)
    now = time.monotonic()
    if now - _swept.get(folder, -_GRACE) >= _GRACE:
        _swept[folder] = now
        sweep(folder)
    work = folder / f".{target.name}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.{kind}"
    _in_progress.add(work.name)
    try:
        yield work
    finally:
        _remove(work)
        _in_progress.discard(work.name)


def _exchange(path: str | os.PathLike[str], work: Path, target: Path) -> None:
    """Puts one folder in the place of another, which comes back where that fails."""
    with _temporary(path, target, "old") as old:
        try:
            target.replace(old)
            work.replace(target)
        finally:
            if not target.exists():
                old.replace(target)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk, where that can be asked for."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except PermissionError:  # we may write there, and not read
        return
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
    space = ""
    with suppress(OSError):  # Linux has it
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _is_running(found: re.Match[str]) -> bool:
    """Whether the process that made a temporary name still works on it."""
    process = int(found["process"])
    if process == os.getpid():  # perhaps of an earlier process: in containers numbers come again
        return found[0] in _in_progress
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


@contextmanager
def _explained(path: str | os.PathLike[str], work: Path | None = None) -> Iterator[None]:
    """Turns an error of writing into an `ArtifactError`; given `work`, others may happen too, and pass."""
    try:
        yield
    except PluralignError as error:
        if type(error) is ArtifactError and work and str(work) in str(error):  # of a file in a folder
            raise ArtifactError(str(error).replace(str(work), str(path))) from error.__cause__
        raise
    except Exception as error:
        number, named = _number(error), getattr(error, "filename", None)
        if number is None or (
            work and not (number in _SPACE if named is None else str(named).startswith(str(work)))
        ):
            raise
        why, advice = _SPACE.get(number), "Free some space"
        if why is None:
            why, advice = "writing is refused", "Choose another place"
        raise ArtifactError(
            f"{path} cannot be written: {why} ({os.strerror(number)}); nothing was changed. "
            f"{advice} and repeat"
        ) from error


def _number(error: Exception) -> int | None:
    """The operating system's number of an error; safetensors' own type has it in its text."""
    if isinstance(error, OSError):
        return error.errno
    said = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return int(said[1]) if said else None
