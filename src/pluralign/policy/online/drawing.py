"""What a run draws: the prompts of each step, the seeds, and this process's share of the rollouts.

In: prompts, models, a configuration. Out: the rollouts of a step, or of the held-out prompts. All of it is a
function of the seed and the number of the step, so an interruption does not change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pluralign.digests import text_seed
from pluralign.errors import ArgumentError
from pluralign.policy.online.config import PPOConfig
from pluralign.policy.online.models import Models
from pluralign.policy.online.rollouts import Draw, Rollout
from pluralign.policy.sampling.settings import SamplingSettings

__all__ = ["Drawing", "step_seed"]

Row = Mapping[str, Any]


class Drawing:
    """Draws rollouts of a run.

    Args:
        models: the models, on their device.
        config: configuration of the run.
        accelerator: accelerator of the run.
        rows: rows of the table of prompts.
        held_out: rows of held-out prompts; may be empty.
        draw: samples rollouts of prompts.

    Raises:
        ArgumentError: nothing ends a response.
        DataError: a prompt is too long for the model.
    """

    def __init__(
        self,
        models: Models,
        config: PPOConfig,
        accelerator: Any,
        rows: Sequence[Row],
        held_out: Sequence[Row],
        draw: Draw,
    ) -> None:
        self._models, self._config, self._accelerator = models, config, accelerator
        self._rows, self.held_out, self._function = rows, held_out, draw
        prompts = [row["prompt"] for row in (*rows, *held_out)]
        models.sampler().check(prompts, self.settings(0))
        models.check_room(prompts)

    def of_step(self, step: int) -> list[Rollout]:
        """This process's rollouts of a step."""
        return self.draw(self.rows_of(step), self.settings(step))

    def of_held_out(self) -> list[Rollout]:
        """This process's rollouts of the held-out prompts; the seed is the same at each evaluation."""
        return self.draw(self.held_out, self.settings(0, "evaluation"))

    def settings(self, step: int, purpose: str = "rollouts") -> SamplingSettings:
        """Number of responses, length and seed."""
        config = self._config
        completions = config.completions if purpose == "rollouts" else config.eval_completions
        return SamplingSettings(
            completions, config.max_new_tokens, seed=step_seed(config.seed, step, purpose)
        )

    def rows_of(self, step: int) -> list[Row]:
        """The prompts of a step: the next rows of the table, which is shuffled again for each pass."""
        count, size = len(self._rows), self._config.prompts_per_step
        found = []
        orders: dict[int, list[int]] = {}
        for place in range(step * size, (step + 1) * size):
            turn, rest = divmod(place, count)
            if turn not in orders:
                generator = torch.Generator().manual_seed(step_seed(self._config.seed, turn, "prompts"))
                orders[turn] = torch.randperm(count, generator=generator).tolist()
            found.append(self._rows[orders[turn][rest]])
        return found

    def draw(self, rows: Sequence[Row], settings: SamplingSettings) -> list[Rollout]:
        """This process's rollouts of any prompts.

        Raises:
            ArgumentError: there are none.
        """
        rank, world = self._accelerator.process_index, self._accelerator.num_processes
        with self._accelerator.autocast():
            found = self._function(self._models.sampler(), self._models.reader, rows, settings, rank, world)
        if not found:
            raise ArgumentError("draw returned no rollouts; needed: at least one per process")
        return found


def step_seed(seed: int, number: int, purpose: str) -> int:
    """A separate seed for each purpose and step, in [0, 2^63)."""
    return text_seed(f"{seed}:{number}:{purpose}")
