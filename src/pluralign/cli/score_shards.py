"""`pluralign score --engine`: scores in shards, on one machine or many, whose rows are never all in memory.

Beside the file of scores lies a run folder of the same name with `.shards` behind it: `scores/`, Parquet
shards with utilities and the lines of the file, and `rows/`, the input, until all shards are there. The
folder may be removed when the file is complete; with it, the same command ends at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluralign.cli.console import Console
from pluralign.cli.engine_flags import WORKPLACE, RayFlags
from pluralign.cli.engine_runs import ROWS, engine_from, progress_lines, rows_of, worker_device
from pluralign.cli.parsing import UsageError
from pluralign.cli.run_folder import RunFolder, digest
from pluralign.cli.score_flags import ScoreFlags
from pluralign.cli.score_summary import UtilitySummary

if TYPE_CHECKING:
    from pluralign.engines import Engine

__all__ = ["score_shards"]

SCORES = "scores"  # in the run folder

# Flags that do not change the result.
_IGNORED = {*WORKPLACE, "out", "json", "device", "cache", "model", "combine", "reference", "how"}


def score_shards(flags: ScoreFlags, ray: RayFlags, measure: Any) -> None:
    """Scores in shards, and writes the file.

    Args:
        flags: of the command, with an engine.
        ray: the workers.
        measure: the risk measure of the flags.

    Raises:
        UsageError: flags do not go together.
        PluralignError: the input is invalid, a shard cannot be made, or the folder is that of another run.
    """
    _check(flags)
    from pluralign.data.row_files import write_lines
    from pluralign.engines import model_identity

    console = Console(flags.json)
    engine = engine_from(str(flags.engine), ray)
    decisive = {key: value for key, value in asdict(flags).items() if key not in _IGNORED}
    inputs = {"data": digest(flags.data), "model": model_identity(flags.model)}
    target = Path(str(flags.out))
    with RunFolder(f"{flags.out}.shards", "score", decisive, inputs) as folder:
        if not folder.finished:
            rows = _make(flags, ray, folder, engine, inputs, console)
            folder.finish(SCORES, result={"run": str(folder.path), "rows": rows})
        overall = UtilitySummary()
        write_lines(target, _lines(folder.path / SCORES, overall))
        rows = folder.result["rows"]
    console.say(overall.words(str(measure)))
    console.result(overall.result(target, str(measure), rows), str(target))


def _check(flags: ScoreFlags) -> None:
    from pluralign.model.combination_folder import is_combination

    if flags.out is None:
        raise UsageError("--engine works in shards beside a file: pass the file with --out")
    if flags.rows_per_shard < 1:
        raise UsageError(f"--rows_per_shard must be at least 1, received {flags.rows_per_shard}")
    if flags.combine:
        raise UsageError(
            "--engine takes one folder: save the combination with pl.combine(...).save_pretrained(FOLDER), "
            "and pass that folder as --model"
        )
    given = [f"--{name}" for name in ("weights", "steer", "attributes") if getattr(flags, name)]
    if given and is_combination(flags.model):
        raise UsageError(f"{flags.model} is a combination; {' and '.join(given)} are for one model")


def _make(
    flags: ScoreFlags,
    ray: RayFlags,
    folder: RunFolder,
    engine: Engine,
    inputs: dict[str, str],
    console: Console,
) -> int:
    """Makes the shards that are missing; returns the number of rows."""
    from pluralign.data import response_columns
    from pluralign.engines import Job, finish, score_stage

    rows = rows_of(
        flags.data,
        folder.path,
        flags.rows_per_shard,
        console,
        digest=inputs["data"],
        columns=flags.columns,
        split=flags.hub_split,
    )
    decisive = {
        "risk": flags.risk,
        "weights": flags.weights,
        "steer": flags.steer,
        "levels": list(flags.levels),
        "attributes": flags.attributes,
    }
    description = {
        "stage": SCORES,
        "model": inputs["model"],
        "settings": decisive,
        "input": {"source": inputs["data"], "columns": flags.columns, "split": flags.hub_split},
        "rows_per_shard": rows.rows_per_shard,
    }
    stage = score_stage(
        flags.model,
        response_columns(rows.read(0).column_names),
        **decisive,
        device=worker_device(str(flags.engine), flags.device, ray),
        cache=None if flags.cache == "none" else flags.cache,
        identity=inputs["model"],
    )
    finish(
        Job(stage, rows.path, folder.path / SCORES, description), engine, progress_lines(console, "shards")
    )
    shutil.rmtree(folder.path / ROWS)
    return rows.rows


def _lines(folder: Path, overall: UtilitySummary) -> Iterator[list[str]]:
    """The lines of each shard, in order; one shard is in memory at a time."""
    from pluralign.policy.sampling.shards import finished_shards, read_shard

    for file in finished_shards(folder):
        shard = read_shard(file)
        for name in shard.column_names:
            if name.startswith("utility"):
                overall.add(shard.column(name).to_pylist())
        yield shard.column("line").to_pylist()
