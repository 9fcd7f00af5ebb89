"""Guesses what the columns of a file that fits no shape may mean; used in messages only.

In: the columns of a file, and its first row. Out: sentences that say what to do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pluralign.errors import did_you_mean

__all__ = ["advice_on_columns", "advice_on_objects", "meant_by", "no_such_column"]

# Names that people give to what we call by the first of each; compared without case, blanks and underscores.
_NAMES = (
    ("prompt", "question", "instruction", "query", "input", "request", "task", "user", "context"),
    ("chosen", "preferred", "better", "winner response", "best", "accepted", "positive"),
    ("rejected", "dispreferred", "worse", "loser response", "worst", "negative"),
    (
        "response_a",
        "answer a",
        "output a",
        "completion a",
        "response 1",
        "answer 1",
        "output 1",
        "model a output",
    ),
    (
        "response_b",
        "answer b",
        "output b",
        "completion b",
        "response 2",
        "answer 2",
        "output 2",
        "model b output",
    ),
    ("response", "answer", "output", "completion", "reply", "text", "assistant", "generation", "summary"),
    ("votes", "vote", "preference", "winner", "choice", "verdict", "label"),
    ("ratings", "rating", "score", "scores", "stars", "grade", "quality", "human score", "label"),
)
# Which of them make a shape, the most telling first.
_SHAPES = (
    ("chosen", "rejected"),
    ("response_a", "response_b", "votes"),
    ("response", "ratings"),
    ("response",),
)
_PANDAS = "pandas writes an object per row with to_json(..., orient='records', lines=True)"


def advice_on_columns(columns: Collection[str]) -> str:
    """Which mapping would make a shape of these columns, after a semicolon; empty if none is likely.

    Args:
        columns: names in the file.
    """
    held = {names[0]: meant_by(names[0], columns) for names in _NAMES}
    found = {name: column for name, column in held.items() if column is not None}
    for needed in _SHAPES:
        if {*needed} <= found.keys():
            break
    else:
        return ""
    renamed = {name: found[name] for name in ("prompt", *needed) if name in found and found[name] != name}
    if not renamed:
        return ""
    others = ", attribute=..., scale=..." if "ratings" in needed else ""
    return f"; these can be read as {_shape(needed)} with columns={renamed}{others}"


def meant_by(name: str, columns: Collection[str]) -> str | None:
    """The column of a file that is likely to be one of ours under another name, None if there is none.

    Args:
        name: canonical.
        columns: names in the file.
    """
    plain = {_bare(column): column for column in columns}
    names = next((names for names in _NAMES if names[0] == name), (name,))
    return next((plain[_bare(one)] for one in names if _bare(one) in plain), None)


def advice_on_objects(num_rows: int, first: Mapping[str, Any]) -> str | None:
    """What to do with a file that is one JSON object instead of one per row; None if it does not look so.

    Args:
        num_rows: how many objects it has.
        first: the first of them.
    """
    if num_rows != 1 or not first:
        return None
    for key, value in first.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value[:100]):
            named = {"role", "content"} <= set(value[0])
            if not named:
                return f"write the list under {key!r} alone, or one object per line"
    tables = [value for value in first.values() if isinstance(value, dict)]
    if len(tables) == len(first) > 1 and all(one.keys() == tables[0].keys() for one in tables):
        return f"one object per row: {_PANDAS}"
    return None


def no_such_column(of_file: str, columns: Collection[str]) -> str:
    """What was found where a mapping names a column that the file lacks."""
    close = {_bare(column): column for column in columns}.get(_bare(of_file))
    meant = f" (did you mean {close!r}?)" if close else did_you_mean(of_file, columns)
    return f"no column {of_file!r}{meant}"


def _bare(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _shape(needed: tuple[str, ...]) -> str:
    kinds = {"chosen": "pairs", "votes": "comparisons", "ratings": "ratings"}
    return next((kinds[name] for name in needed if name in kinds), "responses")
