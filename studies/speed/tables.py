"""Time and memory of tables with up to a million rows: loading, checking, fitting, evaluating, scoring.

In: a stage and a number of rows. Out: processor seconds and the most memory that was held, of ours and of
what reads the same file elsewhere.

The data is made up: ratings by three raters of 0 to 4, twenty responses to a prompt, some 286 bytes of JSON a
row; vectors of width 384 are drawn rather than embedded, and the ratings follow them. Every stage runs in a
process of its own with one thread. `before_mib` is what that process holds when the stage begins (vectors
included), `peak_mib` the most it held until the end.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studies.records import WORK
from studies.speed.solver import memory_mib

SEED = 0
WIDTH = 384
GROUP = 20
RATERS = 3
_BLOCK = 10_000  # rows whose vectors and ratings one stream of random numbers gives
_WORDS = ("water", "seven", "light", "under", "paper", "green", "after", "table", "quiet", "north")


def vectors(rows: int) -> np.ndarray:
    """[rows, WIDTH] float32; of each row the same, however many there are."""
    blocks = [
        np.random.default_rng([SEED, number]).standard_normal((_BLOCK, WIDTH), np.float32)
        for number in range(-(-rows // _BLOCK))
    ]
    return np.concatenate(blocks)[:rows]


def ratings(rows: int) -> np.ndarray:
    """[rows, RATERS], whole numbers 0 to 4: three raters' thresholds of one linear score."""
    direction = np.random.default_rng(SEED + 1).standard_normal(WIDTH) / WIDTH**0.5
    score = vectors(rows) @ direction
    noise = np.random.default_rng(SEED + 2).standard_normal((rows, RATERS))
    return np.clip(np.round(2 + score[:, None] + noise), 0, 4).astype(np.int64)


def records(rows: int) -> Iterator[dict[str, Any]]:
    """One dict per row, as a file of ratings has them."""
    given = ratings(rows).tolist()
    for row in range(rows):
        group, said = row // GROUP, " ".join(_WORDS[(row * 7 + 3 * k) % 10] for k in range(14))
        yield {
            "id": f"row-{row}",
            "prompt": [{"role": "user", "content": f"What is to be said of subject {group}?"}],
            "response": f"{row} {said}",
            "attribute": "quality",
            "ratings": given[row],
            "scale": [0, 4],
            "group": f"group-{group}",
        }


