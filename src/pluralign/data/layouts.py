"""Converts common layouts of ratings and votes into the columns of a shape.

    a column per attribute    HelpSteer: helpfulness, correctness, coherence, complexity, verbosity
    a column per rater        spreadsheets: ann, bob, cem
    a row per rater           exports of annotation tools: rater, rating
    a winner                  Chatbot Arena: conversation_a, conversation_b, winner; votes as A, B, tie
    a conversation            ArmoRM's mix of rated sets: messages, of which the last is the response

In: the rows of one file under canonical names. Out: rows with `ratings` or `votes` as lists, and how they
were read. Unknown layouts are left unchanged; `records` then reports the problems.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pluralign.data.records import Shape

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "HELPSTEER",
    "JUDGEMENTS",
    "RATERS",
    "Arranged",
    "Layout",
    "arrange",
    "is_arranged",
    "name_one",
    "rater_column",
    "typed_columns",
]

HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_HELPSTEER_SCALE = (0.0, 4.0)
# The columns with the judgements of a shape.
JUDGEMENTS: Mapping[Shape, str] = {"ratings": "ratings", "comparisons": "votes"}
# Who judged, where a row holds the judgement of one.
RATERS = ("rater", "rater_id", "annotator", "annotator_id", "worker", "worker_id", "judge", "judge_id")

Row = dict[str, Any]
NumberedRows = list[tuple[int, Row]]

_WORDS = {
    **dict.fromkeys(("a", "model_a", "response_a", "left", "first"), 1),
    **dict.fromkeys(("b", "model_b", "response_b", "right", "second"), -1),
    **dict.fromkeys(("tie", "same", "equal"), 0),
    **dict.fromkeys(("tie (bothbad)", "both_bad", "bothbad", "both_good", "bothgood"), 0),
}
_ONE_HOT = {"winner_model_a": 1, "winner_tie": 0, "winner_model_b": -1}


@dataclass(frozen=True)
class Layout:
    """The columns that hold ratings.

    Attributes:
        attributes: columns with the ratings of one attribute each; the column's name is the attribute's.
        raters: columns with the ratings of one rater each.
    """

    attributes: tuple[str, ...] = ()
    raters: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the layout."""
        return self.attributes + self.raters


@dataclass(frozen=True)
class Arranged:
    """Rows of a shape, and how they were read.

    Attributes:
        rows: with the number of the row in the file; one row may have become several.
        read_as: sentences for people.
        scale: what this layout's ratings are given on, where it is known.
    """

    rows: NumberedRows
    read_as: tuple[str, ...] = ()
    scale: tuple[float, float] | None = None


def typed_columns(columns: set[str], layout: Layout) -> set[str]:
    """Columns whose text cells are numbers or JSON."""
    return {*layout.columns, *_ONE_HOT, *(HELPSTEER if columns >= set(HELPSTEER) else ())}


def is_arranged(
    shape: Shape, layout: Layout, columns: Collection[str], judgements: Sequence[Any] | pa.Array
) -> bool:
    """Whether rows are as `arrange` would leave them.

    Args:
        shape: what they should become.
        layout: what the caller said about their columns.
        columns: of the whole file.
        judgements: the values of the column of `JUDGEMENTS`; empty where there is none.
    """
    if _in_messages(shape, columns):
        return False
    if shape == "ratings":
        if layout.columns or "ratings" not in columns:
            return not (layout.columns or _is_helpsteer(columns))
        return not _has_text(judgements)
    if shape != "comparisons":
        return True
    if "response_a" not in columns and {"conversation_a", "conversation_b"} <= {*columns}:
        return False
    if "votes" not in columns:
        return not ("winner" in columns or {*columns} >= {*_ONE_HOT})
    return not _has_text(judgements, in_lists=True)


def _has_text(judgements: Sequence[Any] | pa.Array, in_lists: bool = False) -> bool:
    """Whether there is a text among judgements, or in a list of them."""
    import pyarrow as pa

    if isinstance(judgements, pa.Array):
        judgements = judgements.to_pylist()
    given = set(map(type, judgements))
    if in_lists and list in given:
        flat = (vote for votes in judgements if isinstance(votes, list) for vote in votes)
        given |= set(map(type, flat))
    return str in given


def _is_helpsteer(columns: Collection[str]) -> bool:
    return {*columns} >= {*HELPSTEER} and "attribute" not in columns


def _in_messages(shape: Shape, columns: Collection[str]) -> bool:
    return (
        shape in ("ratings", "responses")
        and "messages" in columns
        and not {"prompt", "response"} & {*columns}
    )


def arrange(rows: NumberedRows, shape: Shape, layout: Layout, columns: Collection[str]) -> Arranged:
    """The rows with their judgements where the shape has them.

    Args:
        rows: of one file, under canonical names, with their numbers.
        shape: what they should become.
        layout: what the caller said about their columns.
        columns: of the whole file.
    """
    if shape == "comparisons":
        return _comparisons(rows, columns)
    how: tuple[str, ...] = ()
    if _in_messages(shape, columns):
        rows = [(n, _of_messages(row)) for n, row in rows]
        how = ("messages, of which the last is the response",)
    found = _ratings(rows, columns, layout) if shape == "ratings" else Arranged(rows)
    return replace(found, read_as=how + found.read_as)


