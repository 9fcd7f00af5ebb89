"""`stream_responses`: the responses of a source batch by batch, so that memory does not grow with its rows.

In: a source as `load_responses` takes it. Out: Arrow tables with `id`, `prompt` and the responses of each
row, checked like those of `load_responses`, in the order of the files.

What needs all rows at once is left out: that no id occurs twice, and that the rows of several raters of one
text become one. Files of ratings are read as plain responses, a row each. CSV files are small enough to be
read whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pluralign.data.arrow import canonical_types
from pluralign.data.batches import Batch, in_batches
from pluralign.data.columns import check_mapping
from pluralign.data.layouts import Layout
from pluralign.data.loading import response_shape
from pluralign.data.problems import raise_problems
from pluralign.data.quarantine import RefusedRow
from pluralign.data.records import SIDES, Defaults, Shape
from pluralign.data.selecting import Selection
from pluralign.data.sources import Table, find_tables, source_name
from pluralign.data.table_reading import Request, read_file_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from pluralign.data.problems import BadRow

__all__ = ["response_columns", "stream_responses"]

_SIDES = tuple(dict.fromkeys(side for sides in SIDES.values() for side in sides))


def response_columns(names: Iterable[str]) -> list[str]:
    """The columns that hold responses, in their usual order."""
    found = set(names)
    return [side for side in _SIDES if side in found]


def stream_responses(
    source: Any, *, split: str | None = None, columns: Mapping[str, str | None] | None = None
) -> Iterator[pa.Table]:
    """The rows of a source a few thousand at a time.

    Args:
        source: as in `load_responses`, like the other arguments.
        split: split of a hub data set.
        columns: canonical name -> the file's name.

    Yields:
        Tables with the columns id, prompt (messages) and the responses: `response`, or two sides.

    Raises:
        DataError: rows are invalid; all problems of the first batch that has any are in `.problems`.
        ArgumentError: an argument is invalid.
    """
    shape = response_shape(source, split=split, columns=columns)
    shape = "responses" if shape == "ratings" else shape
    mapping = dict(columns or {})
    check_mapping(mapping, shape)
    request = Request(shape, mapping, Defaults(None, None), Layout((), ()))
    for table in find_tables(source, split):
        for part in _parts(table):
            yield from _checked(part, request, shape, source_name(source))


def _parts(table: Table) -> Iterator[Table]:
    """Tables of a batch each, whose rows keep their numbers; a CSV file is one, since all its cells decide
    the types of columns."""
    if table.cells_are_text:
        yield table
        return
    refused: list[tuple[int, BadRow]] = []

    def refuse(number: int, row: BadRow) -> None:
        refused.append((number, row))

    batches: Iterator[Batch] = (
        in_batches(table.rows(), refuse) if table.batches is None else table.batches(refuse)
    )
    for batch in batches:
        yield _one_batch(table, batch, refused.copy())
        refused.clear()
    if refused:
        yield _one_batch(table, None, refused.copy())


def _one_batch(table: Table, batch: Batch | None, refused: list[tuple[int, BadRow]]) -> Table:
    def batches(bad: Any) -> Iterator[Batch]:
        for number, row in refused:
            bad(number, row)
        if batch is not None:
            yield batch

    return Table(table.name, table.rows, batches=batches)


def _checked(table: Table, request: Request, shape: Shape, source: str) -> Iterator[pa.Table]:
    import pyarrow as pa

    found, _ = read_file_rows(table, request, Selection({}))
    bad: list[RefusedRow] = found.refused
    problems = found.problems + list(dict.fromkeys(problem for row in bad for problem in row.problems))
    if problems:
        raise_problems(source, problems, "Rows behind these were not read yet.")
    kinds = canonical_types()
    names = ("id", "prompt", *SIDES[shape])
    schema = pa.schema([(name, kinds[name]) for name in names])
    for part in found.kept:
        yield pa.table({name: part.canonical[name] for name in names}, schema=schema)
