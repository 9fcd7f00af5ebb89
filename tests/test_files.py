"""Whole or not at all: permissions, interruptions, full or forbidden places, links, what the dead leave."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pluralign import files
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.files import files_into, is_temporary, sweep, whole_file, whole_folder, write_file, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the dead leave is removed at once, and looked for at every write."""
    monkeypatch.setattr(files, "_GRACE", 0.0)


# -- contents and permissions ----------------------------------------------------------------------


def test_contents_arrive_and_parents_are_made(tmp_path: Path) -> None:
    write_file(tmp_path / "deep" / "er" / "a.txt", "è\n")
    write_file(tmp_path / "deep" / "er" / "a.txt", b"\xff\x00")
    assert (tmp_path / "deep" / "er" / "a.txt").read_bytes() == b"\xff\x00"
    write_file(tmp_path / "b.txt", "è\n")
    assert (tmp_path / "b.txt").read_bytes() == "è\n".encode()
    write_json(tmp_path / "c.json", {"a": [1, None]})
    assert json.loads((tmp_path / "c.json").read_text()) == {"a": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "c.json", float("nan"))
    assert json.loads((tmp_path / "c.json").read_text()) == {"a": [1, None]}
    assert names(tmp_path) == ["b.txt", "c.json", "deep"]


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_permissions_are_those_of_the_umask(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    before = os.umask(umask)
    try:
        with whole_file(tmp_path / "weights") as work:
            save_file({"a": torch.zeros(3)}, work)
            work.chmod(0o400)
        with whole_folder(tmp_path / "model") as work:
            (work / "sub").mkdir(mode=0o700)
            for place in (work / "open", work / "sub" / "closed"):
                save_file({"a": torch.zeros(3)}, place)
                place.chmod(0o600 if place.name == "closed" else 0o666)
    finally:
        os.umask(before)
    assert mode(tmp_path / "weights") == file
    assert {mode(tmp_path / "model" / name) for name in ("open", "sub/closed")} == {file}
    assert {mode(tmp_path / "model"), mode(tmp_path / "model" / "sub")} == {folder}


def test_links_stay_and_what_they_point_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    write_file(tmp_path / "disk" / "a", "old")
    (tmp_path / "disk" / "model").mkdir()
    for name in ("a", "model"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    write_file(tmp_path / "a", "new")
    with whole_folder(tmp_path / "model") as work:
        (work / "x").write_text("new")
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "model").is_symlink()
    assert (tmp_path / "disk" / "a").read_text() == (tmp_path / "disk" / "model" / "x").read_text() == "new"
    assert (names(tmp_path), names(tmp_path / "disk")) == (["a", "disk", "model"], ["a", "model"])


def test_files_take_their_places_among_others(tmp_path: Path) -> None:
    write_file(tmp_path / "run" / "weights", "old")
    write_file(tmp_path / "run" / "checkpoint-1" / "weights", "step 1")
    with files_into(tmp_path / "run") as work:
        (work / "weights").write_text("new")
        (work / "tokenizer").write_text("new")
        assert (tmp_path / "run" / "weights").read_text() == "old"
    assert names(tmp_path / "run") == ["checkpoint-1", "tokenizer", "weights"]
    assert (tmp_path / "run" / "weights").read_text() == "new"
    assert (tmp_path / "run" / "checkpoint-1" / "weights").read_text() == "step 1"

    def fail(work: Path) -> None:
        (work / "weights").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError), files_into(tmp_path / "run") as work:
        fail(work)
    assert names(tmp_path / "run") == ["checkpoint-1", "tokenizer", "weights"]
    assert (tmp_path / "run" / "weights").read_text() == "new"


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x"), OSError(errno.ECONNREFUSED, "no")])
def test_an_error_in_the_block_is_itself_and_leaves_what_was_there(
    tmp_path: Path, error: BaseException
) -> None:
    write_file(tmp_path / "a", "old")
    write_file(tmp_path / "model" / "x", "old")

    def fill(work: Path) -> None:
        work.write_text("half")
        raise error

    with pytest.raises(type(error)) as raised, whole_file(tmp_path / "a") as work:
        fill(work)
    with pytest.raises(type(error)), whole_folder(tmp_path / "model", lambda path: True) as work:
        fill(work / "x")
    assert raised.value is error
    assert (tmp_path / "a").read_text() == (tmp_path / "model" / "x").read_text() == "old"
    assert names(tmp_path) == ["a", "model"]


