"""The result of `Backbone.embed`: vectors of conversations, and statistics of the call.

In: vectors of distinct texts. Out: rows of `Embeddings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pluralign.backbones.plan import TextTable

__all__ = ["EmbeddingStats", "Embeddings", "TextVectors", "no_embeddings", "store"]


@dataclass
class EmbeddingStats:
    """Statistics of one call of `Backbone.embed`, over all processes.

    Attributes:
        conversations: rows of the result.
        texts: distinct texts (responses, prompts or conversations) that they needed.
        cached: texts found in the cache.
        computed: texts run through the model.
        tokens: tokens of the computed texts, before any prompt was shared.
        truncated: conversations with a truncated text.
        seconds: wall time of the whole call.
        num_threads: torch threads that computed in this process, 0 if nothing was.
    """

    conversations: int = 0
    texts: int = 0
    cached: int = 0
    computed: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    num_threads: int = 0


@dataclass(frozen=True)
class Embeddings:
    """Vectors of N conversations, on the CPU.

    Attributes:
        response: `[N, W]` float32, W is D, or 2 D for `last_mean`; then the columns of `surface`
            and of `length`, if configured.
        prompt: `[N, D]` float32; zero if the prompt has no text.
        num_tokens: `[N]`, tokens of the response that the model read, with the special tokens that end
            (encoders: surround) it, after truncation.
        truncated: `[N]`, whether prompt or response was truncated.
        stats: statistics of the call.
    """

    response: Float[Tensor, "N W"]
    prompt: Float[Tensor, "N D"]
    num_tokens: Int[Tensor, " N"]
    truncated: Bool[Tensor, " N"]
    stats: EmbeddingStats


def no_embeddings(count: int, response_size: int, prompt_size: int) -> Embeddings:
    """Rows of zeros, to be filled."""
    return Embeddings(
        torch.zeros(count, response_size),
        torch.zeros(count, prompt_size),
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(count, dtype=torch.bool),
        EmbeddingStats(conversations=count),
    )


class TextVectors(NamedTuple):
    """Vectors of M distinct texts.

    Attributes:
        vectors: `[M, V]` float32.
        num_tokens: `[M]`, tokens of the response.
        truncated: `[M]`, whether the text was truncated.
    """

    vectors: Float[Tensor, "M V"]
    num_tokens: Int[Tensor, " M"]
    truncated: Bool[Tensor, " M"]


def store(result: Embeddings, table: TextTable, texts: NDArray[np.int64], found: TextVectors) -> None:
    """Writes the vectors of `texts` into every row that needs them."""
    rows, which = (torch.from_numpy(part) for part in table.fill(texts))
    result.truncated[rows] |= found.truncated[which]
    if table.kind == "prompt":
        result.prompt[rows] = found.vectors[which]
        return
    result.num_tokens[rows] = found.num_tokens[which]
    width = result.response.shape[1]
    result.response[rows] = found.vectors[which, :width]
    if table.kind == "conversation":
        result.prompt[rows] = found.vectors[which, width:]
