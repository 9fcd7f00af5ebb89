"""log ref(y|x) of every training response: computed once by the initial model, then read from a file.

In: prepared rows and a function that scores a batch. Out: float32 [rows, sides], and a safetensors file with
the fingerprints of its inputs: weights, tokenizer, token ids. A file from other inputs is an error, never
silently used and never silently replaced.

During the computation, finished batches are written to a journal next to the file, so an interruption loses
one batch. Under `accelerate launch` each process does its share, and all make the same number of calls, as
sharded models require.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.backbones.progress import Progress
from pluralign.digests import json_digest
from pluralign.errors import ArtifactError, FingerprintError
from pluralign.files import append_line, write_file
from pluralign.policy.training.digest import model_digest

__all__ = ["Fingerprints", "compute", "load", "model_digest", "save"]

Fingerprints = Mapping[str, str]  # "model", "tokenizer", "data" -> SHA-256

_WHAT = {
    "tokenizer": "another tokenizer",
    "model": "another reference model",
    "data": "other data, or the same cut differently",
}


def load(path: Path, expected: Fingerprints, rows: int, sides: int) -> Float[Tensor, "N S"] | None:
    """Stored log-probabilities, or None if there is no file.

    Raises:
        FingerprintError: they belong to another model, tokenizer or data set.
        ArtifactError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(str(path), "pt") as file:
            stored, values = file.metadata() or {}, file.get_tensor("log_probs")
    except (SafetensorError, OSError, KeyError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); remove it to compute it again") from None
    for key, what in _WHAT.items():
        if stored.get(key) != expected[key]:
            raise FingerprintError(
                f"{path} has log-probabilities of {what}: its {key} is {stored.get(key, 'unnamed'):.12}, "
                f"this run's is {expected[key]:.12}. Remove the file to compute them again, set another one "
                "with reference_path, or use the model, tokenizer and data that it was made from (resume a "
                "run with the model that it began with)"
            )
    if values.shape != (rows, sides) or not bool(values.isfinite().all()):
        raise ArtifactError(
            f"{path}: received {list(values.shape)}, needed finite [{rows}, {sides}]; remove it"
        )
    result: Tensor = values
    return result


def save(path: Path, log_probs: Float[Tensor, "N S"], fingerprints: Fingerprints) -> None:
    """Writes the file completely or not at all."""
    from safetensors.torch import save

    write_file(path, save({"log_probs": log_probs.float().contiguous()}, metadata=dict(fingerprints)))


def compute(
    path: Path,
    fingerprints: Fingerprints,
    rows: Any,
    num_sides: int,
    score: Callable[[list[int]], Tensor],
    batch_tokens: int,
    *,
    rank: int = 0,
    world: int = 1,
    gather: Callable[[list[Any]], list[Any]] = lambda found: found,
    report: Progress = lambda done, total: None,
) -> Float[Tensor, "N S"]:
    """Scores every row once.

    Args:
        path: path of the finished file; journals are next to it.
        fingerprints: digests of the inputs; journals are named after them.
        rows: a `datasets.Dataset` with the column `length`.
        num_sides: responses per row, S.
        score: from row numbers to log-probabilities [B, S].
        batch_tokens: tokens of a batch, unless a single row has more.
        rank: number of this process.
        world: number of processes.
        gather: joins the lists of all processes, in every process.
        report: called with the number of finished batches of this process, and their total.

    Returns:
        float32 [N, S] on the CPU.

    Raises:
        ArtifactError: a log-probability is not finite.
    """
    name = json_digest(fingerprints)[:12]
    mine = path.with_name(f".{path.name}.{name}.{rank}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    found: dict[int, list[float]] = {}
    for journal in gather([str(p) for p in path.parent.glob(f".{path.name}.{name}.*.jsonl")]):
        found |= _read(Path(journal))
    found = dict(gather(list(found.items())))
    lengths = rows["length"][:]
    batches = list(_batches([i for i in range(len(rows)) if i not in found], lengths, batch_tokens))
    turns = -(-len(batches) // world)
    for turn in range(turns):
        # A process without batches repeats the last one: all must make the same calls.
        batch = batches[min(turn * world + rank, len(batches) - 1)]
        values = score(batch).float().cpu()
        if not bool(values.isfinite().all()):
            worst = batch[int((~values.isfinite().all(-1)).nonzero()[0])]
            raise ArtifactError(
                f"the reference returned a log-probability that is not finite for row {worst + 1}; "
                "check its weights and precision"
            )
        found |= zip(batch, values.tolist(), strict=True)
        append_line(mine, json.dumps([batch, values.tolist()]))
        report(turn + 1, turns)
    found = dict(gather(list(found.items())))
    result = torch.tensor([found[i] for i in range(len(rows))]).reshape(len(rows), num_sides)
    if rank == 0:
        save(path, result, fingerprints)
    gather([])  # journals are removed only after the file is written
    mine.unlink(missing_ok=True)
    if rank == 0:  # including those of a run with more processes
        for journal in path.parent.glob(f".{path.name}.{name}.*.jsonl"):
            journal.unlink(missing_ok=True)
    return result


def _read(journal: Path) -> Iterator[tuple[int, list[float]]]:
    """Finished rows of a journal; an incomplete line is ignored."""
    if not journal.exists():  # on another machine
        return
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            places, values = json.loads(line)
        except ValueError:
            continue
        yield from zip(places, values, strict=True)


def _batches(places: Sequence[int], lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Rows of similar length, up to a number of tokens; longest first, so that memory errors come early."""
    batch: list[int] = []
    total = 0
    for place in sorted(places, key=lambda i: (-lengths[i], i)):
        if batch and total + lengths[place] > tokens:
            yield batch
            batch, total = [], 0
        batch.append(place)
        total += lengths[place]
    if batch:
        yield batch