def test_errors_of_ours_and_of_other_files_pass(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError), whole_file(tmp_path / "a"):
        raise ArgumentError("wrong")
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a"):
        (tmp_path / "missing").read_text()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"the disk is full \(No space left on device\); nothing was changed. Free some space"),
        (errno.EDQUOT, "the disk quota is used up .* Free some space"),
        (errno.EROFS, r"writing is refused \(Read-only file system\).* Choose another place"),
        (errno.EACCES, r"writing is refused \(Permission denied\)"),
    ],
)
@pytest.mark.parametrize("step", ["open", "mkdir", "fsync", "replace", "chmod"])
def test_every_step_explains_why_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str, step: str
) -> None:
    """Real system calls, the named one of which fails; as root no permission is ever missing."""
    if step == "fsync" and number in (errno.EROFS, errno.EACCES):
        number, message = errno.EIO, "writing is refused .* Choose another place"
    write_file(tmp_path / "a", "old")

    def fail(path: object, *_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number), None if step == "fsync" else str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os if step in ("open", "fsync") else Path, step, fail)
        new = whole_folder(tmp_path / "new") if step == "mkdir" else whole_file(tmp_path / "a")
        with pytest.raises(ArtifactError, match=rf"{tmp_path}/\w+ cannot be written: {message}"), new as work:
            (work / "x" if step == "mkdir" else work).write_text("new")
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_file_and_its_name_reach_the_disk_before_it_is_said_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda opened: synced.append(os.readlink(f"/proc/self/fd/{opened}")))
    write_file(tmp_path / "a", "new")
    assert [Path(path).parent for path in synced] == [tmp_path, tmp_path.parent]
    assert Path(synced[0]).name.startswith(".a.")  # under the name that it has while it is written
    assert synced[1] == str(tmp_path)


def test_a_line_that_cannot_be_added_names_its_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    files.append_line(path, '{"step": 1}')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(ArtifactError, match=r"journal\.jsonl cannot be written: .*File too large"):
            files.append_line(path, '{"step": 2, "text": "long"}')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text().startswith('{"step": 1}\n')
    with pytest.raises(ArtifactError, match="nowhere/journal cannot be written: .*No such file"):
        files.append_line(tmp_path / "nowhere" / "journal", "{}")


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    write_file(tmp_path / "a", "old")
    long = tmp_path / ("x" * 300)
    for path, why in (
        (tmp_path / "a" / "b", "a is a file; nothing was changed"),
        (tmp_path / "a" / "b" / "c", "a is a file; nothing was changed"),
        (long, "writing is refused .File name too long.; nothing was changed"),
        (long / "b", "writing is refused .File name too long.; nothing was changed"),
        (Path("/proc/nothing"), "cannot be written: /proc takes no files; nothing was changed"),
    ):
        with pytest.raises(ArtifactError, match=why):
            write_file(path, "new")
        with pytest.raises(ArtifactError, match=why), whole_folder(path):
            pass
    with pytest.raises(ArtifactError, match="is a folder; name a file"):
        write_file(tmp_path, "new")
    os.mkfifo(tmp_path / "pipe")
    for special in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(ArtifactError, match="not a regular file"):
            write_file(special, "new")
    assert names(tmp_path) == ["a", "pipe"]


def test_a_folder_without_permission() -> None:
    folder = Path(tempfile.mkdtemp())  # outside pytest's own, which is its user's alone
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:  # may write anywhere
        os.seteuid(65534)
    try:
        with pytest.raises(ArtifactError, match="Permission denied.*Choose another place"):
            write_file(folder / "a", "new")
    finally:
        os.seteuid(user)
        folder.rmdir()


