"""The one loop for every small torch module that is trained on embeddings: AdamW on a cosine, and looks.

In: a module, a function from row numbers to the number to minimise, and perhaps one that judges the module.
Out: the module at its best look, and how it came about. It does not know features, targets, heads or tables:
the two functions hold them.

Every few steps the module is judged; the best look is kept, and training ends after several looks without a
better one. Where nothing judges, the last look counts. Batches and dropout depend on the seed and the step
alone, so a training that was interrupted goes on as if it had not been. A loss that is not finite, or a look
at weights that are not, ends training with a warning, and the best look so far is kept. On an accelerator a
loss is read at looks alone, so that no step waits for the one before.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from pluralign.checks import check_number
from pluralign.errors import ConfigError, ConvergenceWarning, PluralignWarning
from pluralign.fitting.train.state import TrainingState

__all__ = ["Rows", "Schedule", "train"]

Rows = Int[Tensor, " B"] | slice
_LINES = 10  # of a report, at most


@dataclass(frozen=True)
class Schedule:
    """How fast and how long.

    Attributes:
        lr: learning rate at the start of the cosine.
        steps: most steps.
        batch: rows per step; None takes all rows in every step.
        epochs: take every row once before any comes again, leaving out what does not fill a batch; else rows
            are drawn with replacement.
        weight_decay: of AdamW.
        judge_every: steps between two looks.
        patience: looks without a better one after which training ends.
    """

    lr: float = 1e-2
    steps: int = 300
    batch: int | None = None
    epochs: bool = False
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
    objective: Callable[[Rows], Tensor],
    rows: Rows,
    schedule: Schedule,
    *,
    judge: Callable[[], float] | None = None,
    after_step: Callable[[], object] | None = None,
    seed: int = 0,
    state: TrainingState | None = None,
    report: Callable[[str], None] = lambda line: None,
    name: str = "training",
    warning: type[PluralignWarning] = ConvergenceWarning,
    advice: str = "A smaller learning rate may help.",
) -> dict[str, Any]:
    """Trains a module in place.

    Args:
        module: whose parameters are trained; `objective` and `judge` evaluate it.
        objective: rows to the number to minimise, penalties included.
        rows: the rows to train on; a tensor of their numbers where a step takes a batch of them.
        schedule: how fast and how long.
        judge: the loss by which looks are compared, in evaluation mode and without gradients; None for none.
        after_step: brings parameters back to where they are allowed to be, without gradients.
        seed: of batches and dropout; the same seed gives the same module.
        state: where training is kept from look to look, so that an interruption costs little.
        report: receives about ten lines.
        name: what the lines and the warning call this training.
        warning: given where training meets something that is not finite.
        advice: how that warning ends.

    Returns:
        JSON-able: `steps`, `best_step`, `loss` (the best that `judge` gave, or None) and `diverged`. The
        module is at its best look, in evaluation mode and frozen.
    """
    module.requires_grad_(True)
    optimizer = torch.optim.AdamW(module.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
    state = TrainingState(None) if state is None else state
    if not state.resume(module, optimizer):
        state.look(0, 0.0 if judge is None else _judged(module, judge), module, optimizer)
    diverged = False
    while state.step < schedule.steps and state.looks_since_best < schedule.patience and not diverged:
        begin, end = state.step, min(state.step + schedule.judge_every, schedule.steps)
        module.train()
        batches = _batches(rows, schedule, seed, range(begin, end))
        losses: list[Tensor] = []
        for step, batch in zip(range(begin, end), batches, strict=True):
            losses.append(_step(module, optimizer, objective, batch, schedule, seed, step, after_step))
            if _is_seen_to_diverge(losses[-1]):
                break
        loss, diverged = _read(losses, module)
        if judge is not None and not diverged:
            loss = _judged(module, judge)
            diverged = not math.isfinite(loss)
        if not diverged:
            state.look(end, loss, module, optimizer, keep_last=judge is None)
            if end * _LINES // schedule.steps > begin * _LINES // schedule.steps:
                report(f"{name}: step {end:,} of {schedule.steps:,}, loss {loss:.4f}")
    if diverged:
        warnings.warn(
            f"{name}: the loss is not finite after step {state.step}; the best weights so far are kept, "
            f"those of step {state.best_step}. {advice}",
            warning,
            stacklevel=3,
        )
    module.load_state_dict(state.best)
    module.eval().requires_grad_(False)
    loss_of_best = None if judge is None else state.best_loss
    return {"steps": state.step, "best_step": state.best_step, "loss": loss_of_best, "diverged": diverged}


def _batches(rows: Rows, schedule: Schedule, seed: int, steps: range) -> Sequence[Rows]:
    """The rows of each of some steps; where they are drawn, they go to the device all at once."""
    if schedule.batch is None or not isinstance(rows, Tensor):
        return [rows] * len(steps)
    draw = _part_of_epoch if schedule.epochs else _drawn
    drawn = torch.stack([draw(len(rows), schedule.batch, seed, step) for step in steps])
    return rows[drawn.to(rows.device)].unbind()


def _step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    objective: Callable[[Rows], Tensor],
    rows: Rows,
    schedule: Schedule,
    seed: int,
    step: int,
    after_step: Callable[[], object] | None,
) -> Tensor:
    """One step of the cosine; returns the loss, and changes nothing where that is seen to diverge."""
    for group in optimizer.param_groups:
        group["lr"] = schedule.lr * 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
    with _seeded(next(module.parameters()).device, seed * 1_000_003 + step):
        value = objective(rows)
    if not _is_seen_to_diverge(value):
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        if after_step is not None:
            with torch.no_grad():
                after_step()
    return value.detach()


def _is_seen_to_diverge(value: Tensor) -> bool:
    """Whether a loss is not finite, where that can be seen without waiting."""
    return value.device.type == "cpu" and not bool(value.isfinite())


def _read(losses: Sequence[Tensor], module: nn.Module) -> tuple[float, bool]:
    """The last of the losses since the last look, and whether one of them or of the weights is not finite."""
    finite = [torch.stack(list(losses)).isfinite().all(), *(p.isfinite().all() for p in module.parameters())]
    loss, all_finite = torch.stack([losses[-1].double(), torch.stack(finite).all().double()]).tolist()
    return loss, not all_finite


def _drawn(count: int, batch: int, seed: int, step: int) -> Tensor:
    """Positions drawn with replacement."""
    return torch.randint(count, (batch,), generator=torch.Generator().manual_seed(seed * 1_000_003 + step))


def _part_of_epoch(count: int, batch: int, seed: int, step: int) -> Tensor:
    """The next positions of the epoch's order; what an epoch leaves over is left out."""
    epoch, part = divmod(step, count // batch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    return order[part * batch : (part + 1) * batch]


@torch.no_grad()
def _judged(module: nn.Module, judge: Callable[[], float]) -> float:
    module.eval()
    return judge()


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Draws of torch inside depend on the seed alone, and change nothing outside."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` formats a traceback each time
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield
