"""Debiasing in the lab: how far scores follow length, before and after, and what it costs or wins.

In:  features, seeds, and how much every rater over-rates each word. Out: rank correlations with the number of
words, and accuracy on pairs of unseen prompts against the crowd as it votes and against what it likes without
the bias.

At a bias of 0 length is worth what the crowd says: longer texts hold more details. At 0.05 rating units per
word (half a unit between short and ordinary texts) ratings, votes and training pairs are all tilted, and the
truth is not.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from pluralign.backbones import Embeddings
from pluralign.distributions import RewardDistribution
from pluralign.fitting import QuantileConfig
from pluralign.fitting.linear import quantile
from pluralign.fitting.mix.mixing import add_mixing
from pluralign.heads import MixedHead, QuantileHead
from pluralign.lab.personas import VALUED
from pluralign.model.inputs import head_inputs
from pluralign.rank_correlation import spearman
from studies.qrm_lab import world
from studies.qrm_lab.gate import PARTS, SHAPES

BIASES = (0.0, 0.05)
RATED = (*VALUED, "verbosity")
RATED_TEXTS = 2000
PAIRS = 5000
L1 = 0.003  # QRM's own, and what the search chooses for MiniLM and so many ratings
TREATMENTS: dict[str, dict[str, Any]] = {
    "none": {},
    "dropped": {},
    "verbosity, shift": {"debias": "verbosity"},
    "verbosity, parity": {"debias": "verbosity", "debias_coupling": "parity"},
    "length": {"debias": "tokens"},  # a number comes off: shift and parity are the same
    "length, verbosity kept": {"debias": "tokens"},
}
# Taking tokens off leaves verbosity, which is length, as it is: no lambda suffices. These go without it.
FOUR = ("dropped", "length")


def grid(seed: int) -> list[dict[str, Any]]:
    """Both features and both crowds."""
    return [{"features": f, "bias": b, "seed": seed} for f in ("minilm", "traits") for b in BIASES]


def run(features: str, bias: float, seed: int) -> dict[str, Any]:
    """One fit of the attributes, then each treatment with a gate of its own."""
    part = world.rated(RATED, bias)["train"]
    rows = world.dealt(RATED_TEXTS, len(part.conversations), seed)
    table = world.ratings_table(part, rows, seed)
    pairs = world.paired(bias)["train"]
    pairs_table = world.pairs_table(pairs, world.dealt(PAIRS, len(pairs.groups), 100 + seed), seed)
    config = QuantileConfig(l1=L1, baselines=False, gate=False, seed=seed)
    fitted = quantile.fit(world.inputs(features, ratings=table), config).head
    assert isinstance(fitted, QuantileHead)
    conversations = [part.conversations[i] for i in rows.tolist()]
    embedded = world.embedded(features, conversations)
    result: dict[str, Any] = {"crowd": _of_crowd(bias)}
    for name, options in TREATMENTS.items():
        head = _without_verbosity(fitted) if name in FOUR else fitted
        mixing = QuantileConfig(**SHAPES["small"], **options)
        head, facts = add_mixing(
            head, world.inputs(features, pairs=pairs_table), mixing, conversations, embedded, seed=seed
        )
        result[name] = _errors(head, features, bias)
        if "debias" in facts:
            result[name] |= {k: facts["debias"][k] for k in ("lambdas", "spearman_before", "spearman_after")}
    return result


def _without_verbosity(head: QuantileHead) -> QuantileHead:
    return QuantileHead(
        head.scaling, head.weight[:-1], head.bias[:-1], head.levels, head.attributes[:-1], mix=head.mix
    )


def _errors(head: MixedHead, features: str, bias: float) -> dict[str, float]:
    """Correlation with length on unseen prompts, and accuracy on their pairs."""
    distribution, words = _predicted(head, features, bias, "rated"), _words(_conversations(bias, "rated"))
    a, b = (_predicted(head, features, bias, side).mean() for side in ("first", "second"))
    first = a > b
    pairs = [world.paired(bias)[part] for part in PARTS]
    voted, fair = (torch.cat([getattr(p, name) for p in pairs]) for name in ("voted", "win"))
    return {
        "spearman": spearman(distribution.mean().double(), words) or 0.0,
        "spearman_of_cvar": spearman(distribution.cvar(0.1).double(), words) or 0.0,
        "spearman_of_std": spearman(distribution.std().double(), words) or 0.0,
        "spread": float(distribution.std().mean() / distribution.mean().std()),
        "voted": float(torch.where(first, voted, 1 - voted).mean()),
        "fair": float(torch.where(first, fair, 1 - fair).mean()),
        "gold": float((first == torch.cat([p.gold for p in pairs])).double().mean()),
    }


def _predicted(head: MixedHead, features: str, bias: float, what: str) -> RewardDistribution:
    return head.raw(*head_inputs(head, _conversations(bias, what), _embedded(features, bias, what)))


@functools.cache
def _embedded(features: str, bias: float, what: str) -> Embeddings:
    return world.embedded(features, _conversations(bias, what))


def _conversations(bias: float, what: str) -> list[world.Conversation]:
    """On unseen prompts: the `rated` texts, or the `first` or `second` side of the pairs."""
    if what == "rated":
        return [c for part in PARTS for c in world.rated(RATED, bias)[part].conversations]
    return [c for part in PARTS for c in getattr(world.paired(bias)[part], what)]


@functools.cache
def _of_crowd(bias: float) -> dict[str, float]:
    """How far the crowd's own mean judgement follows length, as it is and as it is recorded."""
    texts = _conversations(bias, "rated")
    gold, words = world.crowd().gold(texts), _words(texts)
    return {"gold": spearman(gold, words) or 0.0, "recorded": spearman(gold + bias * words, words) or 0.0}


def _words(conversations: list[world.Conversation]) -> torch.Tensor:
    return torch.tensor([len(c[-1]["content"].split()) for c in conversations]).double()
