"""Embeddings as a stage: rows with prompts and responses in, vectors out.

Columns: `id`; `prompt`, the prompt's vector; for each column of responses its vector under the same name, and
`<name>_tokens` and `<name>_truncated`, as `Embeddings` has them. With a cache, vectors are also kept there,
where fits, evaluations and scores on the same machine find them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pluralign import backbones
from pluralign.backbones.locate import find_folder, fingerprint_of
from pluralign.data import conversation, response_columns
from pluralign.engines.stages import Batch, Stage

__all__ = ["EmbedRows", "backbone_identity", "embed_stage"]

BATCH_ROWS = 2_048


class EmbedRows:
    """Embeds batches with a backbone that it loads once; see `stages.RowFunction`.

    Args:
        backbone: short name, hub id or folder, as for `backbones.load`.
        cache: folder of an embedding cache on a disk of this machine; `default` for the one under
            `PLURALIGN_CACHE`; None for none.
        options: of `backbones.load`.

    Raises:
        ArtifactError: there is no such backbone on this machine.
        FingerprintError: its weights are not those of `options["fingerprint"]`.
    """

    def __init__(
        self, backbone: str, *, cache: str | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        self._backbone = backbones.load(backbone, **dict(options or {}), distributed=False)
        place = None if cache == "default" else cache
        self._cache = None if cache is None else backbones.EmbeddingCache(place)

    def __call__(self, batch: Batch) -> Batch:
        """The vectors of a batch."""
        sides = response_columns(batch)
        count = len(batch["id"])
        texts = [
            conversation(prompt, response)
            for side in sides
            for prompt, response in zip(batch["prompt"], batch[side], strict=True)
        ]
        found = self._backbone.embed(texts, cache=self._cache)
        columns: Batch = {"id": np.asarray(batch["id"]), "prompt": found.prompt[:count].numpy()}
        for place, side in enumerate(sides):
            own = slice(place * count, (place + 1) * count)
            columns[side] = found.response[own].numpy()
            columns[f"{side}_tokens"] = found.num_tokens[own].numpy()
            columns[f"{side}_truncated"] = found.truncated[own].numpy()
        return columns


def embed_stage(backbone: str, sides: Sequence[str], *, cache: str | None = None, **options: Any) -> Stage:
    """Embeddings as a stage of a job.

    Args:
        backbone: as for `EmbedRows`, as for the next.
        sides: columns of responses in the rows.
        cache: where vectors are also kept.
        options: of `backbones.load`.
    """
    import pyarrow as pa

    place = Path(backbone).expanduser()
    name = str(place.resolve()) if place.is_dir() else backbone  # workers are in other folders
    vector = pa.list_(pa.float32())
    kinds = {"id": pa.string(), "prompt": vector}
    for side in sides:
        kinds |= {side: vector, f"{side}_tokens": pa.int32(), f"{side}_truncated": pa.bool_()}
    if cache not in (None, "default"):
        cache = str(Path(str(cache)).expanduser().absolute())
    arguments = {"backbone": name, "cache": cache, "options": options}
    return Stage(EmbedRows, arguments, pa.schema(kinds), BATCH_ROWS)


def backbone_identity(backbone: str, revision: str | None = None) -> dict[str, str | None]:
    """Fingerprint and commit of a backbone, without loading it.

    Raises:
        ArtifactError: there is no such backbone on this machine.
    """
    folder, commit = find_folder(backbone, revision)
    return {"fingerprint": fingerprint_of(backbone, folder), "revision": commit}
