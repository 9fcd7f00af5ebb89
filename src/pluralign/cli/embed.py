"""`pluralign embed`: vectors of prompts and responses, in shards on disk and in the embedding cache.

The run folder holds `embeddings/`, a folder of Parquet shards with one row per row of the source, in its
order: `id`, the vectors `prompt` and `response` (or `chosen` and `rejected` ...), and the number of tokens
read.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pluralign.cli.console import Console
from pluralign.cli.engine_flags import WORKPLACE, RayFlags
from pluralign.cli.engine_runs import (
    ROWS,
    check_workers,
    engine_from,
    progress_lines,
    rows_of,
    worker_device,
)
from pluralign.cli.flags import BackboneFlags
from pluralign.cli.objects import quiet_datasets
from pluralign.cli.parsing import UsageError, parse
from pluralign.cli.run_folder import RunFolder, digest, made_once

__all__ = ["run"]

EMBEDDINGS = "embeddings"  # in the run folder

# Flags that do not change the result.
_IGNORED = {*WORKPLACE, "out", "json", "device", "cache", "attn_implementation"}


@dataclass(frozen=True)
class EmbedFlags:
    """Embed prompts and responses, in shards that can be interrupted and continued.

    Attributes:
        data: File, folder or hub id with {prompt, response} rows, ratings, pairs or comparisons.
        engine: local works in this process; ray on the workers of a Ray cluster.
        rows_per_shard: Rows per file; an interruption loses at most one file per worker.
        columns: Mapping from our column names to the file's, e.g. --columns.response answer.
        hub_split: Split of a hub data set.
        out: Run folder; null for one under runs/. With several machines, on storage that all of them see.
        json: Print the result as JSON.
    """

    data: str
    engine: Literal["local", "ray"] = "local"
    rows_per_shard: int = 8192
    columns: dict[str, str] | None = None
    hub_split: str | None = None
    out: str | None = None
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Parses the arguments, embeds and writes."""
    kinds = (EmbedFlags, BackboneFlags, RayFlags)
    flags, backbone, ray = parse("embed", EmbedFlags.__doc__ or "", arguments, *kinds)
    check_workers(flags.engine, ray)
    if flags.rows_per_shard < 1:
        raise UsageError(f"--rows_per_shard must be at least 1, received {flags.rows_per_shard}")
    from pluralign.engines import backbone_identity

    quiet_datasets()
    console = Console(flags.json)
    engine = engine_from(flags.engine, ray)
    identity = backbone_identity(backbone.backbone, backbone.revision)
    decisive = {k: v for k, v in (asdict(flags) | asdict(backbone)).items() if k not in _IGNORED}
    inputs = {"data": digest(flags.data), "backbone": str(identity["fingerprint"])}

    def make(folder: RunFolder) -> dict[str, Any]:
        return _make(flags, backbone, ray, folder, engine, inputs["data"], identity, console)

    result = made_once("embed", flags.out, decisive, inputs, console, make)
    console.result(result, str(result["embeddings"]))


def _make(
    flags: EmbedFlags,
    backbone: BackboneFlags,
    ray: RayFlags,
    folder: RunFolder,
    engine: Any,
    source: str,
    identity: dict[str, str | None],
    console: Console,
) -> dict[str, Any]:
    from pluralign.data import response_columns
    from pluralign.engines import Job, embed_stage, finish

    rows = rows_of(
        flags.data,
        folder.path,
        flags.rows_per_shard,
        console,
        digest=source,
        columns=flags.columns,
        split=flags.hub_split,
    )
    options = asdict(backbone)
    name, cache = options.pop("backbone"), options.pop("cache")
    options |= {
        "device": worker_device(flags.engine, backbone.device, ray),
        "fingerprint": identity["fingerprint"],
    }
    kept = {"none": None, None: "default"}.get(cache, cache)
    sides = response_columns(rows.read(0).column_names)
    description = {
        "stage": EMBEDDINGS,
        "backbone": identity,
        "settings": {
            k: v for k, v in asdict(backbone).items() if k not in (*_IGNORED, "backbone", "revision")
        },
        "input": {"source": source, "columns": flags.columns, "split": flags.hub_split},
        "rows_per_shard": rows.rows_per_shard,
    }
    stage = embed_stage(name, sides, cache=kept, **options)
    job = Job(stage, rows.path, folder.path / EMBEDDINGS, description)
    shards = finish(job, engine, progress_lines(console, "shards"))
    result = {"run": str(folder.path), "embeddings": str(shards.path), "rows": rows.rows}
    shutil.rmtree(folder.path / ROWS)
    folder.finish(EMBEDDINGS, result=result)
    return result
