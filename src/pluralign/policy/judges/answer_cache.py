"""Answers of judges on disk: what was asked before is not asked, or paid for, again.

In: a request without its address. Out: the answer, or None. The key is the request's content, so a changed
prompt, model or temperature asks anew. One SQLite file; each answer is on the disk before it is used, and
several threads and processes may share the file.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pluralign.digests import json_digest
from pluralign.errors import CacheError

__all__ = ["AnswerCache"]

_WAIT = 60.0  # seconds for another process that writes


class AnswerCache:
    """Looks answers up and keeps them.

    Args:
        path: the file; made with its folders.

    Raises:
        CacheError: it cannot be opened, or is something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path, timeout=_WAIT, check_same_thread=False)
            with self._file:
                self._file.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT)")
        except (OSError, sqlite3.Error) as error:
            raise CacheError(
                f"{self.path} cannot be used as a cache of answers ({error}); name another file, or None"
            ) from error

    def get(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer to this request, if it is known.

        Raises:
            CacheError: the file cannot be read.
        """
        try:
            with self._lock:
                found = self._file.execute(
                    "SELECT answer FROM answers WHERE key = ?", (json_digest(dict(request)),)
                ).fetchone()
            answer: dict[str, Any] | None = None if found is None else json.loads(found[0])
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise CacheError(f"{self.path} cannot be read ({error}); remove it, or name another") from error
        return answer

    def put(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Keeps an answer; the first one stays.

        Raises:
            CacheError: it cannot be written, for example because the disk is full.
        """
        row = (json_digest(dict(request)), json.dumps(answer))
        try:
            with self._lock, self._file:
                self._file.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", row)
        except sqlite3.Error as error:
            raise CacheError(
                f"{self.path} cannot be written ({error}); free some space and repeat: answers so far "
                "are kept"
            ) from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
