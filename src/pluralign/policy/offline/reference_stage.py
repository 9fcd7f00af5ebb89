"""Scores every row of prepared tables with the reference model, in one or several processes.

In: a model, rows, the path of the result. Out: float32 [rows, sides]. Journals and files are in `references`;
this file has the calls of the model and the communication between processes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pluralign.conversations import tokenizer_digest
from pluralign.policy.logprobs.scored_forward import response_log_probs
from pluralign.policy.offline import references
from pluralign.policy.offline.batches import Collator, data_digest, packed_of
from pluralign.policy.offline.config import OfflineConfig

__all__ = ["fingerprints_of", "score_rows"]

_log = logging.getLogger("pluralign.policy")


def fingerprints_of(
    model_digest: str, tokenizer: Any, rows: Any, sides: tuple[str, ...]
) -> references.Fingerprints:
    """Digests of everything that reference log-probabilities depend on; the same in every process.

    With sharded loading only the first process has weights, so its digest is used.
    """
    from accelerate.utils import broadcast_object_list

    own = {
        "model": model_digest,
        "tokenizer": tokenizer_digest(tokenizer),
        "data": data_digest(rows, sides),
    }
    (found,) = broadcast_object_list([own])
    return dict(found)


def score_rows(
    model: Any,
    rows: Any,
    collator: Collator,
    path: Path,
    fingerprints: references.Fingerprints,
    args: OfflineConfig,
    context: Callable[[], AbstractContextManager[Any]],
) -> Tensor:
    """log ref(y|x) of every response, stored in `path`.

    Args:
        model: the reference, with its wrapper, on its device.
        rows: prepared rows.
        collator: collator of the rows.
        path: the output file.
        fingerprints: the result of `fingerprints_of`.
        args: batch size, rank and number of processes.
        context: context for calls of the model (autocast).
    """
    from accelerate.utils import gather_object

    def score(places: list[int]) -> Tensor:
        # If each sequence is a call, all processes must make equally many: the last row is repeated.
        calls = gather_object([len(places)]) if args.world_size > 1 and collator.bin_tokens == 1 else [0]
        filled = [*places, *[places[-1]] * (max(calls) - len(places))]
        packed = packed_of(collator([rows[place] for place in filled])).to(args.device)
        with torch.no_grad(), context():
            found = response_log_probs(model, packed).reshape(len(collator.sides), -1).T
        return found[: len(places)]

    def report(done: int, total: int) -> None:
        if args.process_index == 0 and (done == total or done % max(1, total // 20) == 0):
            _log.info("reference log-probabilities: %d of %d batches", done, total)

    training = model.training
    model.eval()
    try:
        return references.compute(
            path,
            fingerprints,
            rows,
            len(collator.sides),
            score,
            args.reference_batch_tokens,
            rank=args.process_index,
            world=args.world_size,
            gather=gather_object if args.world_size > 1 else lambda found: found,
            report=report,
        )
    finally:
        model.train(training)
