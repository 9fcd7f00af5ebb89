"""What the lab studies of QRM share: texts, features, and what each seed draws of the crowd.

In:  a seed, and how much longer texts are over-rated. Out: tables to fit on and exact truth to compare with,
on prompts that no fit has seen.

Every text is embedded once: seeds share one pool of texts and differ in which of them are dealt to the
fit, in which 5 of 25 raters rate each, and in who decides each pair. Two kinds of prompt are held out:
those with an object that training never names (their task is known), and those with a task that training
never names.

Features: `minilm` is the frozen backbone, reading the response alone. `traits` are what the lab's own
parser reads, saturated and crossed with the kind of prompt, so that nothing that matters to the crowd is
missing; its prompt vector is the kind. `crossed` has the responses of `traits` and the prompts of
`minilm`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from pluralign.backbones import EmbeddingCache, Embeddings, EmbeddingStats
from pluralign.fitting.tables.inputs import Inputs
from pluralign.fitting.train.journal import Journal
from pluralign.lab import KINDS, PERSONAS, POPULATION, TRAITS, parse_prompt, parser
from pluralign.lab.personas import VALUED
from pluralign.lab.truth import dequantised_quantile, win_probability

FEATURES = ("minilm", "traits", "crossed")
UNSEEN_OBJECTS = ("bell", "box", "bag", "vase")  # one of each category
UNSEEN_TASKS = ("polish", "paint", "store", "present")  # one of each kind
SPLITS = ("train", "objects", "tasks")
RATED = {"train": 7000, "objects": 1000, "tasks": 1000}
PAIRED = {"train": 7000, "objects": 1500, "tasks": 1500}
RATERS, RATERS_PER_SEED = 25, 5
DENSE = (
    torch.arange(0.5, 200, dtype=torch.float64) / 200
)  # levels at which a true distribution is written down

Conversation = list[dict[str, str]]


def split_of(conversation: Conversation) -> str:
    """Which part a conversation belongs to, by its request."""
    prompt = parse_prompt(conversation[0]["content"])
    assert prompt is not None
    if prompt.task in UNSEEN_TASKS:
        return "tasks"
    return "objects" if prompt.object in UNSEEN_OBJECTS else "train"


@dataclass(frozen=True)
class Rated:
    """Rated responses of one part.

    Attributes:
        conversations: N of them.
        groups: the prompt's name of each.
        ratings: by attribute, [N, 25] on the scale 1 to 5.
    """

    conversations: list[Conversation]
    groups: list[str]
    ratings: dict[str, Tensor]


@dataclass(frozen=True)
class Pairs:
    """Pairs of responses of one part; the label is left to `win`.

    Attributes:
        first: N conversations.
        second: N others, to the same prompts.
        groups: the prompt's name of each.
        kinds: index into `KINDS`, [N].
        win: exact probability that a person prefers the first, [N].
        voted: the same for the crowd as it votes, biased by length or not, [N].
        gold: whether the crowd, unbiased, likes the first better on average, [N].
    """

    first: list[Conversation]
    second: list[Conversation]
    groups: list[str]
    kinds: Tensor
    win: Tensor
    voted: Tensor
    gold: Tensor


@functools.cache
def crowd(length_bias: float = 0.0) -> pl.lab.Crowd:
    """The crowd; each word adds `length_bias` to every judgement, an error that all raters share."""
    return pl.lab.Crowd(seed=0, bias={"length": length_bias} if length_bias else None)


@functools.cache
def rated(attributes: tuple[str, ...], length_bias: float = 0.0) -> dict[str, Rated]:
    """Rated responses by part."""
    table = crowd(length_bias).ratings(2 * RATED["train"] + 1200, RATERS, attributes, seed=1)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    for row in table.select_columns(["prompt", "response", "group", "attribute", "ratings"]):
        rows[split_of(row["prompt"])].append(row)
    return {name: _rated(rows[name][: RATED[name] * len(attributes)], attributes) for name in SPLITS}


def _rated(rows: list[dict[str, Any]], attributes: Sequence[str]) -> Rated:
    ratings = {a: torch.tensor([r["ratings"] for r in rows if r["attribute"] == a]) for a in attributes}
    rows = rows[:: len(attributes)]
    return Rated([_conversation(r, "response") for r in rows], [r["group"] for r in rows], ratings)


@functools.cache
def paired(length_bias: float = 0.0) -> dict[str, Pairs]:
    """Pairs by part."""
    table = crowd().pairs(2 * PAIRED["train"] + 1200, seed=2)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    for row in table:
        rows[split_of(row["prompt"])].append(row)
    return {name: _paired(rows[name][: PAIRED[name]], length_bias) for name in SPLITS}


def _paired(rows: list[dict[str, Any]], length_bias: float) -> Pairs:
    sides = [[_conversation(row, side) for row in rows] for side in ("chosen", "rejected")]
    means = [crowd().utilities(side) for side in sides]
    longer = [length_bias * parser.read(side)[0][:, [TRAITS.index("length")]] for side in sides]
    stds = torch.tensor([persona.noise for persona in PERSONAS], dtype=torch.float64)
    weights = torch.tensor(list(POPULATION.values()), dtype=torch.float64)
    return Pairs(
        *sides,
        groups=[row["group"] for row in rows],
        kinds=torch.tensor([KINDS.index(row["subset"]) for row in rows]),
        win=win_probability(*means, stds, weights),
        voted=win_probability(means[0] + longer[0], means[1] + longer[1], stds, weights),
        gold=(means[0] - means[1]) @ weights > 0,
    )


def _conversation(row: dict[str, Any], side: str) -> Conversation:
    return [*row["prompt"], {"role": "assistant", "content": row[side]}]


def dealt(count: int, out_of: int, seed: int) -> Tensor:
    """The first `count` of the texts in the order of a seed: what few data hold, more data hold too."""
    return torch.randperm(out_of, generator=torch.Generator().manual_seed(seed))[:count]


def ratings_table(part: Rated, rows: Tensor, seed: int) -> Any:
    """The ratings that 5 raters of this seed gave to some responses, as a table to fit on."""
    from datasets import Dataset

    mine = slice(RATERS_PER_SEED * seed, RATERS_PER_SEED * (seed + 1))
    return Dataset.from_list(
        [
            {
                "prompt": part.conversations[i][:-1],
                "response": part.conversations[i][-1]["content"],
                "group": part.groups[i],
                "attribute": attribute,
                "ratings": values[i, mine].tolist(),
                "scale": [1.0, 5.0],
            }
            for i in rows.tolist()
            for attribute, values in part.ratings.items()
        ]
    )


def decided(pairs: Pairs, rows: Tensor, seed: int) -> Tensor:
    """Whether one person, another one for each seed, prefers the first of each pair."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    return (torch.rand(len(pairs.voted), generator=generator, dtype=torch.float64) < pairs.voted)[rows]


