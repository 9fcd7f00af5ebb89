"""Writes bad rows to a file: where each was, why it was rejected, and the original row.

In: rejected rows. Out: a JSON Lines file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from pluralign.data.problems import Problem
from pluralign.files import write_file

__all__ = ["RefusedRow", "write_quarantine"]


class RefusedRow(NamedTuple):
    """A rejected row: where it is, its original content, and the reasons."""

    file: str
    row: int
    data: Any
    problems: list[Problem]


def write_quarantine(path: Path, bad: list[RefusedRow]) -> None:
    """Writes one {file, row, problems, data} per row; overwrites an existing file."""
    lines = [{"file": r.file, "row": r.row, "problems": r.problems, "data": r.data} for r in bad]
    write_file(path, "".join(json.dumps(line, default=repr) + "\n" for line in lines))
