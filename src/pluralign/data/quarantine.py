"""Bad rows set aside: where each was, why it could not be kept, and the row as it came.

In: refused rows. Out: a JSON Lines file. It does not know what is legal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from pluralign.data.problems import Problem
from pluralign.files import whole_file

__all__ = ["RefusedRow", "write_quarantine"]


class RefusedRow(NamedTuple):
    """A row that cannot be kept: where it is, as it came, and why."""

    file: str
    row: int
    data: Any
    problems: list[Problem]


def write_quarantine(path: Path, bad: list[RefusedRow]) -> None:
    """Writes one {file, row, problems, data} per row, over what was there."""
    with whole_file(path) as work, work.open("w", encoding="utf-8") as stream:
        for row in bad:
            line = {"file": row.file, "row": row.row, "problems": row.problems, "data": row.data}
            stream.write(json.dumps(line, default=repr) + "\n")