def pairs_table(pairs: Pairs, rows: Tensor, seed: int) -> Any:
    """Some pairs as one person decided each, as a table to fit on."""
    from datasets import Dataset

    table = []
    for i, first_wins in zip(rows.tolist(), decided(pairs, rows, seed).tolist(), strict=True):
        sides = (pairs.first[i], pairs.second[i]) if first_wins else (pairs.second[i], pairs.first[i])
        chosen, rejected = (side[-1]["content"] for side in sides)
        shared = {"id": str(i), "prompt": pairs.first[i][:-1], "subset": "lab", "group": pairs.groups[i]}
        table.append({**shared, "chosen": chosen, "rejected": rejected})
    return Dataset.from_list(table)


def inputs(features: str, *, ratings: Any = None, pairs: Any = None) -> Inputs:
    """What a recipe takes."""
    embed = functools.partial(embedded, features)
    return Inputs(ratings, pairs, None, embed, Journal(None), lambda line: None)


def embedded(features: str, conversations: Sequence[Any]) -> Embeddings:
    """The vectors of conversations; MiniLM's are kept in the cache under PLURALIGN_CACHE."""
    if features == "minilm":
        return _minilm().embed(conversations, cache=_cache(), progress=False)
    response, kind = _traits(conversations)
    prompt = _minilm_prompts(conversations) if features == "crossed" else kind
    words = torch.tensor([len(c[-1]["content"].split()) for c in conversations])
    return Embeddings(response, prompt, words, torch.zeros(len(words), dtype=torch.bool), EmbeddingStats())


def _traits(conversations: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Traits, saturated at several rates and with hinges on length, plain and crossed with the kind."""
    traits, kinds = parser.read(conversations)
    counts = traits[:, [TRAITS.index(name) for name in ("detail", "courtesy", "caution", "risk", "filler")]]
    saturated = [-torch.expm1(-counts / rate) for rate in (0.8, 1.5, 3.0)]
    length = traits[:, [TRAITS.index("length")]]
    hinges = [(length - words).clamp(min=0) / 10 for words in (30, 32, 38, 40, 42)]
    plain = torch.cat([traits, *saturated, *hinges], 1)
    kind = torch.nn.functional.one_hot(torch.tensor([KINDS.index(k) for k in kinds]), len(KINDS)).double()
    crossed = (plain[:, None, :] * kind[:, :, None]).flatten(1)
    return torch.cat([plain, kind, crossed], 1).float(), kind.float()


def _minilm_prompts(conversations: Sequence[Any]) -> Tensor:
    texts = [c[0]["content"] for c in conversations]
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    asked = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}] for text in distinct
    ]
    return _minilm().embed(asked, cache=_cache(), progress=False).prompt[[distinct[text] for text in texts]]


@functools.cache
def _minilm() -> Any:
    return pl.backbones.load("minilm")


@functools.cache
def _cache() -> EmbeddingCache:
    return EmbeddingCache()


def true_rating_distribution(conversations: Sequence[Any]) -> tuple[pl.Quantiles, Tensor]:
    """The exact distribution of a dequantised overall rating on 200 levels, and at QRM's, [N, 19]."""
    probs = crowd().rating_truth(conversations).probs.double()
    levels = torch.arange(1, 20, dtype=torch.float64) / 20
    return pl.Quantiles(dequantised_quantile(probs, DENSE), DENSE), dequantised_quantile(probs, levels)


def true_means(conversations: Sequence[Any]) -> Tensor:
    """The crowd's exact mean rating of each valued attribute, on [0, 1], [N, 4]."""
    return torch.stack([crowd().rating_truth(conversations, name).mean() - 1 for name in VALUED], 1) / 4
