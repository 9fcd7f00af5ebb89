"""Reads training tables for `pluralign align`: any file -> a `datasets.Dataset`.

Rows are validated in `policy.rewards.columns`, not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralign.errors import DataError

__all__ = ["check_shape", "read_table", "table_path"]

_TABLE = "train.parquet"  # in a run folder of `sample`


def table_path(source: str) -> str:
    """The table itself, or the one inside a run folder of `sample`."""
    inner = Path(source) / _TABLE
    return str(inner) if inner.is_file() else source


def read_table(source: str, split: str | None) -> Any:
    """Reads a training table; `check_training_table` validates its rows.

    Args:
        source: a file, a run folder of `sample`, or a hub id.
        split: split of a hub data set.
    Raises:
        DataError: the table cannot be read, or a column has values of several types.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pluralign.data.columns import typed_rows
    from pluralign.data.formats import BadRow
    from pluralign.data.problems import raise_problems
    from pluralign.data.sources import find_tables

    path = table_path(source)
    if path.endswith(".parquet") and Path(path).is_file():
        try:
            return datasets.Dataset(pq.read_table(path))
        except pa.ArrowException as error:
            raise DataError(f"{path}: damaged Parquet file, or not Parquet ({error})") from error
    rows, problems = [], []
    for table in find_tables(path, split):
        for _, row in typed_rows(table):
            if isinstance(row, BadRow):
                problems.append(row.problem)
            else:
                rows.append(row)
    if problems:
        raise_problems(source, problems)
    # Rows may lack columns that others have.
    names = list(dict.fromkeys(name for row in rows for name in row))
    rows = [{name: row.get(name) for name in names} for row in rows]
    try:
        return datasets.Dataset.from_list(rows)
    except (pa.ArrowException, UnicodeEncodeError):
        raise DataError(f"{source}: {_odd_column(rows)}") from None


def check_shape(table: Any, flag: str, source: str, method: str) -> None:
    """Says how to make pairs of completions where the method learns from pairs only.

    Raises:
        DataError: the table has one completion per row, and the method needs two.
    """
    from pluralign.policy.offline.objectives import find_objective

    columns = set(table.column_names)
    if "completion" not in columns or "chosen" in columns or "unpaired" in find_objective(method).shapes:
        return
    advice = "pluralign sample --table pairs makes such a table"
    if table_path(source) != source:
        again = (
            "--samples" if (Path(source) / "samples").is_dir() else "the --samples or --shards of that run"
        )
        name = f" {source}" if again == "--samples" else ""
        advice = (
            f"make it from the same completions: pluralign sample {again}{name} --table pairs --out "
            f"{source}-pairs, with the reward of {source}, and pass that folder"
        )
    raise DataError(
        f"{flag} {source}: one completion per row, and {method} learns from pairs {{prompt, chosen, "
        f"rejected}}; {advice}"
    )


def _odd_column(rows: Sequence[Mapping[str, Any]]) -> str:
    """Why the rows do not form a table: the first column with values of several types."""
    for name in rows[0]:
        first: str | None = None
        for number, row in enumerate(rows, start=1):
            value = row.get(name)
            if isinstance(value, str) and value.encode("utf-8", "ignore").decode() != value:
                return f"row {number}, column {name!r}: an unpaired surrogate; allowed: valid Unicode"
            kind = None if value is None else type(value).__name__.replace("int", "float")
            first = first or kind
            if kind not in (None, first):
                return f"column {name!r} holds {first} and, in row {number}, {kind}; allowed: one type"
    return "the rows do not form a table; each column needs a single type"
