"""Programs as a scorer of conversations, for whatever takes a reward model: the server, and suites of pairs.

In: conversations whose last message is the policy's. Out: a `Point` per conversation, the share of the tests
of its prompt that the program in it passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pluralign.distributions import Point
from pluralign.errors import ArgumentError
from pluralign.policy.rewards.programs.reward import ProgramReward

__all__ = ["ProgramScorer"]


class ProgramScorer:
    """The share of passed tests, as `distribution` and `score` like those of a reward model.

    Args:
        reward: with the tests of prompts (`ProgramReward(tasks=load_tasks(...))`).

    Raises:
        ArgumentError: the reward has no tests of its own.
    """

    def __init__(self, reward: ProgramReward) -> None:
        if reward.tasks is None:
            raise ArgumentError(
                "reward: received one without tasks; needed: ProgramReward(tasks=load_tasks(...)), since a "
                "conversation has no tests"
            )
        self.reward = reward

    def distribution(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> Point:
        """[N] certain rewards in [0, 1].

        Args:
            conversations: each a list of messages, the last of which is the policy's.

        Raises:
            DataError: a prompt has no tests; the message names the row.
        """
        rows = {
            "prompt": [list(one[:-1]) for one in conversations],
            "completion": [list(one[-1:]) for one in conversations],
        }
        return Point(torch.tensor(self.reward(rows), dtype=torch.float32))
