"""`read_table`: any source -> one checked table and a report; the loaders are built on it.

In: a source, the shape it should have, and the caller's options.
Out: a `datasets.Dataset`, and a report of what was read, left out, set aside and found odd.

All problems of all rows are collected first and raised in one `DataError`. Nothing is dropped silently:
bad rows are an error, or go to a quarantine file with their reasons. Damage to a whole file is always an
error. Single rows are validated in `records`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pluralign.data.arrow import canonical_columns, to_dataset
from pluralign.data.columns import (
    canonical_names,
    missing_columns,
    read_cells,
    rename,
    unused_mappings,
)
from pluralign.data.formats import BadRow
from pluralign.data.layouts import Layout, arrange, typed_columns
from pluralign.data.load_arguments import OnBadRow, layout_of, quarantine_of
from pluralign.data.merging import merge_raters
from pluralign.data.problems import Problem, raise_problems
from pluralign.data.quarantine import RefusedRow, write_quarantine
from pluralign.data.records import Defaults, RowReader, Shape
from pluralign.data.selecting import Selection
from pluralign.data.sources import Table, find_tables, source_name
from pluralign.errors import ArgumentError, DataError, RenamedWarning

if TYPE_CHECKING:
    import datasets

__all__ = ["LoadReport", "OnBadRow", "read_table"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What was loaded; rows_read = rows_kept + rows_filtered + rows_quarantined.

    The equation does not hold if a row of the file has several attributes, or one of several raters: then
    rows_kept counts the resulting rows, and rows_filtered those of them that `where` left out.

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
        read_as: how files were read if that is not obvious, such as a list of objects.
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
    read_as: tuple[str, ...] = ()

    @property
    def reading(self) -> tuple[str, ...]:
        """Old name of `read_as`."""
        warnings.warn("LoadReport.reading is now LoadReport.read_as", RenamedWarning, stacklevel=2)
        return self.read_as


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
    attribute_columns: Sequence[str] | None = None,
    rater_columns: Sequence[str] | None = None,
    on_bad_row: OnBadRow = "error",
    quarantine_path: str | os.PathLike[str] | None = None,
) -> tuple[datasets.Dataset, LoadReport]:
    """Loads a table, like the loaders, and also returns the report.

    Args:
        source: as in `load_ratings`, like the other arguments.
        shape: "ratings", "pairs", "comparisons" or "responses".
        split: split of a hub data set or `DatasetDict`.
        config: configuration of a hub data set.
        columns: canonical name -> the file's name.
        where: column -> value that a row must have.
        scale: for ratings, (lowest, highest) for a file without a scale column.
        attribute: for ratings, the attribute for a file without an attribute column.
        attribute_columns: for ratings, columns that hold one attribute each.
        rater_columns: for ratings, columns that hold one rater each.
        on_bad_row: "error" or "quarantine".
        quarantine_path: where bad rows go.

    Returns:
        The data set and a `LoadReport`.

    Raises:
        DataError: the data has problems; all are in `.problems`.
        ArgumentError: an argument is invalid.
    """
    for name, given in (("columns", columns), ("where", where)):
        if given is not None and not isinstance(given, Mapping):
            raise ArgumentError(f"{name}: received {type(given).__name__}; allowed: a mapping of names")
    mapping = dict(columns or {})
    quarantine = quarantine_of(source, shape, mapping, scale, on_bad_row, quarantine_path)
    defaults = Defaults(None if scale is None else (float(scale[0]), float(scale[1])), attribute)
    tables = find_tables(source, split, config)
    layout = layout_of(shape, attribute_columns, rater_columns)
    load = _Load(shape, mapping, dict(where or {}), defaults, layout)
    for table in tables:
        load.read(table)
    name = source_name(source)
    load.merge(name)
    fatal = load.file_problems + load.mixed_scales()
    row_problems = [problem for bad in load.bad for problem in bad.problems]
    if fatal or (row_problems and quarantine is None):
        advice = "" if fatal else "Correct the rows, or set them aside with on_bad_row='quarantine'."
        raise_problems(name, fatal + row_problems, advice)
    if quarantine is not None and load.bad:
        write_quarantine(quarantine, load.bad)
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
        read_as=tuple(load.read_as),
    )
    if report.notes:
        logger.info("%s: kept as they are: %s", name, report.notes)
    return table, report


class _Load:
    """The state of loading several tables."""

    def __init__(
        self,
        shape: Shape,
        mapping: Mapping[str, str | None],
        where: Mapping[str, Any],
        defaults: Defaults,
        layout: Layout,
    ) -> None:
        self.shape = shape
        self.mapping = mapping
        self.selection = Selection(where)
        self.defaults = defaults
        self.rows: list[dict[str, Any]] = []
        self.bad: list[RefusedRow] = []
        self.file_problems: list[Problem] = []
        self.notes: Counter[str] = Counter()
        self.read_as: dict[str, None] = {}
        self.layout = layout
        self.row_per_rater = False
        self.count = 0
        self.filtered = 0
        # Where something was first seen, as (file, row): (id, subset, attribute), and attribute -> scale.
        self._first: dict[tuple[str, ...], tuple[str, int]] = {}
        self._scales: dict[str, dict[tuple[float, ...], tuple[str, int]]] = {}

    def note(self, text: str) -> None:
        """Counts an oddity."""
        self.notes[text] += 1

    def read(self, table: Table) -> None:
        """Reads one table; problems are collected, not raised."""
        numbered, bad = self._collect(table)
        self.read_as |= dict.fromkeys(table.read_as)
        if numbered:
            raw_rows = [raw for _, raw in numbered]
            given = set().union(*raw_rows)
            self.file_problems += unused_mappings(table.name, given, self.mapping)
            names, defaults = canonical_names(given, self.shape, self.mapping, self.defaults)
            if table.cells_are_text:
                read_cells(raw_rows, names, typed_columns(given, self.layout))
            if names:
                raw_rows = [rename(raw, names, self.notes) for raw in raw_rows]
            if self._lacks_layout(table.name, set().union(*raw_rows)):
                return
            numbers = [number for number, _ in numbered]
            arranged = arrange(list(zip(numbers, raw_rows, strict=True)), self.shape, self.layout)
            self.read_as |= dict.fromkeys(arranged.read_as)
            self.row_per_rater |= arranged.row_per_rater
            defaults = replace(defaults, scale=defaults.scale or arranged.scale)
            absent = self._missing(table.name, set().union(*(raw for _, raw in arranged.rows)), defaults)
            if absent is None:
                return
            reader = RowReader(self.shape, table.name, absent, defaults, self.notes)
            for number, raw in arranged.rows:
                if not self.selection.takes(raw):
                    self.filtered += 1
                    continue
                row, problems = reader.read(number, raw)
                problems += self._duplicate(row, table.name, number, arranged.row_per_rater)
                if problems:
                    bad.append(RefusedRow(table.name, number, raw, problems))
                else:
                    self._keep_scale(row, table.name, number)
                    self.rows.append({**raw, **row})
        self.bad += sorted(bad, key=lambda row: row.row)

    def _collect(self, table: Table) -> tuple[list[tuple[int, dict[str, Any]]], list[RefusedRow]]:
        """The numbered records of a table, and the rows that are not records."""
        numbered: list[tuple[int, dict[str, Any]]] = []
        bad: list[RefusedRow] = []
        try:
            for number, raw in table.rows():
                self.count += 1
                if isinstance(raw, BadRow):
                    bad.append(RefusedRow(table.name, number, raw.raw, [raw.problem]))
                else:
                    numbered.append((number, raw))
        except DataError as error:
            self.file_problems += [problem for problem in error.problems if isinstance(problem, Problem)]
        return numbered, bad

    def _missing(self, file: str, columns: set[str], defaults: Defaults) -> frozenset[str] | None:
        """The canonical columns that the whole table lacks; each is a problem for the file.

        None if the table has another shape, so that its rows need not be read.
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

    def _lacks_layout(self, file: str, columns: set[str]) -> bool:
        """Whether columns named by the caller are missing; each is a problem for the file."""
        allowed = f"for attribute_columns= and rater_columns=, columns of the file: {sorted(columns)}"
        lacking = [name for name in self.layout.columns if name not in columns]
        self.file_problems += [Problem(file, None, None, f"no column {name!r}", allowed) for name in lacking]
        return bool(lacking)

    def merge(self, source: str) -> None:
        """Merges the rows of one text into one row, if each rater has a separate row."""
        if not self.row_per_rater:
            return
        before = len(self.rows)
        self.rows, again = merge_raters(self.rows, self.shape)
        if len(self.rows) < before:
            self.read_as[f"{before:,} rows with one rater each, for {len(self.rows):,} texts"] = None
        for name in again:
            found = f"{name!r} for several texts"
            self.file_problems.append(Problem(source, None, "id", found, "one text per id"))

    def _duplicate(
        self, row: Mapping[str, Any], file: str, number: int, row_per_rater: bool
    ) -> list[Problem]:
        rater = row.get("rater_ids") if row_per_rater else None
        key = (row["id"], row["subset"], row.get("attribute") or "", *(rater or ()))
        first_file, first_row = self._first.setdefault(key, (file, number))
        if (first_file, first_row) == (file, number):
            return []
        found = f"{row['id']!r} again (first in {first_file}, row {first_row})"
        within = "attribute and subset" if self.shape == "ratings" else "subset"
        return [Problem(file, number, "id", found, f"each id once per {within}")]

    def _keep_scale(self, row: Mapping[str, Any], file: str, number: int) -> None:
        attribute, scale = row.get("attribute"), row.get("scale")
        if attribute is not None and scale is not None:  # None if the whole column is missing
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
