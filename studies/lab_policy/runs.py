"""The lab's policy study as a list of runs, and the training table that each run learns from.

In: a `World`, a `Run`. Out: a `datasets.Dataset` for `OfflineTrainer`. It trains and measures nothing.

Every run sees 4 responses to each of 256 prompts once (the arm `double`: 8), sampled from the language model
unless they are the behaviour policy's own. Pairs are two of them drawn at random, so that all methods see the
same texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

import pluralign as pl
from studies.lab_policy.world import World

SEEDS = (0, 1, 2, 3, 4)
SEARCH_SEED = 5  # grids are searched on a seed of its own

# method -> betas and learning rates that are tried
GRIDS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "qrpo": ((0.03, 0.1, 0.3, 1.0), (1e-4, 3e-4, 1e-3)),
    "rebel": ((0.1, 0.3, 1.0, 3.0), (1e-4, 3e-4, 1e-3)),
    "dpo": ((0.03, 0.1, 0.3, 1.0, 3.0), (3e-5, 1e-4, 3e-4)),
    "simpo": ((0.5, 2.0, 10.0), (3e-5, 1e-4, 3e-4)),
}
NUM_REFERENCES = (1, 3, 10, 30, 50)
RISKS = ("cvar:0.25", "entropic:1", "quantile:0.1")

Settings = dict[str, tuple[float, float]]  # method -> best (beta, learning rate)


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        arm: what it is for; runs of one arm and label differ in the seed only.
        label: what distinguishes it within the arm.
        seed: of the world and of the order of the data.
        method: `qrpo`, `rebel`, `dpo` or `simpo`.
        beta: of the objective; rewards are in standard deviations over the language model's responses.
        learning_rate: highest of the schedule.
        reward: `gold`, or a risk measure of the proxy.
        told: what of the reward the loss is told: `reward`, its `rank` among the prompt's 16 responses, or
            only the `winner` of each pair.
        transform: of quantile rewards, in QRPO.
        source: `pool` (the language model's responses) or `offline` (the behaviour policy's).
        responses: per prompt.
        references: per response, itself among them; None: the prompt's 16, itself left out.
        leave_one_out: of `references`.
    """

    arm: str
    label: str
    seed: int
    method: str
    beta: float
    learning_rate: float
    reward: str = "mean"
    told: str = "reward"
    source: str = "pool"
    responses: int = 4
    references: int | None = None
    leave_one_out: bool = True
    transform: str = "identity"

    @property
    def leaves_one_out(self) -> bool:
        """Whether a response is left out of its own references; the offline ones are not among them."""
        return self.leave_one_out if self.references else self.source == "pool"

    def settings(self) -> dict[str, Any]:
        """What differs from the defaults, but for the arm: a new field leaves the records as they are."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "arm"}
        given = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in own.items() if value != given[name]}


def search() -> Iterator[Run]:
    """Every point of every grid."""
    for method, (betas, rates) in GRIDS.items():
        for beta in betas:
            for rate in rates:
                label = f"{method}-b{beta:g}-lr{rate:g}"
                yield Run("grid", label, SEARCH_SEED, method, beta, rate)


def runs_of(arm: str, seed: int, best: Settings) -> list[Run]:
    """The runs of one seed of an arm, with the best settings of each method."""
    return list(ARMS[arm](seed, best))


def _methods(seed: int, best: Settings) -> Iterator[Run]:
    """Each method with its best settings."""
    for method, settings in best.items():
        yield Run("methods", method, seed, method, *settings)


def _double(seed: int, best: Settings) -> Iterator[Run]:
    """The same settings on twice the data."""
    for method, settings in best.items():
        yield Run("double", method, seed, method, *settings, responses=8)


def _gold(seed: int, best: Settings) -> Iterator[Run]:
    """The proxy is the gold reward itself."""
    for method, settings in best.items():
        yield Run("gold", method, seed, method, *settings, reward="gold")


def _why(seed: int, best: Settings) -> Iterator[Run]:
    """QRPO differs from REBEL twice: ranks instead of rewards, a level (log Z) instead of differences."""
    qrpo, rebel = best["qrpo"], best["rebel"]
    yield Run("why", "rank-differences", seed, "rebel", *qrpo, told="rank")
    yield Run("why", "reward-levels", seed, "qrpo", *rebel, transform="normal")
    yield Run("why", "qrpo-winner", seed, "qrpo", *qrpo, told="winner")
    yield Run("why", "rebel-winner", seed, "rebel", *rebel, told="winner")


def _risks(seed: int, best: Settings) -> Iterator[Run]:
    for risk in RISKS:
        yield Run("risk", risk, seed, "qrpo", *best["qrpo"], reward=risk)


def _offline(seed: int, best: Settings) -> Iterator[Run]:
    for method in ("qrpo", "rebel", "dpo"):
        yield Run("offline", method, seed, method, *best[method], source="offline")


def _betas(seed: int, best: Settings) -> Iterator[Run]:
    for method in ("qrpo", "rebel"):
        for beta in sorted(set(GRIDS[method][0]) - {best[method][0]}):
            yield Run("beta", f"{method}-b{beta:g}", seed, method, beta, best[method][1])


def _references(seed: int, best: Settings) -> Iterator[Run]:
    for count in NUM_REFERENCES:
        for left_out in (False, True) if count > 1 else (False,):
            label = f"{count}-{'without' if left_out else 'with'}-itself"
            yield Run(
                *("references", label, seed, "qrpo", *best["qrpo"]), references=count, leave_one_out=left_out
            )


ARMS = {
    "methods": _methods,
    "gold": _gold,
    "why": _why,
    "references": _references,
    "risk": _risks,
    "offline": _offline,
    "beta": _betas,
    "double": _double,
}


def training_table(world: World, run: Run) -> Any:
    """The rows that a run learns from."""
    from datasets import Dataset

    if run.references is not None:
        return Dataset.from_list(list(_singles(world, run, run.references)))
    return Dataset.from_list(list(_pairs(world, run)))


def _pairs(world: World, run: Run) -> Iterator[dict[str, Any]]:
    responses = getattr(world, run.source)
    rewards, references = world.rewards(run.source, run.reward), world.rewards("pool", run.reward)
    targets = _ranks(rewards) if run.told == "rank" else rewards
    generator = torch.Generator().manual_seed(run.seed)
    differences = []
    rows = []
    for i, prompt in enumerate(responses.prompts):
        order = torch.randperm(rewards.shape[1], generator=generator)[: run.responses].tolist()
        for pair in zip(order[::2], order[1::2], strict=True):
            better, worse = sorted(pair, key=lambda j, i=i: float(rewards[i, j]), reverse=True)
            differences.append(float(targets[i, better] - targets[i, worse]))
            rows.append(
                {
                    "prompt": prompt.messages,
                    "chosen": responses.texts[i][better],
                    "rejected": responses.texts[i][worse],
                    "cut_off_chosen": bool(responses.cut_off[i, better]),
                    "cut_off_rejected": bool(responses.cut_off[i, worse]),
                    "reward_chosen": float(targets[i, better]),
                    "reward_rejected": float(targets[i, worse]),
                    "ref_rewards": references[i].tolist(),
                }
            )
    if run.told == "winner":
        # Rewards keep the mean size of their differences; the only reference is the other response.
        half = sum(differences) / len(differences) / 2
        for row in rows:
            row |= {"reward_chosen": half, "reward_rejected": -half, "ref_rewards": [half, -half]}
    yield from rows


def _singles(world: World, run: Run, count: int) -> Iterator[dict[str, Any]]:
    """Single responses, each with references of its own: itself and `count - 1` others of its prompt."""
    rewards = world.rewards("pool", run.reward)
    everything = rewards
    if count > rewards.shape[1]:
        everything = torch.cat([rewards, world.rewards("more", run.reward)], 1)
    generator = torch.Generator().manual_seed(run.seed)
    for i, prompt in enumerate(world.pool.prompts):
        order = torch.randperm(rewards.shape[1], generator=generator)[: run.responses].tolist()
        for j in order:
            others = torch.randperm(everything.shape[1], generator=generator)
            others = others[others != j][: count - 1]
            yield {
                "prompt": prompt.messages,
                "completion": world.pool.texts[i][j],
                "cut_off": bool(world.pool.cut_off[i, j]),
                "reward": float(rewards[i, j]),
                "ref_rewards": [float(rewards[i, j]), *everything[i, others].tolist()],
            }


def _ranks(rewards: Tensor) -> Tensor:
    """Quantile reward of each response among the others of its prompt, [prompts, responses]."""
    return pl.policy.reference_ranks(rewards, "mid", True)
