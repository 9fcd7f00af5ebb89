"""`load_ratings`, `load_pairs`, `load_comparisons`, `load_responses`, `detect_shape`: source -> typed table.

In: a path, folder, hub id, data set or rows in memory. Out: a `datasets.Dataset` with the canonical columns
of `records`. `tables.read_table` does the work, and also returns a report.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pluralign.data.columns import canonical_names, check_mapping, missing_columns, shape_of
from pluralign.data.formats import BadRow
from pluralign.data.guesses import advice_on_columns, advice_on_objects, no_such_column
from pluralign.data.problems import Problem, raise_problems
from pluralign.data.records import REQUIRED, SHAPES, Defaults, Shape
from pluralign.data.sources import find_tables, source_name
from pluralign.data.tables import OnBadRow, read_table
from pluralign.errors import DataError

if TYPE_CHECKING:
    import datasets

__all__ = [
    "detect_shape",
    "load_comparisons",
    "load_pairs",
    "load_ratings",
    "load_responses",
    "response_shape",
]


def load_ratings(
    source: Any,
    *,
    split: str | None = None,
    config: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    where: Mapping[str, Any] | None = None,
    scale: tuple[float, float] | None = None,
    attribute: str | None = None,
    attribute_columns: Sequence[str] | None = None,
    rater_columns: Sequence[str] | None = None,
    on_bad_row: OnBadRow = "error",
    quarantine_path: str | os.PathLike[str] | None = None,
) -> datasets.Dataset:
    """Ratings: one row per response, attribute and rater pool.

    Accepted as they are: `ratings` as a list or one number, a scalar column `rating`, a prompt as text or
    messages, and TRL's unpaired shape {prompt, completion, label}, whose label becomes a rating of 1 or 0 on
    the scale [0, 1] of the attribute "label". Rows that hold the rating of a single rater, named by a column
    such as `rater`, are merged if they rate the same text.

    Args:
        source: path to a .jsonl, .json, .csv or .parquet file (.gz or not) or to a folder of them, a hub id
            "owner/name", a `datasets.Dataset`, or a list of dicts.
        split: split of a hub data set or `DatasetDict`.
        config: configuration of a hub data set.
        columns: canonical name -> the file's name; {"prompt": None} for texts without a prompt.
        where: column -> value; only rows with exactly these values are read, the others are counted.
        scale: (lowest, highest) for a file without a scale column.
        attribute: name of the attribute for a file without an attribute column.
        attribute_columns: columns that hold the ratings of one attribute each; the column's name becomes the
            attribute's. HelpSteer's five are known, with their scale.
        rater_columns: columns that hold the ratings of one rater each; an empty cell is a missing rating.
        on_bad_row: "error" raises an error with all problems; "quarantine" writes bad rows to
            `quarantine_path` and continues.
        quarantine_path: a JSON Lines file, overwritten; one {file, row, problems, data} per bad row.

    Returns:
        Columns id, prompt, response, attribute, ratings, rater_ids, scale, subset, group, then the file's
        other columns. A missing id becomes "file:row", a missing subset "", a missing group a hash of the
        prompt (of the response if the prompt is empty).

    Raises:
        DataError: the data has problems; all are in `.problems`, the first 20 in the message.
        ArgumentError: an argument is invalid.
    """
    dataset, _ = read_table(
        source,
        "ratings",
        split=split,
        config=config,
        columns=columns,
        where=where,
        scale=scale,
        attribute=attribute,
        attribute_columns=attribute_columns,
        rater_columns=rater_columns,
        on_bad_row=on_bad_row,
        quarantine_path=quarantine_path,
    )
    return dataset


def load_pairs(
    source: Any,
    *,
    split: str | None = None,
    config: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    where: Mapping[str, Any] | None = None,
    on_bad_row: OnBadRow = "error",
    quarantine_path: str | os.PathLike[str] | None = None,
) -> datasets.Dataset:
    """Pairs: a chosen and a rejected response to one prompt.

    TRL's preference shape is accepted as it is: text or message lists, the prompt given or implicit (the
    common beginning of the two lists). Plain texts without a prompt get an empty one, unless they are
    conversations as in HH-RLHF ("\\n\\nHuman: ...\\n\\nAssistant: ...") that differ only in their last turn.

    Args:
        source: as in `load_ratings`, like the other arguments.
        split: split of a hub data set or `DatasetDict`.
        config: configuration of a hub data set.
        columns: canonical name -> the file's name.
        where: column -> value that a row must have.
        on_bad_row: "error" or "quarantine".
        quarantine_path: where bad rows go.

    Returns:
        Columns id, prompt, chosen, rejected, subset, group, then the file's other columns; a missing id,
        subset or group is filled as in `load_ratings`.

    Raises:
        DataError: the data has problems; all are in `.problems`.
        ArgumentError: an argument is invalid.
    """
    dataset, _ = read_table(
        source,
        "pairs",
        split=split,
        config=config,
        columns=columns,
        where=where,
        on_bad_row=on_bad_row,
        quarantine_path=quarantine_path,
    )
    return dataset


def load_comparisons(
    source: Any,
    *,
    split: str | None = None,
    config: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    where: Mapping[str, Any] | None = None,
    on_bad_row: OnBadRow = "error",
    quarantine_path: str | os.PathLike[str] | None = None,
) -> datasets.Dataset:
    """Comparisons: two responses to one prompt and a vote per rater (+1 a is better, 0 tie, -1 b is better).

    Empty responses and equal sides are kept, since raters saw and compared them. `read_table` counts them in
    `LoadReport.notes`, and conversions to pairs leave equal sides out.
    Chatbot Arena's columns (`conversation_a`, `conversation_b`, `winner`) are accepted, and so are votes in
    words: A, B, tie.

    Args:
        source: as in `load_ratings`, like the other arguments.
        split: split of a hub data set or `DatasetDict`.
        config: configuration of a hub data set.
        columns: canonical name -> the file's name; {"prompt": None} for texts without a prompt.
        where: column -> value that a row must have.
        on_bad_row: "error" or "quarantine".
        quarantine_path: where bad rows go.

    Returns:
        Columns id, prompt, response_a, response_b, votes, rater_ids, subset, group, then the file's others; a
        missing id, subset or group is filled as in `load_ratings`.

    Raises:
        DataError: the data has problems; all are in `.problems`.
        ArgumentError: an argument is invalid.
    """
    dataset, _ = read_table(
        source,
        "comparisons",
        split=split,
        config=config,
        columns=columns,
        where=where,
        on_bad_row=on_bad_row,
        quarantine_path=quarantine_path,
    )
    return dataset


def load_responses(
    source: Any,
    *,
    split: str | None = None,
    config: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    where: Mapping[str, Any] | None = None,
    on_bad_row: OnBadRow = "error",
    quarantine_path: str | os.PathLike[str] | None = None,
) -> datasets.Dataset:
    """Anything that can be scored: responses without ratings, or a table of one of the three shapes.

    Plain rows {prompt, response}, or TRL's {prompt, completion}, need no other column; the prompt may be
    missing. Ratings without a scale or an attribute are read as plain responses. Empty responses are kept and
    counted, since a model generated them.

    Args:
        source: as in `load_ratings`, like the other arguments.
        split: split of a hub data set or `DatasetDict`.
        config: configuration of a hub data set.
        columns: canonical name -> the file's name.
        where: column -> value that a row must have.
        on_bad_row: "error" or "quarantine".
        quarantine_path: where bad rows go.

    Returns:
        Columns id, prompt, response, subset, group, then the file's other columns; for the three shapes the
        columns that their loader returns.

    Raises:
        DataError: the data has problems; all are in `.problems`.
        ArgumentError: an argument is invalid.
    """
    shape = response_shape(source, split=split, config=config, columns=columns)
    dataset, _ = read_table(
        source,
        shape,
        split=split,
        config=config,
        columns=columns,
        where=where,
        on_bad_row=on_bad_row,
        quarantine_path=quarantine_path,
    )
    return dataset


def response_shape(
    source: Any,
    *,
    split: str | None = None,
    config: str | None = None,
    columns: Mapping[str, str | None] | None = None,
) -> Shape:
    """The shape as which `load_responses` reads a source, from the columns of its first 100 rows.

    Arguments and errors as in `detect_shape`, except that what fits no shape is "responses".
    """
    found = _beginning(source, split, config).under(columns or {})
    shape = shape_of(found) or "responses"
    if shape == "ratings":
        names, defaults = canonical_names(found, shape, {}, Defaults())
        renamed = {names.get(name, name) for name in found}
        shape = "responses" if missing_columns("", renamed, shape, {"prompt": None}, defaults) else shape
    return shape


def detect_shape(
    source: Any,
    *,
    split: str | None = None,
    config: str | None = None,
    columns: Mapping[str, str | None] | None = None,
) -> Shape:
    """Infers the shape of a source from the columns of its first 100 rows.

    Args:
        source: as in `load_ratings`.
        split: split of a hub data set or `DatasetDict`.
        config: configuration of a hub data set.
        columns: canonical name -> the file's name.

    Returns:
        "ratings", "pairs", "comparisons" or, if there are only responses, "responses".

    Raises:
        DataError: the columns fit none of the shapes, or the source cannot be read.
    """
    begun = _beginning(source, split, config)
    mapping = columns or {}
    check_mapping(mapping, *SHAPES)
    found = begun.under(mapping)
    shape = shape_of(found)
    if shape is None:
        _refuse_shape(source_name(source), begun, mapping)
    return shape


def _refuse_shape(name: str, begun: _Beginning, mapping: Mapping[str, str | None]) -> NoReturn:
    """Raises the error of a file whose columns fit no shape, with the likeliest reason."""
    if begun.problems:
        raise_problems(name, begun.problems)
    own = sorted(begun.columns)
    absent = [
        Problem(name, None, canonical, no_such_column(of_file, own), f"a column of the file: {own}")
        for canonical, of_file in mapping.items()
        if of_file is not None and of_file not in begun.columns
    ]
    if absent:
        raise_problems(name, absent)
    one = advice_on_objects(begun.num_rows, begun.first)
    if one is not None:
        raise DataError(f"{name}: found one JSON object with the keys {own[:5]}; allowed: {one}")
    allowed = "; ".join(f"{kind} {{{', '.join(needed)}}}" for kind, needed in REQUIRED.items())
    raise DataError(
        f"{name}: no shape fits the columns {own}; allowed: {allowed}; "
        f"map other names with columns={advice_on_columns(begun.columns)}"
    )


class _Beginning(NamedTuple):
    """The first 100 rows of every table of a source: all columns, the first row, how many there are."""

    columns: set[str]
    first: dict[str, Any]
    num_rows: int
    problems: list[Problem]

    def under(self, mapping: Mapping[str, str | None]) -> set[str]:
        """The columns under canonical names, where they are mapped."""
        names = {of_file: name for name, of_file in mapping.items() if of_file is not None}
        return {names.get(column, column) for column in self.columns}


def _beginning(source: Any, split: str | None, config: str | None) -> _Beginning:
    rows: list[dict[str, Any]] = []
    problems = []
    for table in find_tables(source, split, config):
        for _, row in itertools.islice(table.rows(), 100):
            if isinstance(row, BadRow):
                problems.append(row.problem)
            else:
                rows.append(row)
    if problems and not rows:
        raise_problems(source_name(source), problems)
    columns = {column for row in rows for column in row}
    return _Beginning(columns, rows[0] if rows else {}, len(rows), problems)