def _of_messages(row: Row) -> Row:
    """The row with the turns before the last as its prompt; `records` refuses what is not a conversation."""
    rest = {column: value for column, value in row.items() if column != "messages"}
    turns = row.get("messages")
    if not isinstance(turns, list) or not turns:
        return {**rest, "prompt": [], "response": turns}
    return {**rest, "prompt": turns[:-1], "response": turns[-1:]}


def _ratings(rows: NumberedRows, columns: Collection[str], layout: Layout) -> Arranged:
    if "ratings" in columns and not layout.columns:
        return Arranged([(n, row | {"ratings": _listed(row.get("ratings"))}) for n, row in rows])
    if layout.raters:
        how = f"a column per rater ({', '.join(layout.raters)})"
        return Arranged([(n, _of_raters(row, layout.raters)) for n, row in rows], (how,))
    names, scale = layout.attributes, None
    if not names and _is_helpsteer(columns):
        names, scale = HELPSTEER, _HELPSTEER_SCALE
    if not names:
        return Arranged(rows)
    wide = [(n, new) for n, row in rows for new in _of_attributes(row, names)]
    known = f" on the scale [{scale[0]:g}, {scale[1]:g}]" if scale else ""
    return Arranged(wide, (f"a column per attribute ({', '.join(names)}){known}",), scale)


def _of_attributes(row: Row, names: Sequence[str]) -> list[Row]:
    """One row per rated attribute; a single row without ratings if none was rated."""
    rest = {column: value for column, value in row.items() if column not in names}
    rated = [
        {**rest, "attribute": name, "ratings": _listed(row[name])}
        for name in names
        if row.get(name) is not None
    ]
    return rated or [{**rest, "attribute": names[0], "ratings": None}]


def _of_raters(row: Row, names: Sequence[str]) -> Row:
    """The row with the ratings of all raters who gave one."""
    rest = {column: value for column, value in row.items() if column not in names}
    gave = [name for name in names if row.get(name) is not None]
    return {**rest, "ratings": [row[name] for name in gave], "rater_ids": gave}


def _comparisons(rows: NumberedRows, columns: Collection[str]) -> Arranged:
    read_as = []
    if "response_a" not in columns and {*columns} >= {"conversation_a", "conversation_b"}:
        rows = [(n, _of_conversations(row)) for n, row in rows]
        read_as.append("conversation_a and conversation_b, whose common turns are the prompt")
    if "votes" not in columns and "winner" in columns:
        rows = [(n, row | {"votes": row.get("winner")}) for n, row in rows]
        read_as.append("winner as the vote")
    elif "votes" not in columns and {*columns} >= set(_ONE_HOT):
        rows = [(n, _of_turns(_one_hot(row))) for n, row in rows]
        read_as.append("winner_model_a, winner_model_b and winner_tie as the vote")
    words = False
    voted = []
    for number, row in rows:
        votes = _listed(row.get("votes"))
        read = [_vote(vote) for vote in votes] if isinstance(votes, list) else _vote(votes)
        words |= read != votes
        voted.append((number, row | {"votes": read} if "votes" in row else row))
    if words and not read_as:
        read_as.append("votes in words (A, B, tie)")
    return Arranged(voted, tuple(read_as))


def _vote(value: Any) -> Any:
    return _WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value


def _moved(row: Row, old: str, new: str) -> Row:
    return {new if column == old else column: value for column, value in row.items()}


def _of_conversations(row: Row) -> Row:
    row = _moved(_moved(row, "conversation_a", "response_a"), "conversation_b", "response_b")
    return {"prompt": None} | row


def _one_hot(row: Row) -> Row:
    """The vote if exactly one of the three columns is set; otherwise none."""
    held = [vote for column, vote in _ONE_HOT.items() if row.get(column) in (1, True)]
    rest = {column: value for column, value in row.items() if column not in _ONE_HOT}
    return {**rest, "votes": held[0] if len(held) == 1 else None}


def _of_turns(row: Row) -> Row:
    """Conversations from prompt and responses that are JSON lists, one text per turn (Arena on Kaggle)."""
    prompts, *answers = (_texts(row.get(column)) for column in ("prompt", "response_a", "response_b"))
    if prompts is None or any(said is None or len(said) != len(prompts) for said in answers):
        return row
    sides = {}
    for column, said in zip(("response_a", "response_b"), answers, strict=True):
        turns = [turn for pair in zip(prompts, said or (), strict=True) for turn in pair]
        sides[column] = [
            {"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)
        ]
    return row | sides | {"prompt": None}


def _texts(value: Any) -> list[str] | None:
    found = _listed(value)
    is_texts = isinstance(found, list) and found and all(isinstance(text, str) for text in found)
    return found if is_texts else None


def rater_column(shape: Shape, layout: Layout, columns: Collection[str]) -> str | None:
    """The column that may name the one rater of each row, None where there is none.

    Args:
        shape: of the rows.
        layout: what the caller said about their columns.
        columns: of the arranged rows of the whole file.
    """
    if JUDGEMENTS.get(shape) not in columns or layout.raters:
        return None
    return next((name for name in ("rater_ids", *RATERS) if name in columns), None)


def name_one(names: Iterable[Any], judgements: Iterable[Any]) -> bool:
    """Whether each row holds one judgement, with one name or none."""
    return all(
        (not isinstance(given, list) or len(given) == 1) and (name is None or isinstance(name, str | int))
        for name, given in zip(names, judgements, strict=True)
    )


def _listed(value: Any) -> Any:
    """A list that an export wrote as JSON text, as a list again; anything else unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, list) else value
