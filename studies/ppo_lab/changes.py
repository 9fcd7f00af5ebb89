"""Policies where something has changed since their reward was fitted: the runs of `shift` and `unseen`.

In: a seed. Out: what people think of the answers, before and after.

`shift`: the crowd changes from scientists and teachers to teenagers and artists. The reward is the mean of a
categorical model for each persona, weighted by shares of the population: those of the old crowd, those that
`PopulationUpdater` makes of a few hundred ratings by people of the new crowd whose personas are not known,
and the new crowd's true shares.

`unseen`: a task of each kind is left out, of the ratings and of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from pluralign.heads import vote_likelihoods
from pluralign.lab import PERSONAS
from pluralign.lab.world import PROMPTS, Message
from studies.lab_policy.world import CROWD, Responses
from studies.ppo_lab import world
from studies.ppo_lab.training import EQUAL, online
from studies.ppo_lab.world import FAMILIES, PAIRS, RATED, RATERS, Lab, lab

NAMES = [persona.name for persona in PERSONAS]
OLD = {"scientist": 0.5, "teacher": 0.5}
NEW = {"teenager": 0.6, "artist": 0.4}
HEARD = 300  # ratings by the new crowd, one person each
STRENGTH = 20.0  # of the old shares, in people; a tenth of it is spread over all personas
LEFT_OUT = ("polish", "paint", "store", "present")  # one task of each kind

Conversations = Sequence[Sequence[Message]]


def shift(seed: int) -> dict[str, Any]:
    """Policies for the old crowd, for the updated one and for the new one, as the new crowd sees them."""
    own = lab(seed)
    models = [persona_model(own, name) for name in NAMES]
    updated = estimated_shares(models, seed)
    shares = {"old": _shares(OLD), "updated": updated, "new": _shares(NEW)}
    after = _shares(NEW)
    answers = {"before": own.untrained["responses"]}
    for name, weights in shares.items():
        reward = _mixed(models, weights)
        made = own.answers(f"shift-{name}", lambda reward=reward: online(own, reward, "mean", **EQUAL))
        answers[name] = made["responses"]
    return {
        "shares": {name: dict(zip(NAMES, w.tolist(), strict=True)) for name, w in shares.items()},
        "gold": {name: float((world.people(r) @ after).mean()) for name, r in answers.items()},
        "against_old": {
            name: _under(after, world.wins(answers[name], answers["old"])) for name in ("updated", "new")
        },
        "against_before": {
            name: _under(after, world.wins(answers[name], answers["before"])) for name in shares
        },
    }


def persona_model(own: Lab, name: str) -> pl.RewardModel:
    """A categorical model of one persona's ratings; fitted where it is not there yet."""
    path = own.folder / f"persona-{name}"
    if not path.exists():
        backbone = pl.backbones.load(str(own.base), pooling="last_mean", num_threads=1)
        ratings = pl.lab.Crowd(population={name: 1.0}).ratings(RATED, RATERS, seed=400 + own.seed)
        _, config = FAMILIES["categorical"]
        made = pl.fit("categorical", ratings=ratings, backbone=backbone, config=config, progress=False)
        made.save_pretrained(path)
    return pl.RewardModel.from_pretrained(path, cache=None)


def estimated_shares(models: Sequence[pl.RewardModel], seed: int) -> Tensor:
    """The shares of personas after `HEARD` ratings by the new crowd, [6]."""
    crowd = pl.lab.Crowd(population=NEW)
    texts = crowd.conversations(HEARD, seed=500 + seed, responses_per_prompt=1)
    ratings = crowd.rating_truth(texts).sample(1, generator=torch.Generator().manual_seed(seed))[:, 0]
    found = [model.attribute_distributions(texts, on_grid=True)["overall"] for model in models]
    atoms = found[0].atoms
    places = (ratings[:, None].double() - atoms.double()).abs().argmin(1)
    counts = dict(zip(NAMES, (STRENGTH * (0.9 * _shares(OLD) + 0.1 / len(NAMES))).tolist(), strict=True))
    updater = pl.PopulationUpdater(counts, weight="vote")
    updater.update(vote_likelihoods(places, torch.stack([one.probs for one in found], 1)), 0.0)
    return updater.posterior().double()


def _shares(given: dict[str, float]) -> Tensor:
    return torch.tensor([given.get(name, 0.0) for name in NAMES], dtype=torch.float64)


def _mixed(models: Sequence[pl.RewardModel], weights: Tensor) -> Callable[[Conversations], list[float]]:
    """The mean rating by a crowd of these shares, as the models of its personas see it."""

    def reward(conversations: Conversations) -> list[float]:
        means = [model.attribute_distributions(conversations)["overall"].mean() for model in models]
        return (torch.stack(means, 1).double() @ weights).tolist()

    return reward


def _under(shares: Tensor, won: dict[str, list[float]]) -> dict[str, float]:
    """Pairs won and lost, for a person drawn from a population."""
    return {side: float(torch.tensor(found, dtype=torch.float64) @ shares) for side, found in won.items()}


def unseen(seed: int) -> dict[str, Any]:
    """Gold before and after, on held-out prompts of tasks that were seen and of those that were left out."""
    own = lab(seed)
    tasks = {prompt.text: prompt.task for prompt in PROMPTS}
    path = own.folder / "bradley_terry-unseen"
    if not path.exists():
        drawn = CROWD.pairs(PAIRS, seed=200 + own.seed)
        seen = [i for i, prompt in enumerate(drawn["prompt"]) if tasks[prompt[-1]["content"]] not in LEFT_OUT]
        backbone = pl.backbones.load(str(own.base), pooling="last_mean", num_threads=1)
        pl.fit("bradley_terry", pairs=drawn.select(seen), backbone=backbone, progress=False).save_pretrained(
            path
        )
    model = pl.RewardModel.from_pretrained(path, cache=None)
    prompts = [prompt for prompt in own.trained if prompt.task not in LEFT_OUT]
    made = own.answers("unseen", lambda: online(own, model, "mean", prompts=prompts, **EQUAL))
    found: dict[str, Any] = {"prompts": len(prompts)}
    for name, left_out in (("seen", False), ("left_out", True)):
        rows = [i for i, prompt in enumerate(own.held_out) if (prompt.task in LEFT_OUT) == left_out]
        found[name] = {
            "prompts": len(rows),
            "before": _gold(own.untrained["responses"], rows),
            "after": _gold(made["responses"], rows),
        }
    return found


def _gold(responses: Responses, rows: list[int]) -> float:
    """The crowd's mean judgement of the answers to some prompts."""
    gold = CROWD.gold(responses.conversations).reshape(len(responses.prompts), -1)
    return float(gold[rows].mean())
