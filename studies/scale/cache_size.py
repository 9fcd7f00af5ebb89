"""How large the embedding cache gets: bytes on disk for each text, by the width of its vector."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np

from studies.scale.world import PLACE

RECORDS = 20_000
# A response on MiniLM; a prompt and a response on a decoder of eight billion parameters.
WIDTHS = (384, 8_192)


def run(width: int, seed: int) -> dict[str, Any]:
    """Fills a cache, a thousand texts at a time.

    Args:
        width: of the vectors.
        seed: of the vectors and keys.
    """
    from pluralign.backbones import EmbeddingCache
    from pluralign.backbones.cache import Record

    place = PLACE / "cache"
    shutil.rmtree(place, ignore_errors=True)
    cache, random = EmbeddingCache(place), np.random.default_rng(seed)
    for _ in range(RECORDS // 1_000):
        vectors = random.standard_normal((1_000, width), np.float32)
        cache.write({random.bytes(16): Record(vector, 20, False) for vector in vectors})
    held = len(cache)
    size = (place / "data.mdb").stat().st_size
    del cache
    shutil.rmtree(place)
    return {"records": held, "bytes_per_record": size / held, "vector_bytes": 4 * width}
