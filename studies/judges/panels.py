"""Panels of five simulated judges, and four ways of averaging their scores.

In: a panel and a seed. Out: how well each way ranks responses by the crowd's true mean (`gold`), and what the
best of a pool is worth.

A judge sees the standardised gold z of a response with its own error, and writes a number on its scale:

    score = round(clip(centre + gain * f(z + bias * length + noise * e)))

f is the identity, or exp for a judge that praises the best out of proportion. e is normal and a text has the
same one whenever it is judged, as the cache of `JudgeSource` keeps answers. Scales are measured on
references, which are not among the texts that are ranked.

    raw           mean of the scores as they are
    range         each score as a share of the judge's nominal scale
    standardised  each score minus the judge's mean over the references, divided by its standard deviation
    ranks         `pl.combine`: each score as the normal score of its rank among the references
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pluralign as pl
from pluralign.lab import parser
from pluralign.rank_correlation import spearman
from studies.study import Results, Settings

REFERENCES, TEXTS = 300, 600
PROMPTS, POOL = 48, 16
ELSEWHERE = 2000  # seed of the texts
METHODS = ("raw", "range", "standardised", "ranks")

Conversation = list[dict[str, str]]
CROWD = pl.lab.Crowd(seed=0)


@dataclass(frozen=True)
class Habit:
    """How a judge writes what it sees.

    Attributes:
        low, high: ends of its nominal scale.
        centre, gain: the score of a mean response, and of one standard deviation more.
        noise: standard deviation of its error, in those of gold.
        bias: what a standard deviation of length is worth to it.
        curved: whether it praises the best out of proportion.
    """

    low: float
    high: float
    centre: float
    gain: float
    noise: float = 1.0
    bias: float = 0.0
    curved: bool = False


_FIVE, _TEN, _HUNDRED = Habit(1, 5, 3, 1), Habit(1, 10, 5.5, 2), Habit(0, 100, 50, 18)


def _with(habit: Habit, **changes: Any) -> Habit:
    return Habit(**{**habit.__dict__, **changes})


PANELS: dict[str, tuple[Habit, ...]] = {
    "alike": (_TEN,) * 5,
    "scales": (_FIVE, _FIVE, _TEN, _TEN, _HUNDRED),
    "severity": (
        _TEN,
        _with(_TEN, centre=8, gain=0.7),
        _with(_TEN, centre=8.5, gain=0.7),
        _with(_TEN, centre=3, gain=1),
        _with(_TEN, centre=5, gain=3),
    ),
    "noise": tuple(_with(_TEN, noise=noise, gain=2 / (1 + noise**2) ** 0.5) for noise in (0.3, 0.6, 1, 2, 4)),
    "loud and noisy": (*(_with(_TEN, noise=0.5),) * 4, _with(_HUNDRED, noise=4)),
    "long": (*(_TEN,) * 4, _with(_TEN, bias=2.0)),
    "curved": (*(_TEN,) * 4, _with(_HUNDRED, centre=0, gain=8, curved=True)),
}


class SimulatedJudge:
    """A `Scorer` with one habit.

    Args:
        habit: how it scores.
        name: decides its errors.
    """

    def __init__(self, habit: Habit, name: str) -> None:
        self.habit, self._name = habit, name

    def scores(self, conversations: Sequence[Conversation]) -> Tensor:
        """[N], on its own scale."""
        seen = _true_values(conversations)
        errors = torch.tensor([_error(self._name, talk) for talk in conversations], dtype=torch.float64)
        value = seen[0] + self.habit.bias * seen[1] + self.habit.noise * errors
        value = value.exp() if self.habit.curved else value
        written = self.habit.centre + self.habit.gain * value
        return written.clamp(self.habit.low, self.habit.high).round()

    def distribution(self, conversations: Sequence[Conversation]) -> pl.RewardDistribution:
        """A point each."""
        return pl.distributions.Point(self.scores(conversations))


def _true_values(conversations: Sequence[Conversation]) -> tuple[Tensor, Tensor]:
    """Gold and length, standardised by the references'."""
    means, stds = _scale()
    read = _facts(conversations)
    return (read[0] - means[0]) / stds[0], (read[1] - means[1]) / stds[1]


def _facts(conversations: Sequence[Conversation]) -> tuple[Tensor, Tensor]:
    traits, _ = parser.read(conversations)
    return CROWD.gold(conversations).double(), traits[:, parser.TRAITS.index("length")].double()


@functools.cache
def _scale() -> tuple[list[float], list[float]]:
    facts = _facts(references())
    return [float(one.mean()) for one in facts], [float(one.std()) for one in facts]


def _error(name: str, talk: Conversation) -> float:
    """A standard normal number that the judge and the text decide."""
    text = f"{name}\0{talk[0]['content']}\0{talk[-1]['content']}"
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return float(np.random.default_rng(seed).normal())


@functools.cache
def references() -> list[Conversation]:
    """Responses on which scales are measured."""
    return CROWD.conversations(REFERENCES, seed=ELSEWHERE, responses_per_prompt=2)


@functools.cache
def texts() -> list[Conversation]:
    """Responses that are ranked."""
    return CROWD.conversations(TEXTS, seed=ELSEWHERE + 1, responses_per_prompt=2)


@functools.cache
def pools() -> list[Conversation]:
    """PROMPTS pools of POOL responses, one after the other."""
    return CROWD.conversations(PROMPTS * POOL, seed=ELSEWHERE + 2, responses_per_prompt=POOL)


def averages(judges: Sequence[SimulatedJudge], conversations: Sequence[Conversation]) -> dict[str, Tensor]:
    """The average of each method, [N]."""
    scores = torch.stack([judge.scores(conversations) for judge in judges], 1)
    known = torch.stack([judge.scores(references()) for judge in judges], 1)
    low = torch.tensor([judge.habit.low for judge in judges], dtype=torch.float64)
    high = torch.tensor([judge.habit.high for judge in judges], dtype=torch.float64)
    combined = pl.combine(list(judges), reference=references())
    return {
        "raw": scores.mean(1),
        "range": ((scores - low) / (high - low)).mean(1),
        "standardised": ((scores - known.mean(0)) / known.std(0)).mean(1),
        "ranks": combined.score(conversations).double(),
    }


def grid(seed: int) -> Iterable[Settings]:
    """Every panel."""
    return [{"panel": panel, "seed": seed} for panel in PANELS]


def run(panel: str, seed: int) -> Results:
    """Spearman with gold and gold of the best of a pool, of each method and of the judges alone."""
    judges = [SimulatedJudge(habit, f"{seed}:{panel}:{n}") for n, habit in enumerate(PANELS[panel])]
    ranked, chosen = averages(judges, texts()), averages(judges, pools())
    alone = {f"judge {n}": (judge.scores(texts()), judge.scores(pools())) for n, judge in enumerate(judges)}
    every = {name: (ranked[name], chosen[name]) for name in METHODS} | alone
    gold, pool_gold = _true_values(texts())[0], _true_values(pools())[0].reshape(PROMPTS, POOL)
    results: Results = {"best possible": float(pool_gold.amax(1).mean())}
    for name, (on_texts, on_pools) in every.items():
        best = on_pools.reshape(PROMPTS, POOL).argmax(1, keepdim=True)
        results[name] = {
            "spearman": spearman(on_texts, gold),
            "best": float(pool_gold.gather(1, best).mean()),
        }
    return results
