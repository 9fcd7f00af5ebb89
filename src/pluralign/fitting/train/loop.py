"""The training loop for every small torch module on embeddings: AdamW on a cosine, with early stopping.

In: a module, a function from row numbers to the number to minimise, and optionally one that evaluates the
module.
Out: the module in its best state, and a summary. Features and targets are held by the two functions.

Every few steps the module is evaluated; the best state is kept, and training stops after several evaluations
without a better one. Without an evaluation function the last state is kept. Batches and dropout depend only
on the seed and the step, so an interrupted training continues as if it had not been. A loss or weights that
are not finite end training with a warning, and the best state so far is kept. On an accelerator the loss is
read only when the module is evaluated, so that no step waits for the one before.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from pluralign.checks import check_number
from pluralign.errors import ConfigError, ConvergenceWarning, PluralignWarning
from pluralign.fitting.train.state import TrainingState
from pluralign.precision import widened

__all__ = ["Rows", "Schedule", "train"]

Rows = Int[Tensor, " B"] | slice
_LINES = 10  # of a report, at most


@dataclass(frozen=True)
class Schedule:
    """Learning rate, batches and length of a training.

    Attributes:
        lr: learning rate at the start of the cosine.
        steps: maximum number of steps.
        batch: rows per step; None for all rows in every step.
        epochs: use every row once before any is repeated, leaving out an incomplete batch; otherwise rows
            are drawn with replacement.
        weight_decay: of AdamW.
        eval_every: steps between two evaluations.
        patience: evaluations without a better one after which training stops.
    """

    lr: float = 1e-2
    steps: int = 300
    batch: int | None = None
    epochs: bool = False
    weight_decay: float = 0.0
    eval_every: int = 20
    patience: int = 10

    def __post_init__(self) -> None:
        check_number("lr", self.lr, above=0)
        check_number("weight_decay", self.weight_decay, at_least=0)
        for name in ("steps", "eval_every", "patience"):
            check_number(name, getattr(self, name), at_least=1)
        if self.batch is not None and self.batch < 1:
            raise ConfigError(f"batch = {self.batch}: at least 1 row, or null for all rows, is needed")


def train(
    module: nn.Module,
    objective: Callable[[Rows], Tensor],
    rows: Rows,
    schedule: Schedule,
    *,
    evaluate: Callable[[], float] | None = None,
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
        module: the module to train; used by `objective` and `evaluate`.
        objective: maps rows to the number to minimise, including penalties.
        rows: the rows to train on; a tensor of their numbers if a step uses a batch of them.
        schedule: learning rate, batches and length.
        evaluate: the loss that selects the best state, in evaluation mode and without gradients; None for
            none.
        after_step: projects parameters onto their allowed range, without gradients.
        seed: of batches and dropout; the same seed gives the same module.
        state: where the training state is saved after each evaluation, so that an interruption costs little.
        report: called with about ten lines.
        name: name of this training in the lines and the warning.
        warning: class of the warning if something is not finite.
        advice: the end of that warning.

    Returns:
        `steps`, `best_step`, `loss` (the best from `evaluate`, or None) and `diverged`, serialisable as JSON.
        The module is in its best state, in evaluation mode and frozen.
    """
    module.requires_grad_(True)
    optimizer = torch.optim.AdamW(module.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
    state = TrainingState(None) if state is None else state
    if not state.resume(module, optimizer):
        state.record(0, 0.0 if evaluate is None else _evaluated(module, evaluate), module, optimizer)
    diverged = False
    while state.step < schedule.steps and state.evals_since_best < schedule.patience and not diverged:
        begin, end = state.step, min(state.step + schedule.eval_every, schedule.steps)
        module.train()
        batches = _batches(rows, schedule, seed, range(begin, end))
        losses: list[Tensor] = []
        for step, batch in zip(range(begin, end), batches, strict=True):
            losses.append(_step(module, optimizer, objective, batch, schedule, seed, step, after_step))
            if _diverges_on_host(losses[-1]):
                break
        loss, diverged = _read(losses, module)
        if evaluate is not None and not diverged:
            loss = _evaluated(module, evaluate)
            diverged = not math.isfinite(loss)
        if not diverged:
            state.record(end, loss, module, optimizer, keep_last=evaluate is None)
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
    loss_of_best = None if evaluate is None else state.best_loss
    return {"steps": state.step, "best_step": state.best_step, "loss": loss_of_best, "diverged": diverged}


def _batches(rows: Rows, schedule: Schedule, seed: int, steps: range) -> Sequence[Int[Tensor, " S"] | slice]:
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
    """One step of the cosine; returns the loss, and changes nothing if that is seen to diverge."""
    for group in optimizer.param_groups:
        group["lr"] = schedule.lr * 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
    with _seeded(next(module.parameters()).device, seed * 1_000_003 + step):
        value = objective(rows)
    if not _diverges_on_host(value):
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        if after_step is not None:
            with torch.no_grad():
                after_step()
    return value.detach()


def _diverges_on_host(value: Tensor) -> bool:
    """Whether a loss is not finite, where that can be seen without waiting."""
    return value.device.type == "cpu" and not bool(value.isfinite())


def _read(losses: Sequence[Tensor], module: nn.Module) -> tuple[float, bool]:
    """The last loss, and whether a loss since the last evaluation, or a weight, is not finite."""
    finite = [torch.stack(list(losses)).isfinite().all(), *(p.isfinite().all() for p in module.parameters())]
    loss, all_finite = torch.stack([widened(losses[-1]), widened(torch.stack(finite).all())]).tolist()
    return loss, not all_finite


def _drawn(count: int, batch: int, seed: int, step: int) -> Tensor:
    """Positions drawn with replacement."""
    return torch.randint(count, (batch,), generator=torch.Generator().manual_seed(seed * 1_000_003 + step))


def _part_of_epoch(count: int, batch: int, seed: int, step: int) -> Tensor:
    """The next positions in the epoch's order; an incomplete last batch is left out."""
    epoch, part = divmod(step, count // batch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    return order[part * batch : (part + 1) * batch]


@torch.no_grad()
def _evaluated(module: nn.Module, evaluate: Callable[[], float]) -> float:
    module.eval()
    return evaluate()


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Random numbers of torch inside depend only on the seed, and the state outside is unchanged.

    Of the CPU and of the device, whatever its kind.
    """
    module: Any = None if device.type == "cpu" else getattr(torch, device.type, None)
    draws = all(hasattr(module, name) for name in ("get_rng_state", "set_rng_state", "manual_seed"))
    place = (device,) if hasattr(module, "device") else ()  # Apple's has one generator, and takes no device
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` formats a traceback each time
        if not draws:
            yield
            return
        before = module.get_rng_state(*place)
        try:
            with module.device(device) if place else nullcontext():
                module.manual_seed(seed)
            yield
        finally:
            module.set_rng_state(before, *place)
