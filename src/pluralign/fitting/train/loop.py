"""One loop for every small torch module that is trained on embeddings: AdamW on a cosine, and looks.

    minimise  mean over a batch of rows of loss(rows)  +  penalty()

In: a module and a function from row numbers to one loss per row. Out: the module at its best look, and how it
came about. It does not know features, targets, heads or tables: the loss holds them.

Every few steps the rows that were held out are judged; the best look is kept, and training ends after several
looks without a better one. Without held-out rows nothing is judged and the last step counts. Batches and
dropout depend on the seed and the step alone, so a training that was interrupted goes on as if it had not
been. A loss that is not finite ends training with a warning, and the best look so far is kept.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from pluralign.checks import check_number
from pluralign.errors import ConfigError, ConvergenceWarning
from pluralign.fitting.train.state import TrainingState

__all__ = ["Schedule", "train"]

_CHUNK_ROWS = 65_536  # rows that are judged at once


@dataclass(frozen=True)
class Schedule:
    """How fast and how long.

    Attributes:
        lr: learning rate at the start of the cosine.
        steps: most steps.
        batch: rows per step, drawn with replacement; None takes all rows in every step.
        weight_decay: of AdamW.
        judge_every: steps between two looks.
        patience: looks without a better one after which training ends.
    """

    lr: float = 1e-2
    steps: int = 300
    batch: int | None = None
    weight_decay: float = 0.0
    judge_every: int = 20
    patience: int = 10

    def __post_init__(self) -> None:
        check_number("lr", self.lr, above=0)
        check_number("weight_decay", self.weight_decay, at_least=0)
        for name in ("steps", "judge_every", "patience"):
            check_number(name, getattr(self, name), at_least=1)
        if self.batch is not None and self.batch < 1:
            raise ConfigError(f"batch = {self.batch}: at least 1 row, or null for all rows, is needed")


def train(
    module: nn.Module,
    loss: Callable[[Int[Tensor, " B"]], Tensor],
    rows: Int[Tensor, " N"],
    schedule: Schedule,
    *,
    held_out: Int[Tensor, " M"] | None = None,
    penalty: Callable[[], Tensor] | None = None,
    seed: int = 0,
    state: TrainingState | None = None,
    report: Callable[[str], None] = lambda line: None,
    name: str = "training",
) -> dict[str, Any]:
    """Trains a module in place.

    Args:
        module: whose parameters are trained; `loss` evaluates it.
        loss: row numbers [B] to one loss per row, [B]; a weight of a row belongs into it.
        rows: numbers of the rows to train on, on the module's device.
        schedule: how fast and how long.
        held_out: numbers of the rows to judge by; None or empty judges nothing.
        penalty: added to the mean loss, a scalar; not judged.
        seed: of batches and dropout; the same seed gives the same module.
        state: where training is kept from look to look, so that an interruption costs little.
        report: receives a line per look.
        name: what the lines and the warning call this training.

    Returns:
        JSON-able: `steps`, `best_step`, `loss` and `first_loss` (held-out means; of the training rows where
        nothing was held out), `diverged`. The module is at its best look and in evaluation mode.

    Warns:
        ConvergenceWarning: training met a loss that is not finite.
    """
    optimizer = torch.optim.AdamW(module.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
    state = TrainingState(None) if state is None else state
    judged = rows if held_out is None or len(held_out) == 0 else held_out
    patience = schedule.steps if judged is rows else schedule.patience
    if not state.resume(module, optimizer):
        state.look(0, _judge(module, loss, judged), module, optimizer)
    diverged = False
    while state.step < schedule.steps and state.looks_since_best < patience and not diverged:
        end = min(state.step + schedule.judge_every, schedule.steps)
        module.train()
        value = 0.0
        for step in range(state.step, end):
            value = _step(module, optimizer, loss, penalty, rows, schedule, seed, step)
            if not math.isfinite(value):
                break
        if judged is not rows or end == schedule.steps:
            value = _judge(module, loss, judged) if math.isfinite(value) else value
        diverged = not math.isfinite(value)
        if not diverged:
            state.look(end, value, module, optimizer, keep_last=judged is rows)
            report(f"{name}: step {end:,} of {schedule.steps:,}, loss {value:.4f}")
    if diverged:
        warnings.warn(
            f"{name}: the loss is not finite after step {state.step}; the best weights so far are kept, "
            f"those of step {state.best_step}. A smaller learning rate may help.",
            ConvergenceWarning,
            stacklevel=2,
        )
    module.load_state_dict(state.best)
    module.eval()
    return {
        "steps": state.step,
        "best_step": state.best_step,
        "loss": state.best_loss,
        "first_loss": state.first_loss,
        "diverged": diverged,
    }


def _step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor], Tensor],
    penalty: Callable[[], Tensor] | None,
    rows: Tensor,
    schedule: Schedule,
    seed: int,
    step: int,
) -> float:
    """One step of the cosine; returns its loss, and leaves the module as it was where that is not finite."""
    if schedule.batch is not None:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        drawn = torch.randint(len(rows), (schedule.batch,), generator=generator)
        rows = rows[drawn.to(rows.device)]
    for group in optimizer.param_groups:
        group["lr"] = schedule.lr * 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
    with _seeded(rows.device, seed * 1_000_003 + step):
        objective = loss(rows).mean()
    if penalty is not None:
        objective = objective + penalty()
    value = float(objective.detach())
    if math.isfinite(value):
        optimizer.zero_grad()
        torch.autograd.backward(objective)
        optimizer.step()
    return value


@torch.no_grad()
def _judge(module: nn.Module, loss: Callable[[Tensor], Tensor], rows: Tensor) -> float:
    """Mean loss of the rows in evaluation mode."""
    module.eval()
    total = 0.0
    for start in range(0, len(rows), _CHUNK_ROWS):
        total += float(loss(rows[start : start + _CHUNK_ROWS]).double().sum())
    return total / len(rows)


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Draws of torch inside depend on the seed alone, and change nothing outside."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` formats a traceback each time
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield
