"""The lab's crowd weighs attributes by the kind of prompt: a gate on its pairs has to find that.

The backbone here reads the lab's own traits, so that what is tested is the gate and not an encoder.
"""

from __future__ import annotations

import functools

import pytest
import torch

import pluralign as pl
from fake_backbone import FakeBackbone
from pluralign.backbones import Embeddings, EmbeddingStats
from pluralign.lab import parser, world
from pluralign.lab.personas import VALUED

KINDS = tuple(world.KINDS)


@functools.cache
def read_once(*turns):
    """Traits [1, T] and the kind of prompt of one conversation."""
    traits, (kind,) = parser.read([[{"role": role, "content": content} for role, content in turns]])
    return traits, kind


class TraitBackbone(FakeBackbone):
    """Responses: traits and how far each is saturated. Prompts: which kind, and a little noise by text."""

    def embed(self, conversations, *, cache=None, progress=None):
        found = [read_once(*[(turn["role"], turn["content"]) for turn in one]) for one in conversations]
        traits, kinds = torch.cat([one for one, _ in found]), [kind for _, kind in found]
        response = torch.cat([traits, -torch.expm1(-traits)], 1).float()
        prompt = torch.tensor([[float(kind == k) for k in KINDS] for kind in kinds]).reshape(-1, len(KINDS))
        words = torch.tensor([len(c[-1]["content"].split()) for c in conversations], dtype=torch.int64)
        stats = EmbeddingStats(conversations=len(kinds))
        return Embeddings(response, prompt, words, torch.zeros(len(kinds), dtype=torch.bool), stats)


def outcomes(model, pairs, **options):
    chosen, rejected = (
        model.score(
            [[*row["prompt"], {"role": "assistant", "content": row[side]}] for row in pairs], **options
        )
        for side in ("chosen", "rejected")
    )
    return (chosen > rejected).double()


@pytest.fixture(scope="module")
def crowd():
    return pl.lab.Crowd(seed=0)


@pytest.fixture(scope="module")
def tables(crowd):
    """Ratings, pairs for the gate, and pairs on other prompts."""
    _, held_out = pl.split(crowd.pairs(6000, seed=2), test_share=0.25)
    train = pl.split(crowd.pairs(3000, seed=3), test_share=0.25)[0]
    assert not set(train["group"]) & set(held_out["group"])
    return crowd.ratings(800, 5, VALUED, seed=1), train, held_out


@pytest.mark.parametrize("family", ["quantile", "regression"])
def test_the_gate_finds_the_crowds_weights_on_prompts_it_has_not_seen(crowd, tables, family):
    ratings, train, held_out = tables
    config = {
        "baselines": False,
        "gate_hidden": 32,
        "gate_layers": 1,
        "gate_batch": 256,
        "gate_steps": 200,
        "gate_eval_every": 20,
        "gate_lr": 0.01,
        "gate_temperature": 1.0,
    } | ({"l1": 0.001, "levels": (0.1, 0.3, 0.5, 0.7, 0.9)} if family == "quantile" else {"l2": 0.01})
    model = pl.fit(family, ratings=ratings, pairs=train, backbone=TraitBackbone(), cache=None, config=config)
    gated, equal = outcomes(model, held_out), outcomes(model, held_out, weights=[1, 1, 1, 1])
    gain = gated - equal
    assert float(gain.mean()) > 2 * float(gain.std()) / len(gain) ** 0.5
    assert float(gain.mean()) > 0.01
    names = [a.name for a in model.head.attributes]
    weights = model.gate_weights(
        [[*row["prompt"], {"role": "assistant", "content": "x"}] for row in held_out]
    )
    # Each attribute weighs most in the kind of prompt where the crowd weighs it most.
    for name in ("safety", "courtesy", "conciseness"):
        truth = {kind: crowd.attribute_weights(kind)[name] for kind in KINDS}
        found = {
            kind: float(weights[[s == kind for s in held_out["subset"]], names.index(name)].mean())
            for kind in KINDS
        }
        assert max(found, key=found.get) == max(truth, key=truth.get), (name, found, truth)
