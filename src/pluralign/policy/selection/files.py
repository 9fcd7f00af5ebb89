"""Writes selected rows as Parquet or JSON Lines, shard by shard; the file appears when it is complete."""

from __future__ import annotations

from pathlib import Path

from pluralign.data.row_files import check_ending, write_rows
from pluralign.policy.selection.tables import Selection, SelectionCounts

__all__ = ["write_selection"]


def write_selection(selection: Selection, path: str | Path) -> SelectionCounts:
    """Writes the rows of a selection.

    Args:
        selection: what is selected.
        path: a file that ends in .parquet or .jsonl; replaced if it exists.

    Returns:
        What was read and written; a file without rows is written too.

    Raises:
        ArgumentError: another ending.
        ArtifactError: the file cannot be written, or samples are damaged.
    """
    check_ending(path, (".parquet", ".jsonl"))
    write_rows(path, selection.rows(), selection.schema())
    return selection.counts
