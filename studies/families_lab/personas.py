"""Votes of other people than the target crowd: what a head that learned one crowd predicts of another.

In:  features, seed. Out: numbers by crowd and loss.

Each crowd votes on the same responses; a head is fitted on its votes and compared with the exact distribution
of that crowd (`own`) and of everybody (`everybody`). `apart` is how far the two exact distributions are from
each other: the error that a perfect model of the wrong people would make. A panel is a few people, drawn anew
for each seed, who vote on everything; what they say is learned as if they were the crowd.
"""

from __future__ import annotations

from typing import Any

import torch

import pluralign as pl
from pluralign.fitting.categorical import recipe as categorical
from pluralign.lab import POPULATION
from studies.families_lab import reward_tables as tables
from studies.families_lab import world

LOSSES = ("transport", "cross_entropy")
PANELS = (3, 10, 30)
TEENAGERS = {name: 0.5 if name == "teenager" else share / 1.6 for name, share in POPULATION.items()}
# name -> what makes the crowd another one
CROWDS: dict[str, dict[str, Any]] = {
    "everybody": {},
    "equal shares": {"population": dict.fromkeys(POPULATION, 1.0)},
    "no teenagers": {"population": {n: s for n, s in POPULATION.items() if n != "teenager"}},
    "half of them teenagers": {"population": TEENAGERS},
    "scientists and teachers": {"population": {"scientist": 1.0, "teacher": 1.0}},
    "teenagers and artists": {"population": {"teenager": 1.0, "artist": 1.0}},
    "half the noise": {"noise": 0.5},
    "twice the noise": {"noise": 2.0},
}


def grid(seed: int) -> list[dict[str, Any]]:
    """The runs of a seed."""
    return [{"features": f, "seed": seed} for f in ("traits", "minilm")]


def run(features: str, seed: int) -> dict[str, Any]:
    """Every crowd with every loss, at the penalty that is best for everybody."""
    everybody = pl.lab.Crowd(seed=0)
    penalty: dict[str, float] = {}
    result: dict[str, Any] = {}
    for name, options in {**CROWDS, **_panels(seed)}.items():
        crowd = pl.lab.Crowd(seed=0, **options)
        table = tables.votes(crowd, seed)
        own = crowd.category_truth(world.held_out())
        entry: dict[str, Any] = {
            "apart": tables.errors(own, everybody),
            "constant": tables.errors(tables.average(table), crowd),
            "entropy": float(-torch.special.xlogy(own, own).sum(-1).mean()),
        }
        for loss in LOSSES:
            config = world.categorical(
                loss, tables.RESPONSES, seed, l2=penalty.get(loss), l2_grid=tables.L2_GRID
            )
            distribution, fitted = world.fitted_distribution(categorical.fit, config, features, table)
            penalty.setdefault(loss, fitted.summary["l2"]["category"])
            entry[loss] = {
                "own": tables.errors(distribution.probs, crowd),
                "everybody": tables.errors(distribution.probs, everybody),
            }
        result[name] = entry
    return {"l2": penalty, "crowds": result}


def _panels(seed: int) -> dict[str, dict[str, Any]]:
    """A crowd of so many people of everybody's personas, for ever the same people."""
    names, shares = list(POPULATION), torch.tensor(list(POPULATION.values()))
    generator = torch.Generator().manual_seed(40_000 + seed)
    found = {}
    for size in PANELS:
        people = torch.multinomial(shares, size, replacement=True, generator=generator)
        counts = torch.bincount(people, minlength=len(names)).tolist()
        found[f"a panel of {size}"] = {"population": dict(zip(names, map(float, counts), strict=True))}
    return found
