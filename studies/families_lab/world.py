"""What the lab studies of all families share: texts, features, distributions of the crowd, drawn ratings.

In:  a kind of features, a crowd, a seed. Out: tables to fit on, and exact truth on prompts that no fit has
seen.

Texts, features and the split by unseen objects and unseen tasks are those of `qrm_world`, with the same
held-out texts and a larger pool without repeats to fit on. Ratings are drawn from the crowd's exact
distribution of one rater, each rater anew, so that a seed stands for other texts dealt and for other people.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from pluralign.backbones import Embeddings, EmbeddingStats
from pluralign.fitting import CategoricalConfig
from pluralign.fitting.tables.inputs import Inputs
from pluralign.fitting.train.journal import Journal
from pluralign.lab import parse_prompt
from studies.qrm_lab import world as qrm_world

POOL, HELD_OUT = 30_000, 1000
LOSSES = ("transport", "cross_entropy", "rps")
MANY = 10_000  # responses, from which on small penalties are the best ones
L2_GRID = (0.0003, 0.003, 0.03, 0.3, 3.0)  # of the default grid, to save time
L2_OF_MANY = L2_GRID[:3]
PARTS = ("objects", "tasks")  # what training never names in them

Conversation = list[dict[str, str]]


@functools.cache
def texts() -> dict[str, list[Conversation]]:
    """Distinct conversations by part: POOL to fit on, HELD_OUT of each kind to evaluate on."""
    found: dict[str, dict[tuple[str, str], Conversation]] = {name: {} for name in qrm_world.SPLITS}
    sizes = {"train": POOL, **dict.fromkeys(PARTS, HELD_OUT)}
    for conversation in qrm_world.crowd().conversations(2 * POOL + 6000, seed=1):
        found[qrm_world.split_of(conversation)].setdefault(_key(conversation), conversation)
    return {name: list(found[name].values())[:size] for name, size in sizes.items()}


@functools.cache
def held_out() -> list[Conversation]:
    """What is evaluated on: both kinds of unseen prompts, as many of each."""
    return [conversation for part in PARTS for conversation in texts()[part]]


def group_of(conversation: Conversation) -> str:
    """The name of its prompt."""
    prompt = parse_prompt(conversation[0]["content"])
    assert prompt is not None
    return prompt.group


@functools.cache
def pairs() -> Tensor:
    """All pairs of held-out responses to the same prompt, as two rows of indices, [2, P]."""
    members: dict[str, list[int]] = {}
    for i, conversation in enumerate(held_out()):
        members.setdefault(group_of(conversation), []).append(i)
    return torch.cat([torch.combinations(torch.tensor(m)) for m in members.values() if len(m) > 1]).T


def inputs(features: str, ratings: Any) -> Inputs:
    """What a recipe takes."""
    return Inputs(ratings, None, None, functools.partial(embedded, features), Journal(None), _silent)


def embedded(features: str, conversations: Sequence[Conversation]) -> Embeddings:
    """Vectors of texts of the pool or held out; every text is embedded once."""
    place, response, prompt = _vectors(features)
    rows = torch.tensor([place[_key(conversation)] for conversation in conversations])
    words = torch.tensor([len(conversation[-1]["content"].split()) for conversation in conversations])
    whole = torch.zeros(len(rows), dtype=torch.bool)
    return Embeddings(response[rows], prompt[rows], words, whole, EmbeddingStats())


@functools.cache
def _vectors(features: str) -> tuple[dict[tuple[str, str], int], Tensor, Tensor]:
    every = [*texts()["train"], *held_out()]
    vectors = qrm_world.embedded(features, every)
    return {_key(conversation): i for i, conversation in enumerate(every)}, vectors.response, vectors.prompt


def rows_of(count: int, seed: int) -> list[Conversation]:
    """The texts that are dealt to a seed; what few data hold, more data hold too."""
    train = texts()["train"]
    return [train[i] for i in qrm_world.dealt(count, len(train), seed).tolist()]


def table(conversations: list[Conversation], ratings: Tensor, attribute: str, scale: list[float]) -> Any:
    """Ratings [N, raters] of N responses, as a table to fit on."""
    from datasets import Dataset

    groups = [group_of(conversation) for conversation in conversations]
    columns = {
        "id": [str(i) for i in range(len(conversations))],
        "subset": ["lab"] * len(conversations),
        "prompt": [conversation[:-1] for conversation in conversations],
        "response": [conversation[-1]["content"] for conversation in conversations],
        "group": groups,
        "attribute": [attribute] * len(conversations),
        "ratings": ratings.double().tolist(),
        "scale": [scale] * len(conversations),
    }
    return Dataset.from_dict(columns)


def drawn(probs: Tensor, raters: int, seed: int) -> Tensor:
    """Categories that so many people choose, people drawn anew for each response, [N, raters]."""
    generator = torch.Generator().manual_seed(20_000 + seed)
    return torch.multinomial(probs.double(), raters, replacement=True, generator=generator)


def judgements(distribution: pl.GaussianEnsemble, raters: int, seed: int) -> Tensor:
    """What so many people think before they round, [N, raters]."""
    generator = torch.Generator().manual_seed(30_000 + seed)
    return distribution.sample(raters, generator=generator)


def categorical(loss: str, responses: int, seed: int, **options: Any) -> CategoricalConfig:
    """A categorical fit on so many responses."""
    grid = L2_GRID if responses < MANY else L2_OF_MANY
    return CategoricalConfig(loss=loss, baselines=False, seed=seed, **{"l2_grid": grid} | options)


def fitted_distribution(fit: Callable[..., Any], config: Any, features: str, ratings: Any) -> tuple[Any, Any]:
    """A recipe run on a table: the distribution of its one attribute on what is held out, and the fit."""
    result = fit(inputs(features, ratings), config)
    with torch.no_grad():
        distributions = result.head.attribute_distributions(embedded(features, held_out()).response)
    (distribution,) = distributions.values()
    return distribution.to(dtype=torch.float64), result


def gold_order(score: Tensor, gold: Tensor) -> float:
    """Share of pairs of responses to one prompt that a score orders as gold does; a tie is half right."""
    first, second = pairs()
    said, true = (torch.sign(value[first] - value[second]) for value in (score.double(), gold))
    return float((0.5 * (1 + said * true)).mean())


def _key(conversation: Conversation) -> tuple[str, str]:
    return conversation[0]["content"], conversation[-1]["content"]


def _silent(line: str) -> None:
    """Recipes report here."""
