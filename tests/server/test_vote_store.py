"""Votes are kept once and for good, a person counts once, and the posterior is the updater's."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import pluralign as pl
from pluralign.errors import ArtifactError, RunError
from pluralign.server.votes import FullDiskError, Item, Vote, VoteConflictError, VoteStore

ITEM = Item("i", "a", ("bad", "good", "great"), (0.5, 0.3, 0.2))


def vote(identity: str, voter: str, category: int, at: float = 0.0) -> Vote:
    return Vote(identity, "i", voter, category, at)


def store(path: Path, **options: Any) -> VoteStore:
    return VoteStore(path / "votes.sqlite", **options)


def test_the_posterior_is_the_updaters(tmp_path):
    day = 86_400.0
    votes = store(tmp_path, half_life=2 * day, strength=3.0)
    cast = [vote("1", "ann", 2, 0.0), vote("2", "bob", 1, day), vote("3", "cem", 2, 3 * day)]
    assert votes.add(cast, [ITEM]) == 3
    found = votes.posterior("i", 5 * day)
    updater = pl.PreferenceUpdater(torch.tensor(ITEM.prior).double(), 2 * day, strength=3.0)
    updater.update([2, 1, 2], [0.0, day, 3 * day])
    assert found["posterior"] == pytest.approx(updater.posterior().tolist())
    assert found["alpha"] == pytest.approx(updater.alpha(5 * day).tolist())
    assert (found["voters"], found["votes"], found["categories"]) == (3, 3, list(ITEM.categories))
    assert votes.posterior("other", 0.0) is None


def test_a_vote_counts_once_and_a_person_once(tmp_path):
    votes = store(tmp_path, strength=1.0)
    assert votes.add([vote("1", "ann", 0), vote("1", "ann", 0)], [ITEM]) == 1
    once = votes.posterior("i", 0.0)
    assert votes.add([vote("1", "ann", 0, at=5.0)], []) == 0  # sent again a little later
    assert votes.posterior("i", 0.0) == once
    many = [vote(f"again {n}", "ann", 2, at=float(n)) for n in range(50)]
    assert votes.add(many[::-1], []) == 50
    found = votes.posterior("i", 50.0)
    assert (found["voters"], found["votes"]) == (1, 51)
    assert found["alpha"] == pytest.approx([0.5, 0.3, 1.2])  # the latest alone


def test_an_id_of_another_vote_is_refused_and_nothing_is_kept(tmp_path):
    votes = store(tmp_path)
    votes.add([vote("1", "ann", 0)], [ITEM])
    with pytest.raises(VoteConflictError, match="'1' was received before"):
        votes.add([vote("2", "bob", 1), vote("1", "ann", 1)], [])
    assert votes.posterior("i", 0.0)["votes"] == 1
    assert votes.add([vote("2", "bob", 1)], []) == 1


def test_it_is_there_after_the_file_is_opened_again(tmp_path):
    votes = store(tmp_path)
    votes.add([vote("1", "ann", 2)], [ITEM])
    before = votes.posterior("i", 9.0)
    votes.close()
    again = store(tmp_path)
    assert again.posterior("i", 9.0) == before
    assert again.known(["i", "j"]) == {"i": ITEM.categories}
    assert again.items(10) == [{"item": "i", "attribute": "a", "votes": 1}]
    assert again.items(10, "i") == []


def test_a_second_server_on_the_file_is_refused(tmp_path):
    votes = store(tmp_path)
    with pytest.raises(RunError, match="in use by another server"):
        store(tmp_path)
    votes.close()
    store(tmp_path).close()


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_second_server_by_another_name_is_refused_too(tmp_path, link):
    votes = store(tmp_path)
    link(tmp_path / "again.sqlite", tmp_path / "votes.sqlite")
    with pytest.raises(RunError, match="in use by another server"):
        VoteStore(tmp_path / "again.sqlite")
    votes.close()


def test_by_a_link_the_log_lies_beside_the_file_itself(tmp_path):
    """Else two names of one file would have two logs."""
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "link.sqlite"
    link.symlink_to(tmp_path / "votes.sqlite")
    votes = VoteStore(link)
    votes.add([vote("1", "ann", 2)], [ITEM])
    assert [file.name for file in link.parent.iterdir()] == ["link.sqlite"]
    assert (tmp_path / "votes.sqlite-wal").exists()
    votes.close()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_votes_that_would_be_gone_with_the_process_are_refused(tmp_path, how):
    """What is written into a file without a name is lost when it is closed."""
    votes = store(tmp_path)
    votes.add([vote("1", "ann", 2)], [ITEM])
    (tmp_path / "votes.sqlite").rename(tmp_path / "moved.sqlite")
    if how == "replaced":
        (tmp_path / "votes.sqlite").write_bytes((tmp_path / "moved.sqlite").read_bytes())
    with pytest.raises(
        ArtifactError, match="was removed or replaced, so votes would be lost; put the file back"
    ):
        votes.add([vote("2", "bob", 2)], [])
    (tmp_path / "moved.sqlite").rename(tmp_path / "votes.sqlite")
    assert votes.add([vote("2", "bob", 2)], []) == 1


def test_what_cannot_be_read_is_our_error(tmp_path):
    votes = store(tmp_path)
    for table in ("votes", "items"):
        votes._connection.execute(f"DROP TABLE {table}")
    for ask in (lambda: votes.posterior("i", 0.0), lambda: votes.items(9), lambda: votes.known(["i"])):
        with pytest.raises(ArtifactError, match="cannot be used as a file of votes: no such table"):
            ask()


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "votes.sqlite")
    with pytest.raises(ArtifactError, match="is not a regular file; name another"):
        store(tmp_path)
    with pytest.raises(ArtifactError, match="/proc takes no files; name another"):
        VoteStore("/proc/votes.sqlite")


def test_a_full_disk_refuses_votes_and_keeps_those_it_has(tmp_path):
    votes = store(tmp_path)
    votes.add([vote("1", "ann", 2)], [ITEM])
    (pages,) = votes._connection.execute("PRAGMA page_count").fetchone()
    votes._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    kept = 1

    def fill() -> None:
        nonlocal kept
        for n in range(10_000):
            votes.add([vote(f"{n} {'long ' * 20}", f"v{n}", 1)], [])
            kept += 1

    with pytest.raises(FullDiskError, match="full.*Free some space"):
        fill()
    assert votes.posterior("i", 0.0)["votes"] == kept
    votes._connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert votes.add([vote("after", "zoe", 1)], []) == 1


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be read as one", b"SQLite format 3\0junk"]
)
def test_another_file_is_not_written_over(tmp_path, content):
    path = tmp_path / "votes.sqlite"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="votes.sqlite"):
        VoteStore(path)
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_not_written_into(tmp_path):
    path = tmp_path / "votes.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE people (name TEXT)")
    with pytest.raises(ArtifactError, match="not a file of votes"):
        VoteStore(path)


KILLED = """
import sys
from pluralign.server.votes import Item, Vote, VoteStore
votes = VoteStore(sys.argv[1])
item = Item("i", "a", ("bad", "good"), (0.5, 0.5))
for n in range(100_000):
    votes.add([Vote(str(n), "i", f"v{n}", n % 2, 0.0)], [item])
    print(n, flush=True)
"""


def test_no_acknowledged_vote_is_lost_by_a_kill(tmp_path):
    path = tmp_path / "votes.sqlite"
    acknowledged = -1
    for turn in range(2):
        worker = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        lines = [int(worker.stdout.readline()) for _ in range(30 + 7 * turn)]
        worker.send_signal(signal.SIGKILL)
        lines += [int(line) for line in worker.stdout.read().split("\n")[:-1]]
        worker.wait()
        acknowledged = max(acknowledged, lines[-1])
    votes = VoteStore(path)
    ids = {int(row[0]) for row in votes._connection.execute("SELECT id FROM votes")}
    assert ids >= set(range(acknowledged + 1))
    assert votes.posterior("i", 0.0)["voters"] == len(ids)
