"""A run folder: one command, its configuration, what it measured and what it made.

    run.json        command, configuration, inputs with their digests, versions, seed
    metrics.jsonl   one JSON object per line, written during the run
    done.json       written last: the artefacts and their digests; its presence means that the run is complete

The same command on a finished folder does nothing; on an unfinished one it continues; a different command is
refused, and so is a second process at the same time. An artefact that was damaged since is an error, not a
finished run. A run that failed before it made anything leaves no folder behind, so that a corrected command
can use the same name. A finished folder that is read-only works like any other.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pluralign._version import __version__
from pluralign.cli.console import Console
from pluralign.digests import file_digest, json_digest
from pluralign.errors import RunError
from pluralign.files import append_line, is_temporary, sweep, why_not, write_file, write_json

__all__ = ["RunFolder", "default_name", "digest", "made_once"]

_LOCK, _RECORD, _LOG, _DONE = ".lock", "run.json", "metrics.jsonl", "done.json"
_CARD = "README.md"  # people may write into it
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PACKAGES = ("torch", "transformers", "datasets", "numpy", "safetensors")


class RunFolder:
    """Locks a run folder while a command works in it.

    Args:
        path: the folder; created if it does not exist.
        verb: the command.
        config: everything that determines the result; must be serialisable as JSON.
        inputs: input name to content digest, so that a changed file is noticed.

    Raises:
        RunError: another process holds the folder, it belongs to another configuration, or it may not be
            written and the run is not finished.
    """

    def __init__(
        self, path: str | Path, verb: str, config: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> None:
        self.path = Path(path)
        self._run = {"verb": verb, "config": json.loads(json.dumps(config)), "inputs": dict(inputs)}
        self._lock: int | None = None
        self._found = False

    def __enter__(self) -> Self:
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; a run needs a folder. Choose another --out.")
        stored = self.path / _RECORD
        if self.path.is_dir() and not stored.exists() and not self._is_empty():
            raise RunError(f"{self.path} contains other files and is not a run folder; choose another --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in _FULL:
                raise
            reason = why_not(self.path.parent, error.errno or errno.EIO)
            raise RunError(f"{self.path} cannot be made: {reason}; choose another --out") from error
        may_write = self._take_lock()
        try:
            if may_write:
                sweep(self.path)
            if stored.exists():
                self._compare(stored)
            if not may_write and not self.finished:
                raise RunError(f"{self.path} is read-only, and its run is not finished; choose another --out")
            if not stored.exists():
                write_json(stored, self._run | {"versions": versions(), "started": _now()})
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is None:
            return
        if kind is not None and self._has_no_output():
            for name in (_RECORD, _LOG, _LOCK):
                (self.path / name).unlink(missing_ok=True)
            with suppress(OSError):
                self.path.rmdir()
        os.close(self._lock)  # releases the lock
        self._lock = None

    def _take_lock(self) -> bool:
        """Takes the lock; False where the folder is read-only, so that no process works in it."""
        try:
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that failed early may have removed the file between opening and locking it.
            if os.fstat(lock).st_ino != (self.path / _LOCK).stat().st_ino:
                raise FileNotFoundError
        except OSError:
            os.close(lock)
            raise RunError(
                f"{self.path} is in use by another process; wait for it or choose another --out"
            ) from None
        self._lock = lock
        return True

    def _is_empty(self) -> bool:
        """Whether the folder contains only what a killed process leaves before its first step."""
        return all(p.name == _LOCK or is_temporary(p) for p in self.path.iterdir())

    def _has_no_output(self) -> bool:
        """Whether this process created the record, and only messages were written after it."""
        return not self._found and all(p.name in (_LOCK, _RECORD, _LOG) for p in self.path.iterdir())

    def _compare(self, file: Path) -> None:
        self._found = True
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            stored["verb"]
        except (ValueError, TypeError, KeyError):
            raise RunError(f"{file} is damaged; choose another --out, or remove the folder") from None
        for part, ours in self._run.items():
            found = stored.get(part)
            if found == ours:
                continue
            if isinstance(found, dict) and isinstance(ours, dict):
                keys = [k for k in sorted({*found, *ours}) if found.get(k) != ours.get(k)]
                changes = "; ".join(
                    f"{k}: {found.get(k)!r} in that run, {ours.get(k)!r} in this one" for k in keys
                )
            else:
                changes = f"{found!r} in that run, {ours!r} in this one"
            raise RunError(
                f"{self.path} belongs to another run (different {part}: {changes}). "
                f"Choose another --out, or remove the folder."
            )

    @property
    def finished(self) -> bool:
        """Whether the same command already finished here, and its artefacts are still as it left them.

        Raises:
            RunError: an artefact is there and has other contents.
        """
        try:
            done = json.loads((self.path / _DONE).read_text(encoding="utf-8"))
            if not all((self.path / name).exists() for name in done["made"]):
                return False
            digests = dict(done.get("sha256", {}))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False
        for name, digest_then in digests.items():
            file = self.path / name
            if not file.is_file() or file_digest(file) != digest_then:
                part = next((made for made in done["made"] if Path(name).is_relative_to(made)), name)
                raise RunError(
                    f"{file} is not as the run left it: it was damaged or changed since. Remove "
                    f"{self.path / part}, and the same command makes it again; or choose another --out"
                )
        return True

    def stored(self, key: str) -> dict[str, Any]:
        """What `finish` was given under a name.

        Raises:
            RunError: it is not there.
        """
        with suppress(OSError, ValueError, KeyError, TypeError):
            value = json.loads((self.path / _DONE).read_text(encoding="utf-8"))[key]
            if isinstance(value, dict):
                return value
        raise RunError(
            f"{self.path / _DONE} is damaged: it has no {key}. Remove it, and the same command makes it again"
        )

    @property
    def result(self) -> dict[str, Any]:
        """The `result` passed to `finish`, with current paths, since the folder may have been moved."""
        stored = self.stored("result")
        before = f"{stored.get('run')}{os.sep}"
        inside = {k: v for k, v in stored.items() if isinstance(v, str) and v.startswith(before)}
        moved = {key: str(self.path / value.removeprefix(before)) for key, value in inside.items()}
        return stored | moved | {"run": str(self.path)}

    def rewind(self, step: int) -> None:
        """Drops measurements of later steps, which a run that continues from this step will repeat."""
        log = self.path / _LOG
        if not log.exists():
            return
        kept = []
        for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
            with suppress(ValueError):  # a line that an interruption cut short
                if json.loads(line).get("step", 0) <= step:
                    kept.append(line)
        write_file(log, "".join(kept))

    def log(self, **values: Any) -> None:
        """Appends one line of measurements."""
        append_line(self.path / _LOG, json.dumps({"time": _now(), **values}))

    def finish(self, *made: str, **values: Any) -> None:
        """Marks the run as complete, with the names of its artefacts and any other results to keep."""
        files = [file for name in made for file in _files(self.path / name) if file.name != _CARD]
        digests = {str(file.relative_to(self.path)): file_digest(file) for file in files}
        write_json(self.path / _DONE, {"finished": _now(), "made": made, "sha256": digests, **values})


def made_once(
    verb: str,
    out: str | None,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    console: Console,
    make: Callable[[RunFolder], dict[str, Any]],
) -> dict[str, Any]:
    """The result of a run: the stored one where the run is finished, otherwise what `make` returns.

    Args:
        verb: the command.
        out: the run folder; None for one that is named by what decides the result.
        config: everything that determines the result.
        inputs: input name to content digest.
        console: where a finished run is announced.
        make: does the work in the folder, and calls its `finish`.

    Raises:
        RunError: as in `RunFolder`.
    """
    path = out or f"runs/{verb}-{default_name(config, inputs)}"
    with RunFolder(path, verb, config, inputs) as folder:
        if folder.finished:
            console.say(f"{folder.path} already holds this run; nothing to do")
            return folder.result
        return make(folder)


def default_name(config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Eight digits that name a run by what decides its result, as `RunFolder` takes it."""
    return json_digest([config, inputs])[:8]


def digest(source: str) -> str:
    """SHA-256 of a file, or of the names and contents below a folder; a hub id is returned as it is.

    Raises:
        ArtifactError: a file cannot be read.
    """
    path = Path(source)
    if not path.exists():
        return source
    total = hashlib.sha256()
    for file in _files(path):
        if path.is_dir():
            total.update(str(file.relative_to(path)).encode() + b"\0")
        total.update(bytes.fromhex(file_digest(file)))
    return total.hexdigest()


def _files(path: Path) -> list[Path]:
    """The file, or all files below the folder."""
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


@cache
def versions() -> Mapping[str, str]:
    """The versions of Python and the packages that this run uses."""
    found = {"pluralign": __version__, "python": platform.python_version(), "platform": sys.platform}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
