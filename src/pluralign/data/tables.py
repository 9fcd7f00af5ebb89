"""`read_table`: any source -> one checked table and a report; the work behind the loaders.

In: a source, the shape it should have, what the caller supplies for it.
Out: a `datasets.Dataset`, and what was read, left out, set aside and found odd.
Every problem of every row is collected first and raised in one `DataError`. Nothing is dropped silently:
bad rows stop the load, or go to a quarantine file with their reasons. Damage to a whole file always stops it.
Does not know what is legal within a row: `records` does.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from pluralign.data.arrow import canonical_columns, to_dataset
from pluralign.data.columns import (
    canonical_names,
    check_mapping,
    missing_columns,
    read_cells,
    rename,
    unused_mappings,
)
from pluralign.data.formats import BadRow
from pluralign.data.problems import Problem, raise_problems
from pluralign.data.records import SHAPES, Defaults, RowReader, Shape
from pluralign.data.selecting import Selection
from pluralign.data.sources import Table, find_tables, source_name
from pluralign.errors import ArgumentError, DataError

if TYPE_CHECKING:
    import datasets

__all__ = ["LoadReport", "OnBadRow", "read_table"]

logger = logging.getLogger(__name__)

OnBadRow = Literal["error", "quarantine"]


@dataclass(frozen=True)
class LoadReport:
    """What a load did; rows_read = rows_kept + rows_filtered + rows_quarantined.

    Attributes:
        shape: "ratings", "pairs", "comparisons" or "responses".
        files: the files that were read.
        rows_read: rows in the files.
        rows_kept: rows in the data set.
        rows_filtered: rows that `where` left out.
        rows_quarantined: bad rows that were written to `quarantine_path`.
        quarantine_path: that file; None if nothing was set aside.
        problems: what is wrong with the quarantined rows.
        notes: oddities that were kept, with their counts: empty responses and identical sides in comparisons,
            message keys that no model sees, columns that a mapped one replaced or that became text.
        reading: how files were read where that is not a matter of course, such as a list of objects.
    """

    shape: Shape
    files: tuple[str, ...]
    rows_read: int
    rows_kept: int
    rows_filtered: int = 0
    rows_quarantined: int = 0
    quarantine_path: str | None = None
    problems: tuple[Problem, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    reading: tuple[str, ...] = ()


class _BadRow(NamedTuple):
    """A row that cannot be kept: where it is, as it came, and why."""

    file: str
    row: int
    data: Any
    problems: list[Problem]


def read_table(
    source: Any,
    shape: Shape,
    *,
    split: str | None = None,
    config: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    where: Mapping[str, Any] | None = None,
    scale: tuple[float, float] | None = None,
    attribute: str | None = None,
    on_bad_row: OnBadRow = "error",
    quarantine_path: str | os.PathLike[str] | None = None,
) -> tuple[datasets.Dataset, LoadReport]:
    """What the loaders do, with the report.

    Args:
        source: as in `load_ratings`, and so are the other arguments.
        shape: "ratings", "pairs", "comparisons" or "responses".
        split: which split of a hub set or `DatasetDict`.
        config: which configuration of a hub set.
        columns: canonical name -> the file's name.
        where: column -> value that a row must have.
        scale: for ratings, (lowest, highest) of a file that has no scale.
        attribute: for ratings, the attribute of a file that has none.
        on_bad_row: "error" or "quarantine".
        quarantine_path: where bad rows go.

    Returns:
        The data set and a `LoadReport`.

    Raises:
        DataError: one for all problems; each in `.problems`.
        ArgumentError: an argument is illegal.
    """
    for name, given in (("columns", columns), ("where", where)):
        if given is not None and not isinstance(given, Mapping):
            raise ArgumentError(f"{name}: received {type(given).__name__}; allowed: a mapping of names")
    mapping = dict(columns or {})
    quarantine = _check_arguments(source, shape, mapping, scale, on_bad_row, quarantine_path)
    defaults = Defaults(None if scale is None else (float(scale[0]), float(scale[1])), attribute)
    tables = find_tables(source, split, config)
    load = _Load(shape, mapping, dict(where or {}), defaults)
    for table in tables:
        load.read(table)
    name = source_name(source)
    fatal = load.file_problems + load.mixed_scales()
    row_problems = [problem for bad in load.bad for problem in bad.problems]
    if fatal or (row_problems and quarantine is None):
        advice = "" if fatal else "Correct the rows, or set them aside with on_bad_row='quarantine'."
        raise_problems(name, fatal + row_problems, advice)
    if quarantine is not None and load.bad:
        _write_quarantine(quarantine, load.bad)
        logger.warning("%s: %d bad rows set aside in %s", name, len(load.bad), quarantine)
    if not load.rows:
        reason = f"where={where} left out {load.filtered}, {len(load.bad)} were bad"
        reason += f"; {load.selection}" if load.filtered else ""
        raise DataError(f"{name}: none of {load.count} rows is left ({reason})", row_problems)
    table = to_dataset(load.rows, canonical_columns(shape), name, load.note)
    report = LoadReport(
        shape=shape,
        files=tuple(table.name for table in tables),
        rows_read=load.count,
        rows_kept=len(load.rows),
        rows_filtered=load.filtered,
        rows_quarantined=len(load.bad),
        quarantine_path=str(quarantine) if load.bad else None,
        problems=tuple(row_problems),
        notes=dict(load.notes),
        reading=tuple(load.reading),
    )
    if report.notes:
        logger.info("%s: kept as they are: %s", name, report.notes)
    return table, report


class _Load:
    """The state of one load over several tables."""

    def __init__(
        self, shape: Shape, mapping: Mapping[str, str | None], where: Mapping[str, Any], defaults: Defaults
    ) -> None:
        self.shape = shape
        self.mapping = mapping
        self.selection = Selection(where)
        self.defaults = defaults
        self.rows: list[dict[str, Any]] = []
        self.bad: list[_BadRow] = []
        self.file_problems: list[Problem] = []
        self.notes: Counter[str] = Counter()
        self.reading: dict[str, None] = {}
        self.count = 0
        self.filtered = 0
        # Where something was first seen, as (file, row): (id, subset, attribute), and attribute -> scale.
        self._first: dict[tuple[str, ...], tuple[str, int]] = {}
        self._scales: dict[str, dict[tuple[float, ...], tuple[str, int]]] = {}

    def note(self, text: str) -> None:
        """Counts an oddity."""
        self.notes[text] += 1

    def read(self, table: Table) -> None:
        """Read one table; problems are kept, not raised."""
        numbered, bad = self._collect(table)
        self.reading |= dict.fromkeys(table.reading)
        if numbered:
            raw_rows = [raw for _, raw in numbered]
            given = set().union(*raw_rows)
            self.file_problems += unused_mappings(table.name, given, self.mapping)
            names, defaults = canonical_names(given, self.shape, self.mapping, self.defaults)
            if table.cells_are_text:
                read_cells(raw_rows, names)
            if names:
                raw_rows = [rename(raw, names, self.notes) for raw in raw_rows]
            absent = self._missing(table.name, set().union(*raw_rows), defaults)
            if absent is None:
                return
            reader = RowReader(self.shape, table.name, absent, defaults, self.notes)
            for (number, _), raw in zip(numbered, raw_rows, strict=True):
                if not self.selection.takes(raw):
                    self.filtered += 1
                    continue
                row, problems = reader.read(number, raw)
                problems += self._duplicate(row, table.name, number)
                if problems:
                    bad.append(_BadRow(table.name, number, raw, problems))
                else:
                    self._keep_scale(row, table.name, number)
                    self.rows.append({**raw, **row})
        self.bad += sorted(bad, key=lambda row: row.row)

    def _collect(self, table: Table) -> tuple[list[tuple[int, dict[str, Any]]], list[_BadRow]]:
        """The numbered records of a table, and the rows that are none."""
        numbered: list[tuple[int, dict[str, Any]]] = []
        bad: list[_BadRow] = []
        try:
            for number, raw in table.rows():
                self.count += 1
                if isinstance(raw, BadRow):
                    bad.append(_BadRow(table.name, number, raw.raw, [raw.problem]))
                else:
                    numbered.append((number, raw))
        except DataError as error:
            self.file_problems += [problem for problem in error.problems if isinstance(problem, Problem)]
        return numbered, bad

    def _missing(self, file: str, columns: set[str], defaults: Defaults) -> frozenset[str] | None:
        """The canonical columns that the whole table lacks; each is a problem of the file.

        None where the table is of another shape, so that its rows need not be read.
        """
        problems = missing_columns(file, columns, self.shape, self.mapping, defaults)
        allowed = f"for where=, one of {sorted(columns)}"
        problems += [
            Problem(file, None, column, "no such column", allowed)
            for column in self.selection.where
            if column not in columns
        ]
        self.file_problems += problems
        if any(problem.column is None for problem in problems):
            return None
        return frozenset(problem.column for problem in problems if problem.column is not None)

    def _duplicate(self, row: Mapping[str, Any], file: str, number: int) -> list[Problem]:
        key = (row["id"], row["subset"], row.get("attribute") or "")
        first_file, first_row = self._first.setdefault(key, (file, number))
        if (first_file, first_row) == (file, number):
            return []
        found = f"{row['id']!r} again (first in {first_file}, row {first_row})"
        within = "attribute and subset" if self.shape == "ratings" else "subset"
        return [Problem(file, number, "id", found, f"an id once per {within}")]

    def _keep_scale(self, row: Mapping[str, Any], file: str, number: int) -> None:
        attribute, scale = row.get("attribute"), row.get("scale")
        if attribute is not None and scale is not None:  # None where the whole column is missing
            self._scales.setdefault(attribute, {}).setdefault(tuple(scale), (file, number))

    def mixed_scales(self) -> list[Problem]:
        """One problem per attribute that has more than one scale."""
        problems = []
        for attribute, scales in self._scales.items():
            if len(scales) > 1:
                firsts = [
                    f"{list(scale)} (first in {file}, row {row})" for scale, (file, row) in scales.items()
                ]
                file, row = list(scales.values())[1]
                found = f"several scales for the attribute {attribute!r}: {', '.join(firsts)}"
                problems.append(Problem(file, row, "scale", found, "one scale per attribute"))
        return problems


def _check_arguments(
    source: Any,
    shape: str,
    mapping: Mapping[str, str | None],
    scale: tuple[float, float] | None,
    on_bad_row: str,
    quarantine_path: str | os.PathLike[str] | None,
) -> Path | None:
    """Refuse illegal arguments; returns where bad rows go, None if they stop the load."""
    if shape not in SHAPES:
        raise ArgumentError(f"shape: received {shape!r}; allowed: {', '.join(SHAPES)}")
    check_mapping(mapping, shape)
    if scale is not None and not _is_scale(scale):
        raise ArgumentError(f"scale: received {scale!r}; allowed: (lowest, highest), lowest < highest")
    if on_bad_row not in get_args(OnBadRow):
        raise ArgumentError(f"on_bad_row: received {on_bad_row!r}; allowed: 'error', 'quarantine'")
    if on_bad_row == "error":
        return None
    if quarantine_path is None:
        raise ArgumentError("on_bad_row='quarantine' needs quarantine_path=, the file for the bad rows")
    path = Path(quarantine_path)
    taken = (path.resolve(), path.resolve().parent)
    if isinstance(source, str | os.PathLike) and Path(source).resolve() in taken:
        raise ArgumentError(f"quarantine_path: {path} is or lies in the source; choose a place outside of it")
    return path


def _is_scale(scale: Any) -> bool:
    return (
        isinstance(scale, Sequence)
        and len(scale) == 2
        and all(isinstance(end, Real) and math.isfinite(end) for end in scale)
        and scale[0] < scale[1]
    )


def _write_quarantine(path: Path, bad: list[_BadRow]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for row in bad:
            line = {"file": row.file, "row": row.row, "problems": row.problems, "data": row.data}
            stream.write(json.dumps(line, default=repr) + "\n")
