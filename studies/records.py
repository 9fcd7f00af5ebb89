"""The records of a study: `studies/<name>/records.jsonl.gz`, a line for each run.

A record holds the arm, the settings (the seed among them), seconds, versions, hardware and results. Arm
and settings are its key: a run that is done again replaces the one before. Numbers of results have six
significant digits, which is more than any seed repeats. Lines are sorted, so that the same runs give the
same file.

The file is rewritten as a whole under a lock and put in its place by a rename: a reader sees the file of
before or of after, a process that is killed leaves the one of before, and two processes lose none of
each other's. `claimed` keeps two processes from doing the same run; what a killed process had claimed is
free again.
"""

from __future__ import annotations

import fcntl
import functools
import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pluralign.files import write_file
from studies.study import Settings

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "studies"
WORK = ROOT / ".runs"  # what can be computed again, and locks
DIGITS = 6

Record = dict[str, Any]


class RecordsError(ValueError):
    """A file of records that is not one."""


def file_of(study: str) -> Path:
    """Where the records of a study lie."""
    return FOLDER / study / "records.jsonl.gz"


def name_of(arm: str, settings: Settings) -> str:
    """The key of a run, as people read it: `recovery features=traits ratings=300 seed=0`."""
    return " ".join([arm, *(f"{k}={v}" for k, v in sorted(settings.items()))])


def read(study: str, arm: str | None = None, **settings: Any) -> list[Record]:
    """The records of a study, sorted by their keys; those of one arm, and with these settings, where given.

    Raises:
        RecordsError: a line is not a record.
    """
    path = file_of(study)
    if not path.exists():
        return []
    state = path.stat()
    return [
        record
        for record in _whole(path, state.st_mtime_ns, state.st_size, state.st_ino)
        if arm in (None, record["arm"])
        and all(key in record["settings"] and record["settings"][key] == v for key, v in settings.items())
    ]


def results(study: str, arm: str, **settings: Any) -> list[Any]:
    """The results alone."""
    return [record["results"] for record in read(study, arm, **settings)]


@functools.lru_cache(maxsize=32)
def _whole(path: Path, *state: int) -> tuple[Record, ...]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            found = tuple(json.loads(line) for line in lines)
    except (OSError, EOFError, ValueError) as problem:
        raise RecordsError(f"{path} cannot be read ({problem}); take it from version control again") from None
    if not found:
        raise RecordsError(f"{path} is empty; take it from version control again, or remove it")
    for number, record in enumerate(found, 1):
        if not isinstance(record, dict) or not {"arm", "settings", "results"} <= record.keys():
            raise RecordsError(f"{path}, line {number}: a record has arm, settings and results")
    return found


def add(study: str, record: Record) -> None:
    """Puts a record into the file of its study, in place of one with the same key.

    Raises:
        ValueError: a number is not finite.
    """
    given = {**record, "results": rounded(record["results"])}
    with _lock(study):
        known = {name_of(one["arm"], one["settings"]): one for one in read(study)}
        known[name_of(given["arm"], given["settings"])] = given
        _write(file_of(study), [known[name] for name in sorted(known)])


def _write(path: Path, found: list[Record]) -> None:
    lines = [json.dumps(one, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for one in found]
    write_file(path, gzip.compress("".join(f"{line}\n" for line in lines).encode(), 9, mtime=0))


def rounded(value: Any) -> Any:
    """The same with numbers of six significant digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


@contextmanager
def claimed(study: str, name: str) -> Iterator[bool]:
    """Whether this process may do a run: False while another one does it."""
    with _open_lock(study, hashlib.blake2b(name.encode(), digest_size=8).hexdigest()) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def _lock(study: str) -> Iterator[None]:
    with _open_lock(study, "records") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _open_lock(study: str, name: str) -> Iterator[int]:
    """A file to lock; the system unlocks it when its process ends, however that comes."""
    folder = WORK / "locks" / study
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)