def test_a_folder_takes_the_place_only_of_what_may_be_replaced(tmp_path: Path) -> None:
    write_file(tmp_path / "full" / "x", "old")
    write_file(tmp_path / "file", "old")
    (tmp_path / "empty").mkdir()
    never, always = (lambda path: False), (lambda path: True)
    for taken, rule in (("full", never), ("file", never), ("file", always)):
        with pytest.raises(ArtifactError, match="nothing was written"), whole_folder(tmp_path / taken, rule):
            pytest.fail("the block must not run")
    for free in ("empty", "new"):
        with whole_folder(tmp_path / free) as work:
            (work / "y").write_text("new")
    with whole_folder(tmp_path / "full", lambda path: (path / "x").exists()) as work:
        (work / "y").write_text("new")
    assert names(tmp_path) == ["empty", "file", "full", "new"]
    assert all(names(tmp_path / name) == ["y"] for name in ("empty", "full", "new"))


# -- what the dead leave ---------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from pluralign.files import whole_file, whole_folder

folder = Path(sys.argv[1])
with whole_file(folder / "a") as file, whole_folder(folder / "model", lambda path: True) as model:
    file.write_text("half a file")
    (model / "x").write_text("half a folder")
    if sys.argv[2] == "while it is moved":
        replace = Path.replace
        def then_die(self, target):
            replace(self, target)
            os.kill(os.getpid(), signal.SIGKILL)
        Path.replace = then_die
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_one(folder: Path, moment: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), moment], check=False)
    assert done.returncode == -signal.SIGKILL


def test_what_a_killed_process_leaves_is_removed_at_the_next_write(tmp_path: Path, no_grace: None) -> None:
    write_file(tmp_path / "a", "old")
    write_file(tmp_path / "model" / "x", "old")
    kill_one(tmp_path, "while it is written")
    left = [path for path in tmp_path.iterdir() if path.name not in ("a", "model")]
    assert len(left) == 2
    assert all(map(is_temporary, left))
    assert (tmp_path / "a").read_text() == (tmp_path / "model" / "x").read_text() == "old"
    write_file(tmp_path / "b", "new")
    assert names(tmp_path) == ["a", "b", "model"]


def test_a_folder_that_was_moved_aside_comes_back(tmp_path: Path, no_grace: None) -> None:
    write_file(tmp_path / "model" / "x", "old")
    kill_one(tmp_path, "while it is moved")
    assert not (tmp_path / "model").exists()
    sweep(tmp_path)
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "x").read_text() == "old"


def test_only_dead_processes_of_this_machine_are_swept_after(tmp_path: Path, no_grace: None) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    ours = files._machine()
    kept = [
        f".a.{ours}-{os.getppid()}-00000000.partial",  # of a process that lives
        f".a.{'0' * 8}-{dead.pid}-00000000.partial",  # of another machine
        f"a.{ours}-{dead.pid}-00000000.partial",
        f".a.{ours}-{dead.pid}.partial",
        ".a.123",
    ]
    gone = [
        f".a.{ours}-{dead.pid}-00000000.partial",
        f".a.{ours}-{os.getpid()}-00000000.partial",  # of a process that had our number before us
        f".a.b.c.{ours}-{10**30}-00000000.partial",
    ]
    for name in kept + gone:
        (tmp_path / name).touch()
    with whole_file(tmp_path / "mine") as work:
        sweep(tmp_path)
        assert names(tmp_path) == sorted([*kept, work.name])


def test_young_leftovers_stay_and_a_folder_is_scanned_once_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f".a.{files._machine()}-{10**30}-00000000.partial"
    left.touch()
    write_file(tmp_path / "b", "new")
    sweep(tmp_path)
    assert left.exists()
    looked = []
    monkeypatch.setattr(files, "sweep", looked.append)
    for number in range(3):
        write_file(tmp_path / "folder" / str(number), "new")
    assert looked == [tmp_path / "folder"]


def test_a_folder_that_cannot_be_scanned_is_left(tmp_path: Path) -> None:
    sweep(tmp_path / "missing")
