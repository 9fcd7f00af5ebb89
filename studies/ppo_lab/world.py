"""What runs of PPO in the lab work with: prompts, reward models, answers, and what people think of them.

In: a seed. Out: a `Lab`. Reward models, and the answers of every policy that was trained, lie in the work
folder. It trains no policy.

The language model, and how a seed draws prompts, are those of `studies.lab_policy.world`; reward models see
the language model's own states, and amounts of data are those of `studies.over_optimisation`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from pluralign.lab import PERSONAS
from pluralign.lab.outcomes import measure_samples
from studies import records
from studies.lab_policy.world import CROWD, Responses, World, base_model, sample, token_log_probs

WORK = records.WORK / "ppo_lab"
RATED, RATERS, PAIRS = 2000, 5, 5000
LEARNED = 4  # answers to each of 256 prompts, which offline methods learn from
JUDGED = 2  # answers of a trained policy to each of 128 held-out prompts
# family -> what it is fitted on, and its config
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bradley_terry": ("pairs", {}),
    "quantile": ("ratings", {"baselines": False}),
    "categorical": ("ratings", {"baselines": False, "loss": "transport"}),
    "gaussian_ensemble": ("ratings", {"baselines": False}),
}


@functools.cache
def lab(seed: int) -> Lab:
    """What runs of a seed share."""
    return Lab(seed)


class Lab(World):
    """The world of a seed, with a reward model of every family."""

    def __init__(self, seed: int) -> None:
        super().__init__(WORK, seed)

    @functools.cache  # noqa: B019 (one for each seed, for as long as the process runs)
    def reward_model(self, family: str) -> pl.RewardModel:
        """The reward model of a family; fitted where it is not there yet."""
        path = self.folder / family
        if not path.exists():
            kind, config = FAMILIES[family]
            backbone = pl.backbones.load(str(self.base), pooling="last_mean", num_threads=1)
            drawn = 200 + self.seed
            data = (
                CROWD.pairs(PAIRS, seed=drawn)
                if kind == "pairs"
                else CROWD.ratings(RATED, RATERS, seed=drawn)
            )
            made = pl.fit(family, **{kind: data}, backbone=backbone, config=config, progress=False)
            made.save_pretrained(path)
        return pl.RewardModel.from_pretrained(path, cache=None)

    @functools.cached_property
    def learned_from(self) -> Responses:
        """The language model's answers that offline methods learn from."""
        return self.kept("learned_from", lambda: self._sample(self.trained, LEARNED, 1))

    @functools.cached_property
    def untrained(self) -> dict[str, Any]:
        """The language model's answers to the held-out prompts, as `answers` gives them."""
        return self.answers("untrained", lambda: (base_model(self.base), []))

    def answers(self, name: str, train: Callable[[], tuple[Any, list[dict[str, float]]]]) -> dict[str, Any]:
        """Answers of a policy to the held-out prompts, with log-ratios; it is trained if they are not kept.

        Args:
            name: of the policy.
            train: gives the model, and its evaluations on the way.

        Returns:
            `responses`, `ratios` [B, T] and `path`, the evaluations.
        """
        found: dict[str, Any] = self.kept(
            f"answers-{name.replace(':', '-')}", lambda: self._answers(*train())
        )
        return found

    def _answers(self, model: Any, path: list[dict[str, float]]) -> dict[str, Any]:
        responses, tokens = sample(model, self.held_out, JUDGED, seed=1000 * self.seed + 9)
        base = base_model(self.base)
        with torch.inference_mode():
            ratios = [
                token_log_probs(model, *part) - token_log_probs(base, *part)
                for part in zip(*(t.split(128) for t in tokens), strict=True)
            ]
        return {"responses": responses, "ratios": torch.cat(ratios), "path": path}


def people(responses: Responses) -> Tensor:
    """The mean judgement of every persona, [prompts, answers, 6]."""
    found = CROWD.utilities(responses.conversations)
    return found.reshape(len(responses.prompts), -1, len(PERSONAS))


def outcome(answers: dict[str, Any]) -> dict[str, float]:
    """Means over answers of what `pluralign.lab.outcomes` measures."""
    samples = answers["responses"].samples(log_ratios=answers["ratios"])
    columns = measure_samples(CROWD, samples)
    kept = ("gold", "tail", "harm", "words", "broken", "kl", "kl_k3")
    return {name: float(columns[name].mean()) for name in kept}


def wins(ours: Responses, others: Responses) -> dict[str, list[float]]:
    """Per persona, the share of pairs of answers to one prompt in which each side would be rated higher.

    Judgements are rounded to ratings first, so that a pair may be a tie.
    """
    mine, theirs = (people(one).round()[:, :, None] for one in (ours, others))
    theirs = theirs.transpose(1, 2)
    return {
        "won": (mine > theirs).double().mean((0, 1, 2)).tolist(),
        "lost": (mine < theirs).double().mean((0, 1, 2)).tolist(),
    }


def pairs(lab_: Lab, utilities: Callable[[Sequence[Any]], Tensor], seed: int) -> list[dict[str, Any]]:
    """Pairs of answers for offline methods: every answer once, rewards in standard deviations."""
    drawn = lab_.learned_from
    rewards = utilities(drawn.conversations).double().reshape(len(drawn.prompts), -1)
    rewards = (rewards - rewards.mean()) / rewards.std()
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for place, prompt in enumerate(drawn.prompts):
        order = torch.randperm(rewards.shape[1], generator=generator).tolist()
        for pair in zip(order[::2], order[1::2], strict=True):
            better, worse = sorted(pair, key=lambda one, place=place: -float(rewards[place, one]))
            row: dict[str, Any] = {"prompt": prompt.messages, "ref_rewards": rewards[place].tolist()}
            for side, one in (("chosen", better), ("rejected", worse)):
                row[side] = drawn.texts[place][one]
                row[f"cut_off_{side}"] = bool(drawn.cut_off[place, one])
                row[f"reward_{side}"] = float(rewards[place, one])
            rows.append(row)
    return rows
