"""Rows of completions and tests as columns, and the program in each.

In: what a `ProgramReward` is called with. Out: columns, checked, and the source of programs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pluralign.data.problems import preview
from pluralign.errors import DataError
from pluralign.policy.rewards.programs.extraction import defined_names, extract_program
from pluralign.policy.rewards.programs.shapes import Suite

__all__ = ["EXTRAS", "Columns", "Rows", "as_columns", "content_key", "count_rows", "program_of", "text_of"]

Columns = Mapping[str, Sequence[Any]]
Rows = Columns | Sequence[Mapping[str, Any]]  # or a table of datasets
EXTRAS = ("entry_point", "setup", "prefix")
_COLUMNS = ("completion", "tests", "prompt", *EXTRAS)


def as_columns(rows: Any) -> Columns:
    """The rows as columns; keys that a row lacks become None."""
    if isinstance(rows, Mapping):
        return rows
    if hasattr(rows, "column_names"):
        return {name: rows[name] for name in rows.column_names}
    if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
        names = [name for name in _COLUMNS if any(name in row for row in rows) or not rows]
        return {name: [row.get(name) for row in rows] for name in names}
    raise DataError(
        f"rows: received {type(rows).__name__} {preview(rows)}; allowed: columns, a table of datasets, or a "
        "list of rows"
    )


def count_rows(rows: Columns, tests: str) -> int:
    """The number of rows; each needs a completion and the column by which its tests are found."""
    for name in ("completion", tests):
        if name in rows and (isinstance(rows[name], str) or not hasattr(rows[name], "__len__")):
            raise DataError(
                f"column {name!r} is {preview(rows[name])}; allowed: a list with one entry per row"
            )
        if name not in rows:
            have = ", ".join(rows) or "none"
            raise DataError(
                f"ProgramReward needs a column {name!r}; the columns are: {have}. tests: per row a list of "
                "assertions, or another shape of docs/how-to/programs.md; or ProgramReward(tasks=...), which "
                "finds them by the prompt"
            )
    if len(rows["completion"]) != len(rows[tests]):
        raise DataError(
            f"{len(rows['completion'])} completions and {tests} of {len(rows[tests])} rows; each needs one"
        )
    return len(rows["completion"])


def text_of(completion: Any) -> str:
    """The policy's text."""
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Sequence) and completion and isinstance(completion[-1], Mapping):
        content = completion[-1].get("content")
        if isinstance(content, str):
            return content
        if isinstance(content, Sequence):  # parts, as some templates have them
            return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
        if content is None:
            return ""
    raise DataError(f"completion is {preview(completion)}; allowed: text, or messages with the policy's last")


def program_of(text: str, suite: Suite) -> str | None:
    """The program, with the prefix before it if the completion does not define the names that are tested."""
    names = set(suite.names)
    found = extract_program(text, names)
    if suite.prefix:
        body = found if found is not None else text
        whole = suite.prefix + ("" if suite.prefix.endswith("\n") else "\n") + body
        if not names & defined_names(body) and body.strip() and names & defined_names(whole):
            try:
                compile(whole, "<program>", "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                return found
            return whole
    return found


def content_key(source: str, suite: Suite) -> str:
    """The cache key of results: the program and its tests."""
    raw = json.dumps([source, suite.describe()], sort_keys=True)
    return hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()
