"""From prepared rows to batches, and to a digest of their token ids.

In: rows of `data.prepare`. Out: tensors with packed sequences, without padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch

from pluralign.policy.logprobs.packing import Packed, pack

__all__ = ["Collator", "data_digest", "packed_of"]

_NUMBERS = ("cut_off", "reward_", "rank_", "log_partition_", "tokens_")


def data_digest(rows: Any, sides: Sequence[str]) -> str:
    """SHA-256 of the token ids of all rows."""
    total = hashlib.sha256()
    for batch in rows.select_columns(["prompt_ids", *(f"{side}_ids" for side in sides)]).iter(1000):
        for column in batch.values():
            for ids in column:
                total.update(len(ids).to_bytes(8, "little") + torch.tensor(ids).numpy().tobytes())
    return total.hexdigest()


def packed_of(batch: Mapping[str, Any]) -> Packed:
    """The packed sequences of a batch from a `Collator`."""
    return Packed(**{field.name: batch[field.name] for field in fields(Packed)})


class Collator:
    """Packs rows into one batch: the first side of all rows, then the second.

    Args:
        sides: names of the responses of a row.
        bin_tokens: as in `pack`.
    """

    def __init__(self, sides: Sequence[str], bin_tokens: int | None) -> None:
        self.sides = tuple(sides)
        self.bin_tokens = bin_tokens

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The batch; `row` is first because transformers counts rows by the first tensor."""
        sequences = [(row["prompt_ids"], row[f"{side}_ids"]) for side in self.sides for row in rows]
        packed = pack(sequences, self.bin_tokens)
        numbers = {
            key: torch.tensor([row[key] for row in rows], dtype=torch.float64)
            for key in rows[0]
            if key.startswith(_NUMBERS)
        }
        row = torch.tensor([row["row"] for row in rows])
        return {"row": row, **vars(packed), **numbers}
