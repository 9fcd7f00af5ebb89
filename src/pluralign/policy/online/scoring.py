"""From rollouts to utilities: reward distributions and a risk measure, a `RewardSource`, or a function.

In: rollouts. Out: one finite number each, and statistics of their distributions for the log. A reward that is
not reachable (a server, a network) is tried again before the run stops.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign import risk as risk_measures
from pluralign.errors import ArgumentError, ConfigError, DataError
from pluralign.policy.online.rollouts import Rollout
from pluralign.policy.rewards.scoring import ResponseScores, score_responses
from pluralign.policy.rewards.sources import ModelReward, RewardSource, rewards_of

__all__ = ["RolloutScorer", "gold_of", "unreachable"]

_log = logging.getLogger("pluralign.policy")

_FIRST_WAIT = 1.0  # seconds, doubled at each further attempt

Gold = Callable[[list[list[Mapping[str, str]]]], Any]


class RolloutScorer:
    """Computes rewards.

    Args:
        reward: a reward model (anything with `distribution(conversations)`), a `RewardSource`, or a function
            of conversations that returns one number each.
        risk: risk measure that turns distributions into numbers; for reward models.
        retries: number of further attempts if a reward cannot be reached.
        wait: seconds before the first of these; doubled each time.

    Attributes:
        measure: the risk measure of rollouts that are trained on; may be set during a run.

    Raises:
        ArgumentError: the reward is none of these.
        ConfigError: a risk measure is given, but there are no distributions.
        RiskError: there is no such measure.
    """

    def __init__(self, reward: Any, risk: str, retries: int = 3, wait: float = _FIRST_WAIT) -> None:
        if isinstance(reward, ModelReward):
            if risk not in ("mean", str(reward.risk)):
                raise ConfigError(f"risk: received {risk!r}, but the reward has its own, {reward.risk}")
            reward, risk = reward.model, str(reward.risk)
        self._measure = self.measure = risk_measures.parse(risk)
        self._has_distributions = hasattr(reward, "distribution")
        if not self._has_distributions and not callable(reward):
            raise ArgumentError(
                f"reward: received {type(reward).__name__}; needed: a reward model, a RewardSource, or a "
                "function of conversations"
            )
        if not self._has_distributions and str(self._measure) != "mean":
            raise ConfigError(
                f"risk: received {risk!r} with a reward that returns numbers; a risk measure needs a reward "
                "model, which returns distributions"
            )
        self._reward = reward
        self._retries, self._wait = retries, wait

    def __call__(self, rollouts: Sequence[Rollout], trained_on: bool = True) -> ResponseScores:
        """Utilities of rollouts.

        Args:
            rollouts: B rollouts.
            trained_on: whether `measure` counts, and not the one that was given at first: evaluations have
                the same measure from the first to the last.

        Raises:
            DataError: one is not finite, or their number is not that of the rollouts.
            OSError: the reward cannot be reached in any attempt.
        """
        for attempt in range(self._retries + 1):
            try:
                return self._ask(rollouts, self.measure if trained_on else self._measure)
            except Exception as error:
                if attempt == self._retries or not unreachable(error):
                    raise
                pause = self._wait * 2**attempt
                _log.warning("the reward cannot be reached (%s); next attempt in %g s", error, pause)
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _ask(self, rollouts: Sequence[Rollout], measure: risk_measures.RiskMeasure) -> ResponseScores:
        conversations = [list(one.messages) for one in rollouts]
        if self._has_distributions:
            scores = score_responses(self._reward, measure, conversations)
            _check(scores.utilities, rollouts)
            return replace(scores, utilities=scores.utilities.float())
        if hasattr(self._reward, "describe"):
            source: RewardSource = self._reward
            numbers = rewards_of(source, _columns(rollouts), "rollouts")
            return ResponseScores.of_numbers(torch.tensor(numbers, dtype=torch.float32))
        utilities = _numbers(self._reward(conversations), len(rollouts), "the reward function")
        _check(utilities, rollouts)
        return ResponseScores.of_numbers(utilities)


def gold_of(gold: Gold, rollouts: Sequence[Rollout]) -> Float[Tensor, " B"]:
    """The gold reward of rollouts, [B].

    Raises:
        DataError: it is not finite, or not one number each.
    """
    found = _numbers(gold([list(one.messages) for one in rollouts]), len(rollouts), "gold")
    _check(found, rollouts, "gold")
    return found


def _columns(rollouts: Sequence[Rollout]) -> dict[str, list[Any]]:
    """The columns of the prompts' table that every row has, and the completions."""
    names = set.intersection(*(set(one.row) for one in rollouts)) - {"completion"}
    columns = {name: [one.row[name] for one in rollouts] for name in sorted(names)}
    columns["prompt"] = [list(one.messages[:-1]) for one in rollouts]
    return columns | {"completion": [one.text for one in rollouts]}


def _numbers(answer: Any, count: int, name: str) -> Tensor:
    if isinstance(answer, Tensor):
        answer = answer.detach().cpu()
    try:
        numbers = torch.as_tensor(answer, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} returned {type(answer).__name__}; needed: {count} numbers") from error
    if numbers.shape != (count,):
        raise DataError(f"{name} returned numbers of shape {list(numbers.shape)} for {count} conversations")
    return numbers


def _check(utilities: Tensor, rollouts: Sequence[Rollout], name: str = "reward") -> None:
    bad = (~utilities.isfinite()).nonzero().flatten().tolist()
    if bad:
        first = rollouts[bad[0]]
        raise DataError(
            f"{len(bad)} of {len(rollouts)} responses have a {name} that is not finite; the first is "
            f"{float(utilities[bad[0]])} for response {bad[0]}, {first.text[:80]!r}, to "
            f"{str(first.messages[0]['content'])[:80]!r}. Every response needs a number, also one that "
            "cannot be scored"
        )


def unreachable(error: BaseException | None) -> bool:
    """Whether the cause of an error may be temporary: a connection, a time-out."""
    while error is not None:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | PermissionError):
            return True
        error = error.__cause__
    return False
