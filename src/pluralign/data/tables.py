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

import numpy as np
from numpy.typing import NDArray

from pluralign.data.arrow import canonical_columns, data_set
from pluralign.data.collected import Collected
from pluralign.data.load_arguments import OnBadRow, layout_of, quarantine_of
from pluralign.data.merging import merge_raters
from pluralign.data.problems import Problem, raise_problems
from pluralign.data.quarantine import RefusedRow, write_quarantine
from pluralign.data.records import Defaults, Shape
from pluralign.data.selecting import Selection
from pluralign.data.sources import Table, find_tables, source_name
from pluralign.data.table_columns import by_appearance, joint_codes, take, text_codes
from pluralign.data.table_reading import Key, Request, read_file_rows
from pluralign.errors import ArgumentError, DataError, RenamedWarning

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

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
    request = Request(shape, mapping, defaults, layout)
    load = _Load(tables, request, Selection(where or {}))
    repeated = load.duplicates()
    if repeated:  # seldom: read once more, now that these rows are known
        load = _Load(tables, replace(request, duplicates=repeated), Selection(where or {}))
    name = source_name(source)
    found = load.table(name)
    fatal = load.file_problems + load.mixed_scales()
    # A row of the file may have become several with the same fault.
    row_problems = list(dict.fromkeys(problem for bad in load.bad for problem in bad.problems))
    if fatal or (row_problems and quarantine is None):
        advice = "" if fatal else "Correct the rows, or set them aside with on_bad_row='quarantine'."
        raise_problems(name, fatal + row_problems, advice)
    if quarantine is not None and load.bad:
        write_quarantine(quarantine, load.bad)
        logger.warning("%s: %d bad rows set aside in %s", name, len(load.bad), quarantine)
    if not len(found):
        reason = f"where={where} left out {load.filtered}, {len(load.bad)} were bad"
        reason += f"; {load.selection}" if load.filtered else ""
        raise DataError(f"{name}: none of {load.count} rows is left ({reason})", row_problems)
    table = data_set(found)
    report = LoadReport(
        shape=shape,
        files=tuple(table.name for table in tables),
        rows_read=load.count,
        rows_kept=len(table),
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
    """All files of one load.

    Attributes:
        bad: refused rows, file by file.
        file_problems: of files as a whole.
        notes: oddities that were kept.
        read_as: how files were read.
        count: rows of the files.
        filtered: rows that were not selected.
        selection: which rows were read, and the values to choose from.
    """

    def __init__(self, tables: Sequence[Table], request: Request, selection: Selection) -> None:
        self.bad: list[RefusedRow] = []
        self.file_problems: list[Problem] = []
        self.notes: Counter[str] = Counter()
        self.read_as: dict[str, None] = {}
        self.count = 0
        self.filtered = 0
        self.selection = selection
        self._shape: Shape = request.shape
        self._names = [table.name for table in tables]
        self._kept = Collected(canonical_columns(request.shape))
        self._refused_keys: list[tuple[int, int, Key]] = []
        self._row_per_rater: list[bool] = []
        for number, table in enumerate(tables):
            found, self.selection = read_file_rows(table, request, self.selection)
            for part in found.kept:
                self._kept.add(number, part.numbers, part.canonical, part.spare)
            self.bad += found.refused
            self.file_problems += found.problems
            self.notes += found.notes
            self.read_as |= found.read_as
            self.count += found.count
            self.filtered += found.filtered
            self._refused_keys += [(number, row, key) for row, key in found.refused_keys]
            self._row_per_rater.append(found.row_per_rater)

    def table(self, source: str) -> pa.Table:
        """All rows that were kept; rows of one rater each are merged."""
        table = self._kept.table(self._note)
        if not any(self._row_per_rater):
            return table
        merged, again = merge_raters(table, self._shape)
        if len(merged) < len(table):
            how = f"{len(table):,} rows with one rater each, for {len(merged):,} texts"
            self.read_as[how] = None
        for name in again:
            found = f"{name!r} for several texts"
            self.file_problems.append(Problem(source, None, "id", found, "an id once per text"))
        return merged

    def _note(self, text: str) -> None:
        self.notes[text] += 1

    def duplicates(self) -> dict[tuple[str, int, Key], tuple[str, int]]:
        """Rows whose key an earlier row has, with the first row of that key."""
        columns = self._keys()
        refused = np.array([(file, row) for file, row, _ in self._refused_keys], np.int64).reshape(-1, 2)
        files, rows = (np.concatenate(parts) for parts in zip(self._kept.places(), refused.T, strict=True))
        code = joint_codes([text_codes(column)[0] for column in columns])
        order = np.lexsort((rows, files))
        _, first, inverse = np.unique(code[order], return_index=True, return_inverse=True)
        first_of = order[first[inverse]]
        again = (files[order] != files[first_of]) | (rows[order] != rows[first_of])
        found = {}
        for place, before in zip(order[again].tolist(), first_of[again].tolist(), strict=True):
            name, subset, attribute, rater = (column[place].as_py() for column in columns)
            key = (self._names[files[place]], int(rows[place]), (name, subset, attribute, rater))
            found[key] = (self._names[files[before]], int(rows[before]))
        return found

    def _keys(self) -> list[pa.ChunkedArray]:
        """Id, subset, attribute and rater of every row that was read; those of refused rows come last."""
        import pyarrow as pa
        import pyarrow.compute as pc

        count, text = self._kept.count, pa.string()
        nothing = pa.chunked_array([pa.nulls(count, text)])
        rated = self._shape == "ratings"
        columns = [
            self._kept.column("id"),
            self._kept.column("subset"),
            self._kept.column("attribute").fill_null("") if rated else nothing.fill_null(""),
            nothing,
        ]
        if any(self._row_per_rater):
            files, _ = self._kept.places()
            named = pa.array(np.array(self._row_per_rater)[files])
            first = [names[0] if names else None for names in self._kept.column("rater_ids").to_pylist()]
            columns[3] = pa.chunked_array([pc.if_else(named, pa.array(first, text), pa.scalar(None, text))])
        refused = zip(*(key for _, _, key in self._refused_keys), strict=True)
        more = [pa.array(values, text) for values in refused] or [pa.array([], text)] * len(columns)
        return [
            pa.chunked_array([*column.chunks, part], text) for column, part in zip(columns, more, strict=True)
        ]

    def mixed_scales(self) -> list[Problem]:
        """One problem per attribute that has more than one scale."""
        import pyarrow.compute as pc

        if self._shape != "ratings":
            return []
        scale = self._kept.column("scale")
        known = np.flatnonzero(
            np.asarray(scale.is_valid()) & np.asarray(self._kept.column("attribute").is_valid())
        )
        if not len(known):
            return []
        names = take(self._kept.column("attribute"), known)
        attribute = text_codes(names)[0]
        ends = np.asarray(pc.list_flatten(take(scale, known)), np.float64).reshape(-1, 2)
        _, pair = np.unique(ends, axis=0, return_inverse=True)
        _, first = by_appearance(joint_codes([attribute, pair.ravel()]))
        problems = []
        for number in dict.fromkeys(attribute[first].tolist()):
            rows = [row for row in first.tolist() if attribute[row] == number]
            if len(rows) > 1:
                problems.append(self._mixed(str(names[rows[0]].as_py()), ends[rows].tolist(), known[rows]))
        return problems

    def _mixed(self, attribute: str, scales: list[list[float]], rows: NDArray[np.int64]) -> Problem:
        places = [self._kept.place(row) for row in rows.tolist()]
        firsts = [
            f"{scale} (first in {self._names[file]}, row {row})"
            for scale, (file, row) in zip(scales, places, strict=True)
        ]
        file, row = places[1]
        found = f"several scales for the attribute {attribute!r}: {', '.join(firsts)}"
        return Problem(self._names[file], row, "scale", found, "one scale per attribute")
