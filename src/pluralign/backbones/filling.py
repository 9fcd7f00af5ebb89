"""Fills in the vectors of distinct texts, from the cache or by running the model, also in several processes.

In: tables of distinct texts (`plan`). Out: their rows of `Embeddings`, filled in place. Vectors are cached
batch by batch, so that an interruption loses one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from pluralign.backbones import shared_prompt
from pluralign.backbones.cache import EmbeddingCache, Record
from pluralign.backbones.config import BackboneConfig
from pluralign.backbones.distributed import World
from pluralign.backbones.embeddings import Embeddings, TextVectors, store
from pluralign.backbones.forward import Forward
from pluralign.backbones.plan import TextTable
from pluralign.backbones.progress import on_behalf
from pluralign.backbones.schedule import divide, estimate_tokens, prompts_together
from pluralign.backbones.tokens import Reader
from pluralign.backbones.vocabulary import Vocabulary
from pluralign.conversations import Conversation
from pluralign.errors import ArgumentError

__all__ = ["Filler"]

# Texts tokenised at a time by each process: enough to find some of similar length, few enough for memory.
_WINDOW = 4096


class Filler:
    """One call of `Backbone.embed`.

    Args:
        config: of the backbone.
        reader: turns conversations into tokens.
        vocabulary: checks them.
        forward: runs them.
        cache: where vectors are looked up and stored; None for no cache.
        world: the processes that divide the texts among themselves.
        sizes: width of a response's pooled vector and of a prompt's.
        may_share: whether prompts may be run once for all their responses.
    """

    def __init__(
        self,
        config: BackboneConfig,
        reader: Reader,
        vocabulary: Vocabulary,
        forward: Forward,
        cache: EmbeddingCache | None,
        world: World,
        *,
        sizes: tuple[int, int],
        may_share: bool,
    ) -> None:
        self._config, self._sizes, self._may_share = config, sizes, may_share
        self._reader, self._vocabulary, self._forward = reader, vocabulary, forward
        self._cache, self._world = cache, world

    def look_up(self, table: TextTable, result: Embeddings) -> NDArray[np.bool_]:
        """Fills in the cached vectors of a table; returns which of its texts are not cached."""
        absent = np.ones(len(table), dtype=bool)
        if self._cache is None:
            return absent
        for at in range(0, len(table), _WINDOW):
            found = self._cache.read(table.keys[at : at + _WINDOW], self._width(table.kind))
            if found:
                texts = at + np.array(list(found))
                vectors, num_tokens, truncated = zip(*found.values(), strict=True)
                known = TextVectors(
                    torch.from_numpy(np.stack(vectors)), torch.tensor(num_tokens), torch.tensor(truncated)
                )
                store(result, table, texts, known)
                absent[texts] = False
        return absent

    def compute(
        self,
        table: TextTable,
        texts: NDArray[np.int64],
        conversations: Sequence[Conversation],
        result: Embeddings,
        advance: Callable[[int], None],
    ) -> None:
        """Runs texts through the model, a window per process at a time, and fills in their rows.

        Args:
            table: the texts and the rows that each of them fills.
            texts: positions in `table` of those to run.
            conversations: where the texts are read from.
            result: filled in place.
            advance: called with the number of texts done.
        """
        world = self._world
        texts, prompts = prompts_together(texts, table, conversations)
        for at in range(0, len(texts), _WINDOW * world.size):
            window = slice(at, at + _WINDOW * world.size)
            shares = self._shares(table, texts[window], prompts[window], conversations)
            own, total = shares[world.rank], len(texts[window])
            with world.step():
                found, num_read = self._run(table, own, conversations, on_behalf(advance, len(own), total))
            if not len(own):
                advance(total)
            result.stats.tokens += sum(world.gather(num_read))
            for source, share in enumerate(shares):
                if not len(share):
                    continue
                part = found if source == world.rank else self._empty(table, len(share))
                for tensor in part:
                    world.broadcast(tensor, source)
                store(result, table, share, part)

    def _shares(
        self,
        table: TextTable,
        texts: NDArray[np.int64],
        prompts: NDArray[np.int64],
        conversations: Sequence[Conversation],
    ) -> list[NDArray[np.int64]]:
        """The texts that each process runs."""
        if self._world.size == 1:
            return [texts]
        costs = estimate_tokens(
            table.kind,
            [conversations[row] for row in table.source[texts]],
            prompts,
            max_length=self._config.max_length,
            share_prompts=self._may_share,  # not the measured mode: all processes must agree
        )
        return [texts[start:stop] for start, stop in pairwise(divide(costs, prompts, self._world.size))]

    def _run(
        self,
        table: TextTable,
        texts: NDArray[np.int64],
        conversations: Sequence[Conversation],
        advance: Callable[[int], None],
    ) -> tuple[TextVectors, int]:
        """Vectors of texts, cached batch by batch, and how many tokens were read."""
        rows = table.source[texts].tolist()
        read = [
            self._vocabulary.checked(one, table.kind, row)
            for one, row in zip(
                self._reader.read(table.kind, [conversations[row] for row in rows]), rows, strict=True
            )
        ]
        found = self._empty(table, len(texts))
        found.num_tokens[:] = torch.tensor([one.num_response for one in read])
        found.truncated[:] = torch.tensor([one.truncated for one in read])
        for batch, vectors in shared_prompt.run(self._forward, table.kind, read):
            if not bool(torch.isfinite(vectors).all()):
                raise ArgumentError(
                    f"{self._config.name_or_path} returned numbers that are not finite in "
                    f"{self._config.dtype}; load it with dtype='bfloat16' or 'float32'"
                )
            found.vectors[batch] = vectors
            if self._cache is not None:
                records = (
                    Record(vector, read[one].num_response, read[one].truncated)
                    for one, vector in zip(batch, vectors.numpy(), strict=True)
                )
                self._cache.write(dict(zip((table.keys[at] for at in texts[batch]), records, strict=True)))
            advance(len(batch))
        return found, sum(len(one.ids) for one in read)

    def _empty(self, table: TextTable, count: int) -> TextVectors:
        """Empty arrays for the vectors of `count` texts."""
        return TextVectors(
            torch.zeros(count, self._width(table.kind)),
            torch.zeros(count, dtype=torch.int64),
            torch.zeros(count, dtype=torch.bool),
        )

    def _width(self, kind: str) -> int:
        """How many numbers are stored per text."""
        pooled, prompt = self._sizes
        return {"prompt": prompt, "conversation": pooled + prompt}.get(kind, pooled)
