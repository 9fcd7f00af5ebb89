"""Debiasing in the lab: how far scores follow length, before and after, and what it costs or wins.

In:  features, seeds, and how much every rater over-rates each word. Out: rank correlations with the number of words, and
accuracy on pairs of unseen prompts against the crowd as it votes and against what it likes without the bias. It does
not know files.

At a bias of 0 length is worth what the crowd says: longer texts hold more details. At 0.05 rating units per word (half
a unit between short and ordinary texts) ratings, votes and training pairs are all tilted, and the truth is not.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch

import qrm_world as world
from pluralign.distributions import RewardDistribution
from pluralign.fitting import QuantileConfig, quantile
from pluralign.fitting.debias import spearman
from pluralign.fitting.mixing import add_mixing
from pluralign.heads import MixedHead, QuantileHead
from pluralign.lab.personas import VALUED
from pluralign.model.reading import head_inputs
from qrm_gate import PARTS, SHAPES

SEEDS = range(5)
BIASES = (0.0, 0.05)
RATED = (*VALUED, "verbosity")
RATED_TEXTS = 2000
PAIRS = 5000
# The search is the same for each treatment; a short grid keeps a run short.
GRID = (0.001, 0.003, 0.01)
TREATMENTS: dict[str, dict[str, Any]] = {
    "none": {},
    "dropped": {},
    "verbosity, shift": {"debias": "verbosity"},
    "verbosity, parity": {"debias": "verbosity", "debias_coupling": "parity"},
    "length, shift": {"debias": "tokens"},
    "length, parity": {"debias": "tokens", "debias_coupling": "parity"},
    "length, verbosity kept": {"debias": "tokens"},
}
# Taking tokens off leaves verbosity, which is length, as it is: no lambda suffices. Without it, debiasing is whole.
FOUR = ("dropped", "length, shift", "length, parity")


def grid() -> list[dict[str, Any]]:
    """Both crowds, all seeds."""
    return [{"features": "minilm", "bias": b, "seed": s} for s in SEEDS for b in BIASES]


def run(features: str, bias: float, seed: int) -> dict[str, Any]:
    """One fit of the attributes, then each treatment with a gate of its own."""
    part = world.rated(RATED, bias)["train"]
    rows = world.dealt(RATED_TEXTS, len(part.conversations), seed)
    table = world.ratings_table(part, rows, seed)
    pairs = world.paired(bias)["train"]
    pairs_table = world.pairs_table(pairs, world.dealt(PAIRS, len(pairs.groups), 100 + seed), seed)
    config = QuantileConfig(l1_grid=GRID, baselines=False, gate=False, seed=seed)
    fitted = quantile.fit(world.inputs(features, ratings=table), config).head
    assert isinstance(fitted, QuantileHead)
    conversations = [part.conversations[i] for i in rows.tolist()]
    embedded = world.embedded(features, conversations)
    result: dict[str, Any] = {"crowd": _of_crowd(bias)}
    for name, options in TREATMENTS.items():
        head = _without_verbosity(fitted) if name in FOUR else copy.deepcopy(fitted)
        mixing = QuantileConfig(**SHAPES["small"], **options)
        facts = add_mixing(
            head, world.inputs(features, pairs=pairs_table), mixing, conversations, embedded, seed=seed
        )
        result[name] = _judged(head, features, bias)
        if "debias" in facts:
            result[name] |= {k: facts["debias"][k] for k in ("lambdas", "spearman_before", "spearman_after")}
    return result


def _without_verbosity(head: QuantileHead) -> QuantileHead:
    return QuantileHead(
        head.scaling, head.weight[:-1], head.bias[:-1], head.levels, head.attributes[:-1], mix=head.mix
    )


def _judged(head: MixedHead, features: str, bias: float) -> dict[str, float]:
    """Correlation with length on unseen prompts, and accuracy on their pairs."""
    texts = _texts(bias)
    law, words = _law(head, features, texts), _words(texts)
    right: dict[str, list[float]] = {"voted": [], "fair": [], "gold": []}
    for part in PARTS:
        pairs = world.paired(bias)[part]
        first = _score(head, features, pairs.first) > _score(head, features, pairs.second)
        right["voted"] += torch.where(first, pairs.voted, 1 - pairs.voted).tolist()
        right["fair"] += torch.where(first, pairs.win, 1 - pairs.win).tolist()
        right["gold"] += (first == pairs.gold).double().tolist()
    return {
        "spearman": spearman(law.mean().double(), words),
        "spearman_of_cvar": spearman(law.cvar(0.1).double(), words),
        "spearman_of_std": spearman(law.std().double(), words),
        "spread": float(law.std().mean() / law.mean().std()),
    } | {name: sum(values) / len(values) for name, values in right.items()}


@functools.cache
def _of_crowd(bias: float) -> dict[str, float]:
    """How far the crowd's own mean judgement follows length, as it is and as it is recorded."""
    texts = _texts(bias)
    gold, words = world.crowd().gold(texts), _words(texts)
    return {"gold": spearman(gold, words), "recorded": spearman(gold + bias * words, words)}


def _texts(bias: float) -> list[world.Conversation]:
    return [c for part in PARTS for c in world.rated(RATED, bias)[part].conversations]


def _words(conversations: list[world.Conversation]) -> torch.Tensor:
    return torch.tensor([len(c[-1]["content"].split()) for c in conversations]).double()


def _score(head: MixedHead, features: str, conversations: list[world.Conversation]) -> torch.Tensor:
    return _law(head, features, conversations).mean().double()


def _law(head: MixedHead, features: str, conversations: list[world.Conversation]) -> RewardDistribution:
    embedded = world.embedded(features, conversations)
    return head.raw(*head_inputs(head, conversations, embedded))
