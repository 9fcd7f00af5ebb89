"""Following a crowd that changes: the updaters against refitting, error and processor time, in the lab.

Votes for the six categories come in STEPS batches over time 0 to 1, 900 at a time (`dense`) or 30 (`sparse`).
After each batch every method predicts the categories' probabilities of the texts that are voted on (`items`)
and of texts that nobody votes on (`others`); the error is the Wasserstein-1 distance to the exact
distribution at that time, in units of the categories' rewards.

Features are the lab's own traits, so that no error comes from what a backbone misses. All start from a panel
at time 0 in which people of known persona vote; the updaters' personas are models fitted on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

import pluralign as pl
from pluralign.heads import vote_likelihoods
from pluralign.lab import CATEGORY_REWARDS, PERSONAS, POPULATION
from studies.brme.world import TraitBackbone

ITEMS, OTHERS, STEPS = 300, 150, 20
PANEL = 3  # votes per item and persona
REFIT_EVERY, WINDOW = 4, 5  # in steps; the windowed refit sees the votes of the last WINDOW
HALF_LIVES = (None, 0.5, 0.2, 0.1, 0.05)
ITEM_STRENGTH, POPULATION_STRENGTH = 5.0, 20.0
L2 = 0.003  # the best of 1e-4, 1e-3, 3e-3 ... 0.1 for the refit, by its error on seed 0
NAMES = [persona.name for persona in PERSONAS]

VOTES = {"dense": 900, "sparse": 30}  # per step

# scenario -> population at time 0 and at time 1; `contradiction` also turns every vote round at half time.
SCENARIOS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "steady": (POPULATION, POPULATION),
    "shift": ({"scientist": 0.5, "teacher": 0.5}, {"teenager": 0.6, "artist": 0.4}),
    "heterogeneity": ({"teacher": 1.0}, dict.fromkeys(NAMES, 1.0)),
    "contradiction": (POPULATION, POPULATION),
}


class World:
    """Texts, the personas' exact distributions, and votes drawn from them."""

    def __init__(self, scenario: str, seed: int) -> None:
        self.rng = np.random.default_rng([seed, list(SCENARIOS).index(scenario)])
        self.turns = scenario == "contradiction"
        self.texts = pl.lab.Crowd(seed=0).conversations(ITEMS + OTHERS, seed=seed, responses_per_prompt=1)
        distributions = [pl.lab.Crowd(population={name: 1.0}).category_truth(self.texts) for name in NAMES]
        self.distributions = torch.stack(distributions, 1)  # [N, P, 6]
        start, end = (self._shares(given) for given in SCENARIOS[scenario])
        self.start, self.change = start, end - start

    def _shares(self, given: dict[str, float]) -> np.ndarray:
        shares = np.array([given.get(name, 0.0) for name in NAMES])
        return shares / shares.sum()

    def weights(self, when: float) -> np.ndarray:
        """Shares of the personas at a time."""
        return self.start + when * self.change

    def turned(self, when: float) -> bool:
        """Whether everybody now says the opposite: category k becomes 5 - k."""
        return self.turns and when >= 0.5

    def truth(self, when: float) -> Tensor:
        """The exact distribution of a vote on every text, [N, 6]."""
        distribution = torch.einsum("p,npc->nc", torch.tensor(self.weights(when)), self.distributions)
        return distribution.flip(1) if self.turned(when) else distribution

    def votes(self, when: float, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Votes at a time, [count] each: the item, who votes as an index of personas, and for what.

        Items have turns, each as often as any other up to one.
        """
        rounds = [self.rng.permutation(ITEMS) for _ in range(-(-count // ITEMS))]
        rows = np.concatenate(rounds)[:count]
        people = self.rng.choice(len(NAMES), size=count, p=self.weights(when))
        said = self.say(rows, people)
        return rows, people, (5 - said if self.turned(when) else said)

    def say(self, rows: np.ndarray, people: np.ndarray) -> np.ndarray:
        """What people of these personas say of these items, [V]."""
        distributions = self.distributions.numpy()[rows, people]
        return (distributions.cumsum(-1) < self.rng.random(len(rows))[:, None]).sum(-1).clip(max=5)


def fitted(world: World, rows: np.ndarray, votes: np.ndarray) -> Tensor:
    """The categorical family on votes of items, [V] each: its probabilities of all texts, [N, 6]."""
    by_item: dict[int, list[float]] = {}
    for row, vote in zip(rows.tolist(), votes.tolist(), strict=True):
        by_item.setdefault(row, []).append(float(vote))
    table = [
        {
            "id": str(i),
            "prompt": world.texts[i][:-1],
            "response": world.texts[i][-1]["content"],
            "attribute": "category",
            "ratings": said,
            "scale": [0.0, 5.0],
            "group": str(i),
        }
        for i, said in by_item.items()
    ]
    config = {"loss": "cross_entropy", "l2": L2, "baselines": False}
    ratings = datasets.Dataset.from_list(table)
    model = pl.fit("categorical", ratings=ratings, backbone=TraitBackbone(), config=config, cache=None)
    distribution = model.attribute_distributions(world.texts)["category"]
    assert isinstance(distribution, pl.Categorical)
    assert distribution.probs.shape[1] == len(CATEGORY_REWARDS), (
        "a category without votes must keep its place"
    )
    return distribution.probs.double()


def error(predicted: Tensor, truth: Tensor) -> dict[str, float]:
    """Mean Wasserstein-1 distance over the items and over the other texts; NaN-free by construction."""
    first, second = (
        pl.Categorical(probs, CATEGORY_REWARDS) for probs in (predicted, truth[: len(predicted)])
    )
    distance = first.wasserstein(second)
    parts = {"items": float(distance[:ITEMS].mean())}
    return parts | ({"others": float(distance[ITEMS:].mean())} if len(predicted) > ITEMS else {})


def grid(seed: int) -> list[dict[str, Any]]:
    """Every stream."""
    return [{"scenario": scenario, "votes": votes, "seed": seed} for scenario in SCENARIOS for votes in VOTES]


def run(scenario: str, votes: str, seed: int) -> dict[str, Any]:
    """One stream, all methods."""
    world = World(scenario, seed)
    voted_on = np.arange(ITEMS).repeat(PANEL)
    panel = [world.say(voted_on, np.full(len(voted_on), p)) for p in range(len(NAMES))]
    personas = torch.stack([fitted(world, voted_on, categories) for categories in panel], 1)  # [N, P, 6]
    prior = torch.einsum("p,npc->nc", torch.tensor(world.start), personas)
    counts = dict(zip(NAMES, POPULATION_STRENGTH * (0.9 * world.start + 0.1 / len(NAMES)), strict=True))
    start = pl.Categorical(prior[:ITEMS], CATEGORY_REWARDS)
    items = {
        ("items" if fade else "kept", h): pl.PreferenceUpdater(
            start, h, strength=ITEM_STRENGTH, fade_prior=fade
        )
        for fade in (True, False)
        for h in HALF_LIVES
    }
    unknown = {h: pl.PopulationUpdater(counts, h, weight="vote") for h in HALF_LIVES}
    kinds = {n: n for n in NAMES}  # every vote is a stranger's, of a kind that is known
    known = {h: pl.PopulationUpdater(counts, h, raters=kinds, weight="vote") for h in HALF_LIVES}
    # A refit may use the panel too: as many of its votes per text as the population had then.
    people = world.rng.choice(len(NAMES), size=len(voted_on), p=world.start)
    history = [(voted_on, np.stack(panel)[people, np.arange(len(voted_on))])]
    curves: dict[str, dict[str, list[Any]]] = {}

    def note(method: str, when: float, predict: Callable[[], Tensor]) -> None:
        started = time.process_time()
        predicted = predict()
        seconds = time.process_time() - started
        curve = curves.setdefault(method, {"time": [], "seconds": [], "items": [], "others": []})
        for key, value in {"time": when, "seconds": seconds, **error(predicted, world.truth(when))}.items():
            curve[key].append(value)

    def people_after(updater: pl.PopulationUpdater, *cast: Any, **who: Any) -> Tensor:
        return updater.update(*cast, **who).predict(personas, CATEGORY_REWARDS).probs

    def step(when: float) -> None:
        rows, people, categories = world.votes(when, VOTES[votes])
        history.append((rows, categories))
        named = [NAMES[p] for p in people]
        note("start", when, lambda: prior)
        for h in HALF_LIVES:
            name = "none" if h is None else f"{h:g}"
            for kind in ("items", "kept"):  # kept: the prior does not fade
                add = partial(items[kind, h].update, categories, when, items=rows)
                note(f"{kind} {name}", when, lambda add=add: add().posterior().probs)
            note(f"known {name}", when, partial(people_after, known[h], None, when, raters=named))
            likelihoods = partial(vote_likelihoods, categories, personas[rows])
            note(
                f"unknown {name}",
                when,
                lambda h=h, made=likelihoods: people_after(unknown[h], made(), when),
            )
        if len(history) % REFIT_EVERY != 1:  # the panel is one of them
            return
        for name, past in (("all", history), ("window", history[-WINDOW:])):
            given = [np.concatenate(part) for part in zip(*past, strict=True)]
            note(f"refit {name}", when, partial(fitted, world, *given))

    for k in range(STEPS):
        step((k + 0.5) / STEPS)
    return {"curves": curves, "constants": constants()}


def constants() -> dict[str, Any]:
    """Sizes and strengths that all streams share."""
    names = ("ITEMS", "OTHERS", "STEPS", "VOTES", "PANEL", "REFIT_EVERY", "WINDOW", "L2")
    return {name.lower(): globals()[name] for name in names} | {
        "item_strength": ITEM_STRENGTH,
        "population_strength": POPULATION_STRENGTH,
    }
