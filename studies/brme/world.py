"""What the studies of Gaussian ensembles share: features, data and truth of the lab.

In:  a seed. Out: ratings to fit on; texts to evaluate on, with the crowd's exact mean and standard deviation.
It does not know what is fitted.

Seeds draw other responses and other raters to fit on; the texts to evaluate on are the same for all, so that
a seed stands for another data set of the same size. Ratings are judgements before rounding: their
distribution is exactly the crowd's.

Features: `minilm` is the frozen backbone. `traits` are what the lab's own parser reads, saturated and crossed
with the kind of prompt, so that nothing that matters to the crowd is missing.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from pluralign.backbones import Embeddings, EmbeddingStats
from pluralign.lab import KINDS, parse_prompt, parser

FEATURES = ("minilm", "traits")
STYLES = ("broken", "stuffed", "padded", "long")  # what data hardly holds
TEXTS, RATERS = 1200, 5
HELD_OUT, PER_STYLE = 500, 100
PROMPTS, USUAL, UNUSUAL = 48, 24, 2  # a pool of best of n: 24 usual responses, 2 of each style
ELSEWHERE = 1000  # seed of the texts to evaluate on

Conversation = list[dict[str, str]]


class TraitBackbone:
    """The parser's traits as embeddings; `describe` and `embed` as a `Backbone` has them."""

    def describe(self) -> dict[str, Any]:
        """Nothing of a model is behind it."""
        return {"name_or_path": "lab-traits", "revision": None, "fingerprint": None}

    def embed(self, conversations: Sequence[Any], *, cache: Any = None, progress: Any = None) -> Embeddings:
        """Traits, saturated, alone and times the kind of prompt; prompts are their kind."""
        count = len(conversations)
        traits, _ = parser.read(conversations)
        shapes = [traits, 1 - torch.exp(-traits), 1 - torch.exp(-traits / 3)]
        length = traits[:, parser.TRAITS.index("length")]
        shapes += [(length - start).clamp_min(0)[:, None] for start in (24, 32, 40)]
        kinds = torch.zeros(count, len(KINDS), dtype=traits.dtype)
        for row, conversation in enumerate(conversations):
            prompt = parse_prompt(conversation[0]["content"])
            kinds[row, KINDS.index(prompt.kind)] = 1
        base = torch.cat(shapes, 1)
        crossed = (base[:, :, None] * kinds[:, None]).flatten(1)
        response = torch.cat([base, kinds, crossed], 1).float()
        nothing = torch.zeros(count, dtype=torch.bool)
        return Embeddings(response, kinds.float(), length.long(), nothing, EmbeddingStats(count))


@functools.cache
def backbone(features: str) -> Any:
    return TraitBackbone() if features == "traits" else pl.backbones.load("minilm")


def cache_of(features: str) -> Any:
    return None if features == "traits" else "default"


CROWD = pl.lab.Crowd(seed=0)


@functools.cache
def ratings(seed: int) -> Any:
    """The table that a seed fits on."""
    return CROWD.ratings(TEXTS, RATERS, seed=seed, responses_per_prompt=4, rounded=False)


@dataclass(frozen=True)
class ExactTexts:
    """Texts with the crowd's exact mean and standard deviation, each [N]."""

    conversations: list[Conversation]
    mean: Tensor
    std: Tensor


def _rated_exactly(conversations: list[Conversation]) -> ExactTexts:
    truth = CROWD.truth(conversations)
    return ExactTexts(conversations, truth.mean(), truth.std())


@functools.cache
def held_out(style: str = "behaviour") -> ExactTexts:
    """Texts of one style that nobody fits on."""
    count = HELD_OUT if style == "behaviour" else PER_STYLE
    return _rated_exactly(CROWD.conversations(count, seed=ELSEWHERE, responses_per_prompt=2, style=style))


@functools.cache
def pools() -> ExactTexts:
    """PROMPTS pools, one after the other, each of usual responses and then of every unusual style."""
    parts = [
        CROWD.conversations(PROMPTS * size, seed=ELSEWHERE + 1, responses_per_prompt=size, style=style)
        for style, size in {"behaviour": USUAL, **dict.fromkeys(STYLES, UNUSUAL)}.items()
    ]
    mixed = []
    for prompt in range(PROMPTS):
        for part in parts:
            size = len(part) // PROMPTS
            mixed += part[prompt * size : (prompt + 1) * size]
        pool = mixed[prompt * POOL :]
        assert len({c[0]["content"] for c in pool}) == 1, "styles were drawn for other prompts"
    return _rated_exactly(mixed)


POOL = USUAL + UNUSUAL * len(STYLES)
