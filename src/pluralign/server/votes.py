"""Stored votes: a SQLite file of votes for categories, and the posterior that follows from them.

In: votes with an id, an item, a voter, a category and a time. Out: an acknowledgement once they are on the
disk, and the posterior of an item: `PreferenceUpdater` from the model's prediction, with the latest vote of
each person.

A vote is identified by its id and stored once, however often it is sent. The same id with other contents is
refused. Of a person's votes on an item the latest counts; all are stored. The texts of items are not stored,
only their digests and what the model predicted for them when the first vote arrived.

Only one server can use a file: a lock on it refuses a second one, by whatever name. A file that was removed
or replaced takes no votes, which would be lost with the process.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pluralign.errors import ArgumentError, ArtifactError, RunError
from pluralign.files import why_not
from pluralign.heads import PreferenceUpdater

__all__ = ["FullDiskError", "Item", "Vote", "VoteConflictError", "VoteStore", "item_id"]

_FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS items (
    item TEXT PRIMARY KEY, attribute TEXT NOT NULL, categories TEXT NOT NULL, prior TEXT NOT NULL, first REAL
    NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS votes (
    id TEXT PRIMARY KEY, item TEXT NOT NULL REFERENCES items (item), voter TEXT NOT NULL,
    category INTEGER NOT NULL, time REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_item ON votes (item, voter, time);
"""


class FullDiskError(ArtifactError):
    """The disk takes no more votes."""


class VoteConflictError(ArgumentError):
    """A vote has the id of another vote."""


class Item(NamedTuple):
    """What is voted on.

    Attributes:
        item: its id, from `item_id`.
        attribute: of the model.
        categories: names of the categories, C of them.
        prior: their probabilities by the model, C of them.
    """

    item: str
    attribute: str
    categories: tuple[str, ...]
    prior: tuple[float, ...]


class Vote(NamedTuple):
    """One vote.

    Attributes:
        id: chosen by whoever sends it; the same vote sent again has the same.
        item: what it is about.
        voter: who voted.
        category: its position among the item's.
        time: Unix seconds.
    """

    id: str
    item: str
    voter: str
    category: int
    time: float


def item_id(conversation: Sequence[Mapping[str, Any]], attribute: str) -> str:
    """The id of a conversation's attribute: 32 hexadecimal digits that its text decides."""
    told = json.dumps([attribute, [[one["role"], one["content"]] for one in conversation]])
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


