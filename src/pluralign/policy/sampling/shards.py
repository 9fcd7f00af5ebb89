"""A folder of Parquet shards with a manifest: the output format of the stages before training.

    manifest.json        description of the content (settings, model, digest of the input), number of shards
    shard-00000.parquet  rows, written under a temporary name and renamed: a shard is complete or absent

In: a description and one table per shard. Out: a folder that can be continued after any interruption, and
that refuses other descriptions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign._version import __version__
from pluralign.errors import ArtifactError, RunError
from pluralign.files import is_temporary, whole_file, write_json

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["ShardFolder", "finished_shards", "read_manifest", "read_shard", "read_shards"]

_MANIFEST = "manifest.json"
_FORMAT = 1


class ShardFolder:
    """One stage's output.

    Args:
        path: the folder.
        description: everything that determines the rows; JSON types.
        num_shards: total number of shards.
        columns: Arrow schema of every shard.

    Nothing is written before the first shard or `begin`, so earlier errors leave no folder.

    Raises:
        RunError: the folder has another description, or has other files.
    """

    def __init__(
        self, path: str | Path, description: Mapping[str, Any], num_shards: int, columns: pa.Schema
    ) -> None:
        self.path = Path(path)
        self.num_shards = num_shards
        self.columns = columns
        self._description = json.loads(json.dumps(description))
        if (self.path / _MANIFEST).exists():
            self._compare(self._description)
        elif self.path.is_file() or (self.path.is_dir() and not all(map(is_temporary, self.path.iterdir()))):
            raise RunError(f"{self.path} exists and has other content than shards; choose another folder")

    def begin(self) -> None:
        """Writes the manifest unless it exists; writing the first shard does this too."""
        if (self.path / _MANIFEST).exists():
            return
        content = {
            "format": _FORMAT,
            "pluralign": __version__,
            "shards": self.num_shards,
            "description": self._description,
        }
        write_json(self.path / _MANIFEST, content)

    def _compare(self, ours: Mapping[str, Any]) -> None:
        stored = read_manifest(self.path)
        found = stored["description"]
        if found == ours and stored["shards"] == self.num_shards:
            return
        changes = list(_changes(found, ours)) or [f"{stored['shards']} shards before, {self.num_shards} now"]
        raise RunError(
            f"{self.path} has shards made with other settings ({'; '.join(changes)}), which cannot be mixed: "
            "choose another folder, or remove this one"
        )

    def missing(self) -> list[int]:
        """Numbers of the shards that are still to be written; a damaged one is written again."""
        return [number for number in range(self.num_shards) if not self.is_whole(number)]

    def write(self, number: int, columns: Mapping[str, Sequence[Any]]) -> None:
        """Stores one shard, completely or not at all.

        Raises:
            ArtifactError: it cannot be written, for example because the disk is full.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(dict(columns), schema=self.columns)
        self.begin()
        with whole_file(_shard_file(self.path, number)) as work:
            pq.write_table(table, work, write_page_checksum=True)

    def is_whole(self, number: int) -> bool:
        """Whether a shard is there, with these columns."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return bool(pq.read_schema(_shard_file(self.path, number)).equals(self.columns))
        except (OSError, pa.ArrowException):
            return False


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a shard folder.

    Raises:
        ArtifactError: there is none, or it is damaged or of another format.
    """
    file = Path(path) / _MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        known = content["format"] == _FORMAT and {"shards", "description"} <= content.keys()
    except OSError as error:
        raise ArtifactError(f"{path} is not a folder of shards: {file} cannot be read ({error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{file} is damaged: {error}") from error
    if not known:
        raise ArtifactError(
            f"{file} has format {content['format']}; this version of pluralign reads {_FORMAT}"
        )
    return dict(content)


def finished_shards(path: str | Path) -> list[Path]:
    """The files of a finished folder, in order.

    Raises:
        ArtifactError: it is not a folder of shards, or shards are missing.
    """
    count = read_manifest(path)["shards"]
    files = [_shard_file(Path(path), number) for number in range(count)]
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise ArtifactError(
            f"{path} is not finished: {len(absent)} of {count} shards are missing, the first is {absent[0]}. "
            "Repeat the command to continue it"
        )
    return files


def read_shards(path: str | Path) -> datasets.Dataset:
    """All rows of a finished folder, in order.

    Raises:
        ArtifactError: it is not a folder of shards, or shards are missing or damaged.
    """
    import datasets
    import pyarrow as pa

    return datasets.Dataset(pa.concat_tables([read_shard(file) for file in finished_shards(path)]))


def read_shard(file: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of one shard, their checksums verified.

    Args:
        file: one of `finished_shards`.
        columns: names; None for all.

    Raises:
        ArtifactError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(file, columns=columns, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(
            f"{file} is damaged ({error}). Remove it and repeat the command to write it again"
        ) from error


def _shard_file(path: Path, number: int) -> Path:
    return path / f"shard-{number:05d}.parquet"


def _changes(found: Any, ours: Any, place: str = "") -> list[str]:
    """Every leaf that differs, as `settings.seed: 0 before, 1 now`."""
    if isinstance(found, dict) and isinstance(ours, dict):
        keys = sorted({*found, *ours})
        return [c for k in keys for c in _changes(found.get(k), ours.get(k), f"{place}.{k}".lstrip("."))]
    return [] if found == ours else [f"{place}: {found!r} before, {ours!r} now"]
