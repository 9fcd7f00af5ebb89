"""One file read into checked rows, a batch at a time.

In: a `Table`, and what the caller supplied. Out: a `FileRows`: the rows that were kept, as Arrow arrays,
those that are refused, and what is wrong with the file as a whole.

What a column means depends on which columns the file has, and in JSON Lines a new column may appear in the
last line. So a file is read by the columns of its first rows, and again if a later row has others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pluralign.data.arrow import to_arrays
from pluralign.data.batch_check import checked_columns
from pluralign.data.batches import BATCH_ROWS, Batch, RowBatch, in_batches
from pluralign.data.columns import (
    canonical_names,
    missing_columns,
    read_cells,
    renamed,
    unused_mappings,
)
from pluralign.data.formats import has_decimal_commas
from pluralign.data.layouts import (
    JUDGEMENTS,
    Layout,
    arrange,
    is_arranged,
    name_one,
    rater_column,
    typed_columns,
)
from pluralign.data.problems import BadRow, Problem
from pluralign.data.quarantine import RefusedRow
from pluralign.data.records import OPTIONAL, Defaults, RowReader, Shape
from pluralign.data.selecting import Selection
from pluralign.data.sources import Table
from pluralign.data.spare_columns import spelled
from pluralign.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Duplicates", "FileRows", "Key", "Request", "read_file_rows"]

Key = tuple[str, str, str, str | None]  # id, subset, attribute, rater
# (file, row, key) -> file and row that had the same key before.
Duplicates = Mapping[tuple[str, int, Key], tuple[str, int]]


@dataclass(frozen=True)
class Request:
    """What the caller wants of every file.

    Attributes:
        shape: which one.
        mapping: canonical name -> the file's name.
        defaults: what the caller supplied for columns that files lack.
        layout: which columns hold judgements.
        duplicates: rows that are known to repeat an earlier one's key.
    """

    shape: Shape
    mapping: Mapping[str, str | None]
    defaults: Defaults
    layout: Layout
    duplicates: Duplicates = field(default_factory=dict)


class Part(NamedTuple):
    """Rows that were kept."""

    numbers: NDArray[np.int64]
    canonical: dict[str, pa.Array]
    spare: dict[str, Any]


@dataclass
class FileRows:
    """The rows of a file, and what is wrong with it.

    Attributes:
        kept: in the order of the file.
        refused: rows that cannot be kept, in the order of the file.
        refused_keys: (row, key) of those that were read, since later rows may repeat them.
        problems: of the file as a whole.
        count: rows of the file.
        filtered: rows that were not selected.
        row_per_rater: whether the raters of one text are in several rows.
        notes: oddities that were kept.
        read_as: how the file was read.
    """

    kept: list[Part] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)
    refused_keys: list[tuple[int, Key]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    count: int = 0
    filtered: int = 0
    row_per_rater: bool = False
    notes: Counter[str] = field(default_factory=Counter)
    read_as: dict[str, None] = field(default_factory=dict)


def read_file_rows(table: Table, request: Request, selection: Selection) -> tuple[FileRows, Selection]:
    """Reads one file; problems are kept, not raised.

    Args:
        table: the file.
        request: what is wanted of it.
        selection: which rows.

    Returns:
        The rows, and the selection, which has recorded the values in this file.
    """
    seen = _SoFar()
    while True:
        one_pass = _FilePass(table, request, selection.copy(), seen)
        found = one_pass.run()
        if found is not None:
            return found, one_pass.selection


@dataclass
class _SoFar:
    """What is known of a file's columns; it grows, so that a file is read again a few times at most."""

    given: dict[str, None] = field(default_factory=dict)
    arranged: dict[str, None] = field(default_factory=dict)
    row_per_rater: bool | None = None


class _Plan(NamedTuple):
    """How the rows of a file are read; it follows from the columns of the whole file."""

    names: dict[str, str]
    defaults: Defaults
    absent: frozenset[str]
    rater: str | None
    hopeless: bool  # a file of another shape, or without columns that were asked for: rows are not read