class VoteStore:
    """One file of votes, of which this process is the only server. Use it from one thread at a time.

    Args:
        path: the SQLite file; made where it does not exist. Not on a network file system.
        half_life: seconds in which a vote's weight halves; None to forget nothing.
        strength: weight of the model's prediction, in votes.
        fade_prior: whether the prediction is forgotten like the votes.

    Raises:
        RunError: another server holds the file.
        ArtifactError: the file is not one of votes, or cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        half_life: float | None = None,
        strength: float = 5.0,
        fade_prior: bool = True,
    ) -> None:
        self.path = Path(os.path.realpath(path))  # beside which SQLite writes its log
        self._settings: dict[str, Any] = {
            "half_life": half_life,
            "strength": strength,
            "fade_prior": fade_prior,
        }
        PreferenceUpdater(torch.ones(2), **self._settings)  # checks them
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Closed after the connection: closing any descriptor of a file gives up SQLite's own locks on it.
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            reason = why_not(self.path.parent, error.errno or 0)
            raise ArtifactError(f"{self.path} cannot be opened: {reason}; name another file") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise RunError(
                f"{self.path} is in use by another server; stop that one, or name another file"
            ) from None
        try:
            self._open()
        except BaseException:
            os.close(self._file)
            raise

    def _open(self) -> None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise ArtifactError(f"{self.path} is not a regular file; name another file")
        with self._errors():
            # A transaction begins where it is said. FULL: a commit returns once it is on the disk.
            self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version not in (0, _FORMAT) or (version == 0 and tables):
                raise ArtifactError(f"{self.path} is not a file of votes of this version; name another file")
            self._connection.executescript(_TABLES)
            self._connection.execute(f"PRAGMA user_version = {_FORMAT}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of SQLite as ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise _artifact_error(error, self.path) from error

    def _check_file(self) -> None:
        """Checks that what is written can be found again.

        Raises:
            ArtifactError: the file was removed, or another has its name.
        """
        try:
            there = os.path.samestat(os.stat(self.path), os.fstat(self._file))
        except OSError:
            there = False
        if not there:
            raise ArtifactError(
                f"{self.path} was removed or replaced, so votes would be lost; put the file back, or start "
                "the server again"
            )

    def close(self) -> None:
        """Closes the file and lets others have it."""
        self._connection.close()
        os.close(self._file)

    def known(self, items: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The categories of those items that have a prediction already."""
        marks = ",".join("?" * len(items))
        with self._errors():
            rows = self._connection.execute(
                f"SELECT item, categories FROM items WHERE item IN ({marks})", list(items)
            )
            return {item: tuple(json.loads(categories)) for item, categories in rows}

    def add(self, votes: Sequence[Vote], items: Sequence[Item]) -> int:
        """Writes votes, all or none; returns how many are new. They are on the disk when it returns.

        Args:
            votes: each about an item that is known or in `items`.
            items: predictions of those that were not known.

        Raises:
            VoteConflictError: an id is that of another vote.
            FullDiskError: the disk is full; nothing was written.
            ArtifactError: the file cannot be written any more; nothing was.
        """
        self._check_file()
        run = self._connection.execute
        try:
            run("BEGIN IMMEDIATE")
            first = min((vote.time for vote in votes), default=0.0)
            for one in items:
                run(
                    "INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?, ?)",
                    (one.item, one.attribute, json.dumps(one.categories), json.dumps(one.prior), first),
                )
            new = 0
            for vote in votes:
                new += run("INSERT OR IGNORE INTO votes VALUES (?, ?, ?, ?, ?)", vote).rowcount
                found = run("SELECT item, voter, category FROM votes WHERE id = ?", (vote.id,)).fetchone()
                if found != vote[1:4]:
                    raise VoteConflictError(
                        f"vote {vote.id!r} was received before with another item, voter or category; a vote "
                        "cannot be changed: send a new one with an id of its own"
                    )
            run("COMMIT")
            return new
        except sqlite3.Error as error:
            self._undo()
            raise _artifact_error(error, self.path) from error
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):  # what went wrong first is what counts
                self._connection.execute("ROLLBACK")

    def posterior(self, item: str, at: float) -> dict[str, Any] | None:
        """What people think of an item; None where nobody voted on it.

        Args:
            item: its id.
            at: Unix seconds.
        """
        with self._errors():
            row = self._connection.execute(
                "SELECT attribute, categories, prior, first FROM items WHERE item = ?", (item,)
            ).fetchone()
            if row is None:
                return None
            cast = self._connection.execute(
                "SELECT voter, category, time FROM votes WHERE item = ? ORDER BY time, id", (item,)
            ).fetchall()
        attribute, names, prior = row[0], json.loads(row[1]), json.loads(row[2])
        latest = {voter: (category, time) for voter, category, time in cast}
        times = [time for _, time in latest.values()]
        start = min([row[3], *times])
        updater = PreferenceUpdater(torch.tensor(prior, dtype=torch.float64), start=start, **self._settings)
        if latest:
            updater.update([category for category, _ in latest.values()], times)
        now = max(at, updater.time)
        probs, alpha = updater.posterior(now), updater.alpha(now)
        assert isinstance(probs, torch.Tensor)
        return {
            "item": item,
            "attribute": attribute,
            "categories": names,
            "prior": prior,
            "posterior": probs.tolist(),
            "alpha": alpha.tolist(),
            "voters": len(latest),
            "votes": len(cast),
        }

    def items(self, limit: int, after: str = "") -> list[dict[str, Any]]:
        """Ids of items in order, with the number of their votes.

        Args:
            limit: how many.
            after: the id after which to begin.
        """
        with self._errors():
            rows = self._connection.execute(
                "SELECT items.item, attribute, count(votes.id) FROM items LEFT JOIN votes USING (item) "
                "WHERE items.item > ? GROUP BY items.item ORDER BY items.item LIMIT ?",
                (after, limit),
            )
            return [dict(zip(("item", "attribute", "votes"), row, strict=True)) for row in rows]


def _artifact_error(error: sqlite3.Error, path: Path) -> ArtifactError:
    words = str(error)
    if "full" in words or "disk I/O" in words:
        return FullDiskError(
            f"{path} cannot be written: {words}; no vote was lost or half written. Free some space"
        )
    return ArtifactError(f"{path} cannot be used as a file of votes: {words}")
