"""Bad rows set aside: where each was, why it could not be kept, and the row as it came.

In: refused rows. Out: a JSON Lines file. It does not know what is legal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from pluralign.data.problems import Problem
from pluralign.files import write_file

__all__ = ["RefusedRow", "write_quarantine"]


class RefusedRow(NamedTuple):
    """A row that cannot be kept: where it is, as it came, and why."""

    file: str
    row: int
    data: Any
    problems: list[Problem]


def write_quarantine(path: Path, bad: list[RefusedRow]) -> None:
    """Writes one {file, row, problems, data} per row, over what was there."""
    lines = [{"file": r.file, "row": r.row, "problems": r.problems, "data": r.data} for r in bad]
    write_file(path, "".join(json.dumps(line, default=repr) + "\n" for line in lines))