class _FilePass:
    """One pass over a file."""

    def __init__(self, table: Table, request: Request, selection: Selection, seen: _SoFar) -> None:
        self.selection = selection
        self._table = table
        self._request = request
        self._seen = seen
        self._found = FileRows()
        self._arranging: dict[str, None] = {}
        self._plan: _Plan | None = None
        self._stale = False
        self._all_name_one, self._any_named = True, False
        self._repeated = [number for file, number, _ in request.duplicates if file == table.name]
        self._range: tuple[float, float] | None = None  # of ratings without a scale

    def run(self) -> FileRows | None:
        """The rows of the file; None if columns appeared after rows that they would have changed."""
        damage: list[Problem] = []
        batches, known = self._batches(), len(self._seen.given)
        while True:
            try:
                batch = next(batches, None)
            except DataError as error:
                damage = [problem for problem in error.problems if isinstance(problem, Problem)]
                break
            if batch is None:
                break
            self._read(batch)
        found, plan = self._found, self._plan
        if plan is not None and plan.rater is not None:
            row_per_rater = self._all_name_one and self._any_named
            self._stale |= row_per_rater != self._seen.row_per_rater
            self._seen.row_per_rater = found.row_per_rater = row_per_rater
        if self._stale:
            if len(self._seen.given) > known:  # what rows were arranged into may be wrong
                self._seen.arranged = {}
            return None
        if plan is not None:
            if plan.hopeless:
                found.refused.clear()
            found.problems = self._problems_of(plan)
        found.problems = damage + found.problems
        found.read_as = dict.fromkeys(self._table.read_as) | self._arranging
        if found.row_per_rater and plan is not None:
            found.read_as[f"a row per rater, named by {plan.rater}"] = None
        found.refused.sort(key=lambda row: row.row)
        return found

    def _batches(self) -> Iterator[Batch]:
        if self._table.batches is not None:
            batches: Iterator[Batch] = self._table.batches(self._refuse)
        elif self._table.cells_are_text:
            batches = self._typed_batches()
        else:
            batches = in_batches(self._table.rows(), self._refuse)
        for batch in batches:
            self._found.count += len(batch.numbers)
            yield batch

    def _refuse(self, number: int, bad: BadRow) -> None:
        """Counts and keeps a row that is not a record."""
        self._found.count += 1
        self._found.refused.append(RefusedRow(self._table.name, number, bad.raw, [bad.problem]))

    def _typed_batches(self) -> Iterator[RowBatch]:
        """The type of a column of cells is known only once all of them are read."""
        whole: list[tuple[int, dict[str, Any]]] = []
        damage = None
        try:
            for batch in in_batches(self._table.rows(), self._refuse):
                whole += zip(batch.numbers.tolist(), batch.rows(), strict=True)
        except DataError as error:
            damage = error
        rows = [row for _, row in whole]
        if rows:
            request = self._request
            names, _ = canonical_names(set(rows[0]), request.shape, request.mapping, request.defaults)
            commas = has_decimal_commas(self._table.read_as)
            found = read_cells(rows, names, typed_columns(set(rows[0]), request.layout), commas)
            if found:
                self._arranging[f"numbers with decimal commas ({', '.join(found)})"] = None
        for start in range(0, len(whole), BATCH_ROWS):
            part = whole[start : start + BATCH_ROWS]
            yield RowBatch(np.array([number for number, _ in part], np.int64), [row for _, row in part])
        if damage is not None:
            raise damage

    def _read(self, batch: Batch) -> None:
        """Learns the columns of a batch, and checks its rows if they are read as those before."""
        request, seen = self._request, self._seen
        if not len(batch.numbers):
            return
        seen.given |= batch.columns
        names, defaults = canonical_names(set(seen.given), request.shape, request.mapping, request.defaults)
        batch = renamed(batch, names, self._found.notes)
        columns = self._columns(names)
        where = JUDGEMENTS.get(request.shape, "")
        judgements = batch.column(where) if where in batch.columns else ()
        if not is_arranged(request.shape, request.layout, columns, judgements):
            numbered = list(zip(batch.numbers.tolist(), batch.rows(), strict=True))
            arranged = arrange(numbered, request.shape, request.layout, columns)
            self._arranging |= dict.fromkeys(arranged.read_as)
            defaults = replace(defaults, scale=defaults.scale or arranged.scale)
            numbers = np.array([number for number, _ in arranged.rows], np.int64)
            batch = RowBatch(numbers, [row for _, row in arranged.rows])
        seen.arranged |= batch.columns
        plan = self._planned(names, defaults)
        if self._plan is not None and plan != self._plan:
            self._stale = True
        self._plan = plan
        self._learn_raters(batch, plan)
        if not self._stale and not plan.hopeless:
            self._check(batch, plan)

    def _planned(self, names: dict[str, str], defaults: Defaults) -> _Plan:
        """The plan by the columns that are known so far."""
        request, arranged = self._request, self._seen.arranged
        rater = rater_column(request.shape, request.layout, arranged)
        plan = _Plan(names, defaults, frozenset(), rater, hopeless=bool(self._lacking(names)))
        problems = [] if plan.hopeless else self._missing(plan)
        return plan._replace(
            absent=frozenset(problem.column for problem in problems if problem.column is not None),
            hopeless=plan.hopeless or any(problem.column is None for problem in problems),
        )

    def _problems_of(self, plan: _Plan) -> list[Problem]:
        """What is wrong with the columns of the file."""
        problems = unused_mappings(self._table.name, set(self._seen.given), self._request.mapping)
        return problems + (self._lacking(plan.names) or list(map(self._with_range, self._missing(plan))))

    def _with_range(self, problem: Problem) -> Problem:
        """The problem of a missing scale, with the range of the ratings."""
        if problem.column != "scale" or self._range is None:
            return problem
        low, high = self._range
        found = f"{problem.found}, and ratings from {low:g} to {high:g}"
        return Problem(problem.file, problem.row, problem.column, found, problem.allowed)

    def _learn_range(self, ratings: pa.Array) -> None:
        """The lowest and the highest of lists of ratings, together with those before."""
        import pyarrow.compute as pc

        ends = pc.min_max(pc.list_flatten(ratings)).as_py()
        if ends["min"] is not None:
            low, high = self._range or (ends["min"], ends["max"])
            self._range = min(low, ends["min"]), max(high, ends["max"])

    def _columns(self, names: Mapping[str, str]) -> set[str]:
        """The file's columns under canonical names."""
        return {names.get(name, name) for name in self._seen.given}

    def _lacking(self, names: Mapping[str, str]) -> list[Problem]:
        """Columns that the caller named."""
        columns = self._columns(names)
        allowed = f"for attribute_columns= and rater_columns=, columns of the file: {sorted(columns)}"
        return [
            Problem(self._table.name, None, None, f"no column {name!r}", allowed)
            for name in self._request.layout.columns
            if name not in columns
        ]

    def _missing(self, plan: _Plan) -> list[Problem]:
        """Canonical columns that the whole file lacks, and those by which rows are selected."""
        request, file = self._request, self._table.name
        columns = set(self._seen.arranged)
        if plan.rater is not None and self._seen.row_per_rater:
            columns.add("rater_ids")
        own = self._seen.given
        problems = missing_columns(file, columns, request.shape, request.mapping, plan.defaults, own)
        allowed = f"for where=, one of {sorted(columns)}"
        return problems + [
            Problem(file, None, column, "no such column", allowed)
            for column in self.selection.where
            if column not in columns
        ]

    def _learn_raters(self, batch: Batch, plan: _Plan) -> None:
        """Whether each row so far holds the judgement of one rater; the first rows decide how it is read."""
        if plan.rater is None:
            return
        if self._all_name_one:
            names, judgements = batch.values(plan.rater), batch.values(JUDGEMENTS[self._request.shape])
            self._all_name_one = name_one(names, judgements)
            self._any_named |= any(name is not None for name in names)
        if self._seen.row_per_rater is None:
            self._seen.row_per_rater = self._all_name_one and self._any_named

    def _check(self, batch: Batch, plan: _Plan) -> None:
        """Sorts the rows of a batch into those that are kept, refused or not selected."""
        import pyarrow as pa

        if plan.rater is not None and self._seen.row_per_rater:
            named = [None if name is None else [name] for name in batch.values(plan.rater)]
            batch = batch.with_column("rater_ids", named)
        if self.selection.where:
            cells = {name: batch.values(name) for name in self.selection.where}
            given = (dict(zip(cells, values, strict=True)) for values in zip(*cells.values(), strict=True))
            chosen = np.flatnonzero([self.selection.takes(row) for row in given])
            self._found.filtered += len(batch.numbers) - len(chosen)
            batch = batch.take(chosen)
        if not len(batch.numbers):
            return
        canonical, odd = checked_columns(
            lambda name: batch.column(name) if name in batch.columns else None,
            batch.numbers,
            shape=self._request.shape,
            file=self._table.name,
            absent=plan.absent,
            defaults=plan.defaults,
        )
        if self._repeated:
            odd |= np.isin(batch.numbers, self._repeated)
        kept = np.flatnonzero(~odd)
        if odd.any():
            places, rows = self._read_rows(batch, np.flatnonzero(odd), plan)
            late = to_arrays(rows, list(canonical), self._table.name)
            order = np.argsort(np.concatenate([kept, places]), kind="stable")
            for name, array in canonical.items():
                both = pa.concat_arrays([array.take(pa.array(kept)), *late[name].chunks])
                canonical[name] = both.take(pa.array(order))
            kept = np.sort(np.concatenate([kept, places]))
        if len(kept):
            if self._request.shape == "ratings" and "scale" in plan.absent:
                self._learn_range(canonical["ratings"])
            batch = batch if len(kept) == len(batch.numbers) else batch.take(kept)
            # Columns that are typed although they may be absent keep their place among the others.
            others = [name for name in batch.columns if name not in canonical or name in OPTIONAL]
            spare = {name: None if name in canonical else batch.kept(name) for name in others}
            self._found.kept.append(Part(batch.numbers, canonical, spare))

    def _read_rows(
        self, batch: Batch, places: NDArray[np.int64], plan: _Plan
    ) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        """Reads single rows: the places of those that are kept, and their canonical rows."""
        file = self._table.name
        reader = RowReader(self._request.shape, file, plan.absent, plan.defaults, self._found.notes)
        found, rows = [], []
        for place, raw in zip(places.tolist(), batch.rows(places), strict=True):
            number = int(batch.numbers[place])
            row, problems = reader.read(number, raw)
            raters = row.get("rater_ids") if self._seen.row_per_rater else None
            rater = spelled(raters[0]) if raters else None
            key = (row["id"], row["subset"], spelled(row.get("attribute") or ""), rater)
            problems = [self._traced(problem, raw, plan) for problem in dict.fromkeys(problems)]
            problems += self._repeats(number, key)
            if problems:
                self._found.refused.append(RefusedRow(file, number, raw, problems))
                self._found.refused_keys.append((number, key))
            else:
                found.append(place)
                rows.append(row)
        return np.array(found, np.int64), rows

    def _traced(self, problem: Problem, raw: Mapping[str, Any], plan: _Plan) -> Problem:
        """The same problem, with the name that the file has for the column where that is another."""
        given, column = self._seen.given, problem.column
        of_file = next((old for old, new in plan.names.items() if new == column), column)
        if column not in given and of_file == column:
            if column == "ratings" and raw.get("attribute") in given:
                of_file = raw["attribute"]
            elif column == "votes" and "winner" in given:
                of_file = "winner"
        if of_file is None or of_file == column or of_file not in given:
            return problem
        found = f"{problem.found} in {of_file!r}"
        return Problem(problem.file, problem.row, column, found, problem.allowed)

    def _repeats(self, number: int, key: Key) -> list[Problem]:
        first = self._request.duplicates.get((self._table.name, number, key))
        if first is None:
            return []
        found = f"{key[0]!r} again (first in {first[0]}, row {first[1]})"
        within = "attribute and subset" if self._request.shape == "ratings" else "subset"
        return [Problem(self._table.name, number, "id", found, f"an id once per {within}")]
