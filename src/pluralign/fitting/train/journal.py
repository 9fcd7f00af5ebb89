"""A record of finished steps, so that an interrupted fit does not repeat them.

In: a key that identifies a step and everything that determines its result. Out: the stored result, or that of
the function just run. There is one JSON line per step; an incomplete last line after an interruption is
ignored.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from pluralign.files import append_line

__all__ = ["Journal"]


class Journal:
    """Stores numbers by key, in memory and, given a path, in a file.

    Args:
        path: a JSON Lines file, created when the first step finishes; None for no file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, float] = {}
        self._cut = False
        self._beside: list[Path] = []
        if path is not None and path.exists():
            text = path.read_text(encoding="utf-8")
            self._cut = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                try:
                    entry = json.loads(line)
                    self._known[entry["key"]] = float(entry["value"])
                except (ValueError, KeyError, TypeError):
                    continue  # the line that was being written when the process stopped

    def recalled(self) -> Journal:
        """A journal in memory that knows the same steps."""
        new = Journal()
        new._known = dict(self._known)
        return new

    def beside(self, name: str) -> Path | None:
        """A path for other data, next to the journal's own file; None if there is no file."""
        if self._path is None:
            return None
        self._beside.append(self._path.with_name(f"{self._path.stem}-{name}"))
        return self._beside[-1]

    def finish(self) -> None:
        """Removes the files and folders next to the journal, once their fit is complete."""
        for path in self._beside:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def remember(self, key: str, compute: Callable[[], float]) -> float:
        """The value of a step: read if it is stored, otherwise computed and stored."""
        if key not in self._known:
            self._known[key] = compute()
            if self._path is not None:
                start = "\n" if self._cut else ""
                append_line(self._path, start + json.dumps({"key": key, "value": self._known[key]}))
                self._cut = False
        return self._known[key]