def file_of(rows: int, kind: str) -> Path:
    """The synthetic ratings as a file, written on first use."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = WORK / "tables" / f"ratings-{rows}.{kind}"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    if kind == "jsonl":
        with part.open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in records(rows))
    else:
        pq.write_table(pa.Table.from_pylist(list(records(rows))), part)
    os.replace(part, path)
    return path


class DrawnBackbone:
    """Stands for an embedding model: the vector of a response is that of the number it begins with."""

    fingerprint = None
    response_size = prompt_size = WIDTH

    def __init__(self, rows: int) -> None:
        self._vectors = torch.from_numpy(vectors(rows))

    def describe(self) -> dict[str, Any]:
        """What a model folder keeps."""
        return {"name_or_path": "drawn", "fingerprint": None}

    def embed(self, conversations: Any, *, cache: Any = None, progress: Any = None) -> Any:
        """A row per conversation; prompts are all alike."""
        from pluralign.backbones.embeddings import no_embeddings

        number = [int(one[-1]["content"].partition(" ")[0]) for one in conversations]
        found = no_embeddings(len(number), WIDTH, WIDTH)
        found.response[:] = self._vectors[torch.tensor(number)]
        return found


def _load(rows: int, kind: str) -> Callable[[], Any]:
    from pluralign.data import load_ratings

    return partial(load_ratings, file_of(rows, kind))


def _check(rows: int, kind: str) -> Callable[[], Any]:
    from pluralign.cli.check import run as check

    def work() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            check([str(file_of(rows, kind)), "--json"])

    return work


def _fit(rows: int, family: str) -> Callable[[], Any]:
    import pluralign as pl
    from pluralign.fitting import BradleyTerryConfig, QuantileConfig

    table, backbone = pl.load_ratings(file_of(rows, "parquet")), DrawnBackbone(rows)
    config = BradleyTerryConfig() if family == "bradley_terry" else QuantileConfig(baselines=False)
    return partial(pl.fit, family, ratings=table, backbone=backbone, config=config, cache=None)


def _model(rows: int) -> tuple[Any, Any]:
    """A model with its baselines, fitted on some of the rows, and the table."""
    import pluralign as pl
    from pluralign.fitting import QuantileConfig

    table = pl.load_ratings(file_of(10_000, "parquet"))
    config = QuantileConfig(l1=0.01)
    model = pl.fit("quantile", ratings=table, backbone=DrawnBackbone(rows), config=config, cache=None)
    return model, pl.load_ratings(file_of(rows, "parquet"))


def _evaluate(rows: int) -> Callable[[], Any]:
    from pluralign.evaluation import evaluate

    model, table = _model(rows)

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            evaluate(model, ratings=table, out=folder)

    return work


def _score(rows: int) -> Callable[[], Any]:
    from pluralign.cli import score

    model, _ = _model(rows)
    score.load_scorer = lambda *_, **__: model  # type: ignore[assignment]

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            out = Path(folder, "scores.jsonl")
            with contextlib.redirect_stdout(io.StringIO()):
                score.run(["--model=drawn", f"--data={file_of(rows, 'parquet')}", f"--out={out}", "--json"])

    return work


def _split(rows: int) -> Callable[[], Any]:
    import pluralign as pl

    return partial(pl.split, pl.load_ratings(file_of(rows, "parquet")))


def _pyarrow_json(rows: int) -> Callable[[], Any]:
    import pyarrow.json as reader

    return lambda: reader.read_json(file_of(rows, "jsonl"), reader.ReadOptions(use_threads=False))


def _pyarrow_parquet(rows: int) -> Callable[[], Any]:
    import pyarrow.parquet as pq

    return lambda: pq.read_table(file_of(rows, "parquet"), use_threads=False)


def _pandas_json(rows: int) -> Callable[[], Any]:
    import pandas as pd

    return lambda: pd.read_json(file_of(rows, "jsonl"), lines=True)


STAGES: dict[str, Callable[[int], Callable[[], Any]]] = {
    "load JSON Lines": partial(_load, kind="jsonl"),
    "load Parquet": partial(_load, kind="parquet"),
    "check JSON Lines": partial(_check, kind="jsonl"),
    "check Parquet": partial(_check, kind="parquet"),
    "split": _split,
    "fit bradley_terry": partial(_fit, family="bradley_terry"),
    "fit quantile alone": partial(_fit, family="quantile"),
    "evaluate": _evaluate,
    "score Parquet": _score,
    "pyarrow reads JSON Lines": _pyarrow_json,
    "pyarrow reads Parquet": _pyarrow_parquet,
    "pandas reads JSON Lines": _pandas_json,
}
SIZES = (10_000, 100_000, 1_000_000)


def _measure(stage: str, rows: int, queue: Any) -> None:
    try:
        import datasets  # noqa: F401 - imported before the clock runs
        import pyarrow as pa

        torch.set_num_threads(1)
        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        work = STAGES[stage](rows)
        gc.collect()
        pa.default_memory_pool().release_unused()
        Path("/proc/self/clear_refs").write_text("5")
        before, wall, cpu = memory_mib("VmRSS"), time.perf_counter(), time.process_time()
        work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        peak = memory_mib("VmHWM")
        queue.put({"cpu_s": cpu, "wall_s": wall, "before_mib": before, "peak_mib": peak})
    except BaseException:
        queue.put(traceback.format_exc())
        sys.exit(1)


def run(stage: str, rows: int, seed: int) -> dict[str, Any]:
    """One stage at one size, in a process of its own."""
    assert seed == SEED
    for kind in ("jsonl", "parquet"):
        file_of(rows, kind)
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    process = context.Process(target=_measure, args=(stage, rows, queue))
    process.start()
    found = queue.get()
    process.join()
    if isinstance(found, str):
        raise RuntimeError(f"{stage}, {rows:,} rows:\n{found}")
    return found


RUNS = [{"stage": stage, "rows": rows} for rows in SIZES for stage in STAGES]
