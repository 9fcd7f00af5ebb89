"""The rows of a job on disk, cut into shards: what workers read, each its own part.

In: Arrow tables of any size, one after the other. Out: a folder with a file for every shard, and a manifest
that is written last:

    rows-00000.parquet   the first rows, in the order of the source
    rows.json            number of rows and shards, and of which source they are

One shard is in memory at a time. Rows are checked while they are written, so no worker meets a bad one, and
workers need to see this folder only, not the source.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.errors import ArgumentError, ArtifactError, DataError
from pluralign.files import whole_file, write_json

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["StoredRows", "read_stored_rows", "store_rows"]

_MANIFEST = "rows.json"
_FORMAT = 1


@dataclass(frozen=True)
class StoredRows:
    """A folder of rows.

    Attributes:
        path: the folder.
        rows: number of rows.
        num_shards: number of shards.
        rows_per_shard: rows of each but the last.
    """

    path: Path
    rows: int
    num_shards: int
    rows_per_shard: int

    def read(self, number: int) -> pa.Table:
        """The rows of one shard.

        Raises:
            ArtifactError: they are not there, or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = _file(self.path, number)
        try:
            return pq.read_table(file, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(
                f"{file} cannot be read ({error}). If it is damaged, remove {self.path} and repeat the "
                "command"
            ) from error


def store_rows(
    tables: Iterable[pa.Table], path: str | Path, rows_per_shard: int, source: Mapping[str, Any]
) -> StoredRows:
    """Writes rows as shards, or finds that the same rows are there already.

    Args:
        tables: of equal columns; read only if rows have to be written.
        path: the folder.
        rows_per_shard: at least 1.
        source: what determines the rows (digest of a file, columns); JSON types.

    Raises:
        ArgumentError: `rows_per_shard` is too small.
        DataError: there are no rows, or the source is invalid.
        ArtifactError: the folder cannot be written.
    """
    if rows_per_shard < 1:
        raise ArgumentError(f"rows_per_shard must be at least 1, received {rows_per_shard}")
    import pyarrow.parquet as pq

    folder = Path(path)
    description = {"source": json.loads(json.dumps(dict(source))), "rows_per_shard": rows_per_shard}
    stored = _manifest(folder)
    if stored is not None and {key: stored[key] for key in description} == description:
        return read_stored_rows(folder)
    rows = shards = 0
    for table in _cut(tables, rows_per_shard):
        with whole_file(_file(folder, shards)) as work:
            pq.write_table(table, work, write_page_checksum=True)
        shards += 1
        rows += len(table)
    if not rows:
        raise DataError("the source has no rows; at least one is needed")
    write_json(folder / _MANIFEST, {"format": _FORMAT, "rows": rows, "shards": shards, **description})
    return read_stored_rows(folder)


def read_stored_rows(path: str | Path) -> StoredRows:
    """The rows of a folder that `store_rows` finished.

    Raises:
        ArtifactError: it is none.
    """
    stored = _manifest(Path(path))
    if stored is None:
        raise ArtifactError(f"{path} has no finished rows: {_MANIFEST} is missing or damaged")
    return StoredRows(Path(path), stored["rows"], stored["shards"], stored["rows_per_shard"])


def _cut(tables: Iterable[pa.Table], rows_per_shard: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows_per_shard`, the last of which may have fewer."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        start = 0
        while count + len(table) - start >= rows_per_shard:
            take = rows_per_shard - count
            yield pa.concat_tables([*waiting, table.slice(start, take)]).combine_chunks()
            start += take
            waiting, count = [], 0
        if start < len(table):
            waiting.append(table.slice(start))
            count += len(table) - start
    if count:
        yield pa.concat_tables(waiting).combine_chunks()


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest; None where there is none of this format."""
    try:
        stored = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        known = (
            stored["format"] == _FORMAT and {"source", "rows", "shards", "rows_per_shard"} <= stored.keys()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(stored) if known else None


def _file(folder: Path, number: int) -> Path:
    return folder / f"rows-{number:05d}.parquet"
