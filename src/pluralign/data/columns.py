"""Mapping a file's columns to a shape: renaming, TRL's names, CSV cells, missing columns.

In: the raw rows of one file. Out: the same rows under canonical column names, and problems with whole
columns. Values are validated in `records`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pluralign.data.batches import ArrowBatch, Batch, RowBatch
from pluralign.data.formats import BadRow, NumberedRow, has_decimal_commas
from pluralign.data.guesses import meant_by, no_such_column
from pluralign.data.json_lines import LineBatch
from pluralign.data.layouts import HELPSTEER
from pluralign.data.plain_values import number_with_comma, value_in
from pluralign.data.problems import Problem
from pluralign.data.records import OPTIONAL, REQUIRED, SIDES, Defaults, Shape
from pluralign.data.sources import Table
from pluralign.errors import ArgumentError, did_you_mean

__all__ = [
    "canonical_names",
    "check_mapping",
    "missing_columns",
    "read_cells",
    "rename",
    "renamed",
    "shape_of",
    "typed_rows",
    "unused_mappings",
]

_COMMON = ("id", "prompt", "subset", "group")
_TEXT_OR_MESSAGES = {
    "prompt",
    "completion",
    "messages",
    *(side for sides in SIDES.values() for side in sides),
}
_FLAGS = {"ratings": "ratings", "pairs": "pairs", "comparisons": "votes"}
_TEXT = {"id", "subset", "group", "attribute", "split", "system"}
_TYPED = {"ratings", "rating", "label", "votes", "rater_ids", "scale", "true_mean", "true_quantiles"}


def shape_of(columns: set[str]) -> Shape | None:
    """The shape that these columns have, or None."""
    if {"chosen", "rejected"} <= columns:
        return "pairs"
    if {"response_a", "response_b"} <= columns or {"conversation_a", "conversation_b"} <= columns:
        return "comparisons"
    if columns & {"response", "completion", "messages"}:
        rated = columns & {"ratings", "rating", "label"} or {"attribute", "scale"} <= columns
        return "ratings" if rated or columns >= set(HELPSTEER) else "responses"
    return None


def check_mapping(mapping: Mapping[str, str | None], *shapes: Shape) -> None:
    """Rejects canonical names that none of the shapes has.

    Raises:
        ArgumentError: lists the allowed names.
    """
    known = {*_COMMON, *OPTIONAL, *(name for shape in shapes for name in REQUIRED[shape])}
    if {"ratings", "comparisons"} & {*shapes}:
        known.add("rater_ids")
    kinds = f" for {shapes[0]}" if len(shapes) == 1 else ""
    for name, of_file in mapping.items():
        if name not in known:
            close = did_you_mean(name, known)
            raise ArgumentError(f"columns: received the key {name!r}{close}; allowed{kinds}: {sorted(known)}")
        if of_file is None and name != "prompt":
            raise ArgumentError(
                f"columns: {name!r} cannot be None; only 'prompt' can (texts without a prompt)"
            )


def canonical_names(
    columns: set[str], shape: Shape, mapping: Mapping[str, str | None], defaults: Defaults
) -> tuple[dict[str, str], Defaults]:
    """The renaming (file's name -> canonical name) of one file, and the defaults that TRL's shape implies.

    TRL's `completion` is read as `response`, and `vote` as `votes`. For ratings, a scalar `rating` is read as
    `ratings`, and `label` (TRL's unpaired shape) as `ratings` 1 / 0 on the scale [0, 1] of the attribute
    "label".
    """
    names = {of_file: name for name, of_file in mapping.items() if of_file is not None}
    present = (columns - set(names)) | set(names.values())
    if SIDES[shape] == ("response",) and "response" not in present and "completion" in present:
        names["completion"] = "response"
    if shape == "comparisons" and "votes" not in present and "vote" in present:
        names["vote"] = "votes"
    if shape != "ratings":
        return names, defaults
    if "ratings" not in present and "rating" in present:
        names["rating"] = "ratings"
    elif "ratings" not in present and "label" in present:
        names["label"] = "ratings"
        defaults = Defaults(defaults.scale or (0.0, 1.0), defaults.attribute or "label")
    return names, defaults


def rename(row: dict[str, Any], names: Mapping[str, str], notes: Counter[str]) -> dict[str, Any]:
    """The row under canonical names; a note counts each file column that a mapped one replaces."""
    renamed = {name: value for name, value in row.items() if name not in names}
    for of_file, name in names.items():
        if name in renamed:
            notes[f"column {name!r} replaced by {of_file!r}"] += 1
        if of_file in row:
            value = row[of_file]
            # TRL's label is a boolean: desirable or not.
            renamed[name] = float(value) if of_file == "label" and isinstance(value, bool) else value
    return renamed


def renamed(batch: Batch, names: Mapping[str, str], notes: Counter[str]) -> Batch:
    """A batch under canonical names, as `rename` gives its rows."""
    if not names:
        return batch
    columns = batch.columns
    replaced = isinstance(batch, LineBatch) and any(
        name in columns and of_file in columns for of_file, name in names.items()
    )
    if isinstance(batch, RowBatch) or replaced:  # only the rows show how many have both
        return RowBatch(batch.numbers, [rename(row, names, notes) for row in batch.rows()])
    arrays = {name: batch.column(name) for name in batch.columns if name not in names}
    for of_file, name in names.items():
        if name in arrays:
            notes[f"column {name!r} replaced by {of_file!r}"] += len(batch.numbers)
        if of_file in batch.columns:
            array = batch.column(of_file)
            arrays[name] = array.cast("float64") if of_file == "label" and array.type == "bool" else array
    if isinstance(batch, LineBatch):
        return batch.renamed(arrays, lambda row: rename(row, names, Counter()))
    return ArrowBatch(batch.numbers, arrays)


def missing_columns(
    file: str,
    columns: set[str],
    shape: Shape,
    mapping: Mapping[str, str | None],
    defaults: Defaults,
    own: Collection[str] | None = None,
) -> list[Problem]:
    """One problem per required column that no row of the file has (`columns` under canonical names).

    `own` are the columns as the file names them, for the messages; `columns` if they are None.
    A file that has all columns of another shape gets a single problem, which names that shape.
    """
    supplied = {"scale": defaults.scale, "attribute": defaults.attribute}
    named = sorted(columns if own is None else own)
    problems = []
    for name in REQUIRED[shape]:
        if name in columns or supplied.get(name) is not None or (name == "prompt" and name in mapping):
            continue
        wanted = mapping.get(name) or name
        held = meant_by(name, named)
        entry = repr(held) if held not in (None, name, mapping.get(name)) else "<the file's name for it>"
        allowed = f"a column {wanted!r}, or columns={{{name!r}: {entry}}}"
        if name in supplied:
            allowed += f", or {name}=..."
        elif name == "prompt":
            allowed += ", or columns={'prompt': None} for texts without a prompt"
        found = f"only the columns {named}"
        problems.append(Problem(file, None, name, found, allowed))
    other = shape_of(columns)
    if problems and other not in (None, shape, "responses"):
        found = f"{other} (columns {', '.join(sorted(columns))})"
        allowed = f"{shape}; load_{other} and --{_FLAGS[str(other)]} read this file"
        return [Problem(file, None, None, found, allowed)]
    for name, of_file in mapping.items():
        if of_file is not None and name not in columns and name not in REQUIRED[shape]:
            problems.append(
                Problem(file, None, name, no_such_column(of_file, named), f"a column of the file: {named}")
            )
    return problems


def unused_mappings(file: str, columns: set[str], mapping: Mapping[str, str | None]) -> list[Problem]:
    """One problem per mapped column that the file lacks although it has a column with the canonical name.

    Reading that column instead would hide a misspelt name (`columns` under the file's own names).
    """
    return [
        Problem(
            file, None, name, no_such_column(of_file, columns), f"a column of the file: {sorted(columns)}"
        )
        for name, of_file in mapping.items()
        if of_file is not None and of_file not in columns and name in columns
    ]


def read_cells(
    rows: Sequence[dict[str, Any]],
    names: Mapping[str, str],
    typed: Collection[str] = (),
    decimal_commas: bool = False,
) -> list[str]:
    """Converts the text cells of a CSV file to their types, in place.

    Text columns stay as they are unless they hold a JSON list of messages; typed columns are read as JSON or
    as a number; any other column is read as JSON if all its cells are JSON. An empty cell outside text
    columns is null.

    Args:
        rows: all rows of the file, every cell a string.
        names: the file's name -> canonical name.
        typed: further columns whose cells are numbers or JSON, by canonical name.
        decimal_commas: read a column whose cells are all numbers if commas are points as these numbers.

    Returns:
        The columns that were read with decimal commas.
    """
    with_commas = []
    for column in rows[0] if rows else ():
        name = names.get(column, column)
        if name in _TEXT_OR_MESSAGES:
            for row in rows:
                row[column] = _messages_or_text(row[column])
            continue
        cells = [row[column] or None for row in rows]
        if name not in _TEXT:
            values = [None if cell is None else value_in(cell) for cell in cells]
            if decimal_commas and any(isinstance(value, str) for value in values):
                pointed = [number_with_comma(v) if isinstance(v, str) else v for v in values]
                if all(isinstance(v, int | float) or c is None for v, c in zip(pointed, cells, strict=True)):
                    values = pointed
                    with_commas.append(column)
            if name in _TYPED or name in typed or not any(isinstance(value, str) for value in values):
                cells = values
        for row, cell in zip(rows, cells, strict=True):
            row[column] = cell
    return with_commas


def typed_rows(table: Table, names: Mapping[str, str] | None = None) -> Iterator[NumberedRow]:
    """The numbered rows of a table; those of a CSV file with the types of `read_cells`.

    Args:
        table: a file, or a table from another source.
        names: the file's name -> canonical name, if they differ.
    """
    if not table.cells_are_text:
        return table.rows()
    numbered = list(table.rows())
    rows = [row for _, row in numbered if not isinstance(row, BadRow)]
    read_cells(rows, names or {}, decimal_commas=has_decimal_commas(table.read_as))
    return iter(numbered)


def _messages_or_text(cell: str) -> Any:
    if cell.lstrip().startswith("["):
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        if isinstance(value, list) and all(isinstance(part, dict) for part in value):
            return value
    return cell
