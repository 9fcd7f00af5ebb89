"""State of a resumed run that `Trainer` does not restore: its mean loss so far, and whether it is finished.

In: the losses of batches as used in the gradient, and transformers' state of the run. Out: the mean loss of
all steps, including those before an interruption; and no further step if the checkpoint is that of the last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from pluralign.precision import widened

__all__ = ["NothingLeft", "RunLoss"]

_log = logging.getLogger("pluralign.training")


class RunLoss(TrainerCallback, ExportableState):
    """Sum of losses since the first step; transformers writes `state` into every checkpoint.

    Args:
        total: sum of the losses of the counted steps, a mean over processes.
        steps: number of counted steps.
    """

    def __init__(self, total: float = 0.0, steps: int = 0) -> None:
        self._total: float = total
        self._steps: int = steps
        self._new: Tensor | None = None  # of this process, on its device, so that no step waits for a copy

    def on_train_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Continues from the sum in the checkpoint, or from 0 if it has none."""
        (self._total, self._steps), self._new = self.carried(state), None

    @classmethod
    def carried(cls, state: Any) -> tuple[float, int]:
        """The sum and its number of steps as the checkpoint of a transformers state has them."""
        said = state.stateful_callbacks.get(cls.__name__) if state.global_step else None
        kept: dict[str, Any] = said["args"] if said else {"total": 0.0, "steps": 0}
        return float(kept["total"]), int(kept["steps"])

    def add(self, loss: Tensor, filtered: bool = False) -> None:
        """Adds the loss of one batch, divided like that of the whole step.

        Args:
            loss: scalar.
            filtered: whether a loss that is not finite is replaced by the mean so far
                (`logging_nan_inf_filter`).
        """
        loss = widened(loss.detach())
        if filtered:
            so_far = self._total if self._new is None else self._total + self._new
            loss = torch.where(loss.isfinite(), loss, so_far / max(1, self._steps))
        self._new = loss if self._new is None else self._new + loss

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Counts a step."""
        self._steps += 1

    def settle(self, over_processes: Callable[[Tensor], Tensor]) -> None:
        """Adds new losses to the total; all processes must call this at the same time.

        Args:
            over_processes: mean of a scalar over processes.
        """
        if self._new is not None:
            self._total += float(over_processes(self._new))
            self._new = None

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint; as of the last `settle`."""
        return {"args": {"total": self._total, "steps": self._steps}, "attributes": {}}

    @property
    def mean(self) -> float | None:
        """Mean over the steps, as of the last `settle`; None before the first."""
        return self._total / self._steps if self._steps else None


class NothingLeft(TrainerCallback):
    """Ends a run whose checkpoint is that of the last step, before it trains or writes anything.

    `Trainer` checks only after a step whether it should stop, so inside an epoch it would train another step.

    Attributes:
        reached: whether the run was already finished.
    """

    def __init__(self) -> None:
        self.reached = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Compares the step of the checkpoint with the last one."""
        self.reached = 0 < state.max_steps <= state.global_step
        if self.reached:
            _log.info(
                "step %d of %d is reached: nothing is left to train", state.global_step, state.max_steps
            )

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **options: Any) -> Any:
        """No further epoch."""
        control.should_training_stop = control.should_training_stop or self.reached
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **options: Any) -> Any:
        """No log line, evaluation or checkpoint of an epoch in which nothing happened."""
        if self.reached:
            control.should_log = control.should_evaluate = control.should_save = False
        return control
