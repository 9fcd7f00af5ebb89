"""Problems of a file or table: one sentence each, collected and raised together.

In: where a problem is (file, row, column), what was found and what is allowed.
Out: `Problem`, a sentence that also carries its parts; `raise_problems`, one `DataError` for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pluralign.errors import DataError

__all__ = ["BadRow", "NumberedRow", "Problem", "not_utf8", "preview", "raise_problems"]

_PREVIEW = 60  # characters of a user's text that a message may quote
_SHOWN = 20  # problems that a message lists; the error carries all of them


class Problem(str):
    """One problem: the sentence, and its parts as attributes.

    Attributes:
        file: the file, the hub id, or "rows" for rows given in memory.
        row: line number for text files (in CSV the header is line 1), else the row counted from 1;
            None for a problem of the whole file.
        column: the canonical name of the column; None for a problem of the whole row.
        found: what was found, shortened.
        allowed: what is allowed, or what to do.
    """

    file: str
    row: int | None
    column: str | None
    found: str
    allowed: str

    def __new__(cls, file: str, row: int | None, column: str | None, found: str, allowed: str) -> Problem:
        """Builds the sentence from its parts."""
        place = file if row is None else f"{file}, row {row}"
        if column is not None:
            place += f", column {column!r}"
        self = super().__new__(cls, f"{place}: found {found}; allowed: {allowed}")
        self.file, self.row, self.column, self.found, self.allowed = file, row, column, found, allowed
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:  # pickling rebuilds the sentence from its parts
        return self.file, self.row, self.column, self.found, self.allowed


@dataclass(frozen=True)
class BadRow:
    """A line that is not a record: the problem, and the line itself for the quarantine."""

    problem: Problem
    raw: str


NumberedRow = tuple[int, "dict[str, Any] | BadRow"]


def not_utf8(name: str, row: int | None, error: UnicodeDecodeError) -> Problem:
    """The problem of bytes that are not UTF-8."""
    found = f"byte 0x{error.object[error.start]:02x} at position {error.start}, which is not UTF-8"
    return Problem(name, row, None, found, "UTF-8 text; convert the file")


def preview(value: object) -> str:
    """The value's repr, truncated to 60 characters, so that no message quotes a whole text."""
    # A long string is truncated before repr, so that no megabyte of text is processed for a message.
    text = repr(value[: 2 * _PREVIEW] if isinstance(value, str) else value)
    return text if len(text) <= _PREVIEW else text[: _PREVIEW - 1] + "…"


def raise_problems(source: str, problems: Sequence[Problem], advice: str = "") -> NoReturn:
    """Raises one `DataError` that shows the first 20 problems and carries all of them.

    Args:
        source: the name of the source, for the first line of the message.
        problems: at least one.
        advice: what the user can do, printed last.

    Raises:
        DataError: always.
    """
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"{source}: {count}"] + [f"  - {problem}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"  ... and {len(problems) - _SHOWN} more; all of them are in the error's `problems`")
    if advice:
        lines.append(advice)
    raise DataError("\n".join(lines), problems)
