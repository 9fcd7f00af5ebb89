"""Where rows come from: a file, a folder, the hub, a loaded data set or a list, as named tables of raw rows.

In: the caller's `source`. Out: one `Table` per file, read lazily.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pluralign.data.batches import BATCH_ROWS, Batch, arrow_batches
from pluralign.data.formats import (
    SUFFIXES_TEXT,
    BadRow,
    NumberedRow,
    file_format,
    read_batches,
    read_file,
)
from pluralign.data.plain_values import plain
from pluralign.data.problems import Problem, preview
from pluralign.data.table_columns import arrow_column
from pluralign.errors import ArgumentError, DataError

__all__ = ["Table", "find_tables", "source_name"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Table:
    """One file, or the equivalent of one.

    Attributes:
        name: its name in messages.
        rows: yields the numbered raw rows; raises `DataError` if the file as a whole is damaged.
        cells_are_text: the format has no types (CSV): cells are text that still has to be read.
        batches: yields the same rows in batches, where the format has a faster way to them, and calls its
            argument with rows that are not a record; None elsewhere.
        read_as: how the file was read, once it has been, where it could have been read in another way.
    """

    name: str
    rows: Callable[[], Iterator[NumberedRow]]
    cells_are_text: bool = False
    batches: Callable[[Callable[[int, BadRow], None]], Iterator[Batch]] | None = None
    read_as: list[str] = field(default_factory=list)


def source_name(source: Any) -> str:
    """The name of the source in the first line of a message."""
    return (
        os.fspath(source) if isinstance(source, str | os.PathLike) else f"rows of a {type(source).__name__}"
    )


def find_tables(source: Any, split: str | None = None, config: str | None = None) -> list[Table]:
    """The tables of a source.

    Args:
        source: a path to a .jsonl, .json, .csv or .parquet file (.gz or not) or to a folder of them, a
            `datasets.Dataset`, rows in memory, or a hub id "owner/name".
        split: split of a hub data set or `DatasetDict`.
        config: configuration of a hub data set.

    Returns:
        At least one table; a folder's files are sorted by name.

    Raises:
        ArgumentError: `source` is none of these, or `split` / `config` do not apply to it.
        DataError: the source does not exist or is empty.
    """
    import datasets

    if isinstance(source, str) and not source.strip():
        raise ArgumentError("source: received an empty text; allowed: a path, or a hub id 'owner/name'")
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    if isinstance(source, datasets.DatasetDict):
        return [_dataset_table("rows", _one_split(source, split, "the DatasetDict"))]
    if path is not None and not path.exists():
        return [_dataset_table(str(source), _from_hub(str(source), split, config))]
    if split is not None or config is not None:
        raise ArgumentError(
            f"split={split!r}, config={config!r} apply only to a hub data set; "
            "to filter rows use where={'split': ...}"
        )
    if path is not None:
        return _from_folder(path) if path.is_dir() else [_file_table(path)]
    if isinstance(source, datasets.Dataset):
        return [_dataset_table("rows", source)]
    if not isinstance(source, Sequence):
        raise ArgumentError(
            f"source: received {type(source).__name__}; allowed: a path, a hub id, a Dataset, a list of dicts"
        )
    return [Table("rows", lambda: _from_rows(source))]


def _file_table(path: Path) -> Table:
    read_as: list[str] = []

    def note(how: str) -> None:
        if how not in read_as:
            read_as.append(how)

    kind = file_format(path)
    return Table(
        path.name,
        lambda: read_file(path, path.name, note),
        cells_are_text=kind == "csv",
        batches=None if kind == "csv" else lambda bad: read_batches(path, path.name, note, bad),
        read_as=read_as,
    )


def _from_folder(folder: Path) -> list[Table]:
    visible = [path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "_"))]
    tables = [_file_table(path) for path in visible if path.is_file() and file_format(path)]
    if not tables:
        raise DataError(f"{folder}: no data files directly in this folder; allowed: {SUFFIXES_TEXT}")
    return tables


def _from_rows(rows: Sequence[Any]) -> Iterator[NumberedRow]:
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Mapping):
            yield number, {str(column): plain(value) for column, value in row.items()}
        else:
            found = f"{type(row).__name__} {preview(row)}"
            yield number, BadRow(Problem("rows", number, None, found, "a dict per row"), preview(row))
    if not rows:
        raise DataError("rows: no rows", [Problem("rows", None, None, "no rows", "at least one row")])


def _dataset_table(name: str, dataset: Any) -> Table:
    def rows() -> Iterator[NumberedRow]:
        number = 0
        for batch in dataset.with_format(None).iter(batch_size=BATCH_ROWS):
            columns = list(batch)
            for values in zip(
                *(plain(values) if decimal else values for values in batch.values()), strict=True
            ):
                number += 1
                yield number, dict(zip(columns, values, strict=True))
        refuse_empty(number)

    def batches(bad: Callable[[int, BadRow], None]) -> Iterator[Batch]:
        columns = {column: arrow_column(dataset, column) for column in dataset.column_names}
        refuse_empty(len(dataset))
        yield from arrow_batches(columns, len(dataset))

    def refuse_empty(count: int) -> None:
        if count == 0:
            raise DataError(f"{name}: no rows", [Problem(name, None, None, "no rows", "at least one row")])

    decimal = "decimal" in str(dataset.features)
    # Pictures and sounds are decoded as they are read; they are not needed here, but must not get lost.
    as_arrow = not decimal and all(_is_plain(feature) for feature in dataset.features.values())
    return Table(name, rows, batches=batches if as_arrow else None)


def _is_plain(feature: Any) -> bool:
    """Whether a column of a data set is what Arrow has, without anything to be decoded."""
    import datasets

    if isinstance(feature, datasets.Value):
        return True
    if isinstance(feature, dict):
        return all(map(_is_plain, feature.values()))
    if isinstance(feature, list):
        return all(map(_is_plain, feature))
    inner = getattr(feature, "feature", None)
    return inner is not None and _is_plain(inner)


def _one_split(splits: Mapping[str, Any], split: str | None, name: str) -> Any:
    if split is None and len(splits) == 1:
        return next(iter(splits.values()))
    if split is None or split not in splits:
        raise ArgumentError(f"split: received {split!r}; allowed for {name}: one of {sorted(splits)}")
    return splits[split]


def _from_hub(name: str, split: str | None, config: str | None) -> Any:
    is_file = file_format(Path(name)) is not None or name.endswith(".gz")
    if is_file or not _HUB_ID.fullmatch(name):
        raise DataError(
            f"{name}: no such file or folder; allowed: a path that exists, or a hub id 'owner/name'"
        )
    import datasets

    try:
        loaded = datasets.load_dataset(name, config, split=split)
    # The hub client raises a dozen unrelated types: network, offline mode, unknown set, configuration, split.
    except Exception as error:
        raise DataError(
            f"{name}: not a local file or folder, and not a hub data set that could be loaded "
            f"(split={split!r}, config={config!r}): {type(error).__name__}: {error}. "
            "Check the name and the network (HF_HUB_OFFLINE), or download the files and give their path."
        ) from error
    return _one_split(loaded, split, name) if isinstance(loaded, datasets.DatasetDict) else loaded
