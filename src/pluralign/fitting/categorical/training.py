"""Trains logits of categories: chooses a penalty on held-out groups, then trains on all rows.

    minimise  mean_i score(logits(x_i), target_i)  +  l2 * squared norm of the weights

In: a problem, that is inputs, targets and groups by row, and functions that make a module and its logits.
Out: the trained module.

All rows take part in every step. Features are given along their principal axes, where a single step size of
AdamW suits all directions; the squared norm is invariant to the rotation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pluralign.fitting.categorical.config import CategoricalConfig
from pluralign.fitting.tables.inputs import Inputs
from pluralign.fitting.train.loop import Rows, Schedule, train
from pluralign.fitting.train.search import fold_of, search_penalty
from pluralign.fitting.train.state import TrainingState
from pluralign.heads.categorical import CategoryLogits, ComparisonLogits

__all__ = ["Problem", "fit_logits", "rotate", "squared_norm"]

Module = TypeVar("Module", CategoryLogits, ComparisonLogits)


@dataclass(frozen=True)
class Problem(Generic[Module]):
    """The learning problem, row by row.

    Attributes:
        name: for reports and the journal.
        inputs: the inputs of the logits, [R, ...] each.
        target: [R, C], probabilities.
        groups: [R].
        make: maps the targets of the training rows to a new module, which should start at their mean.
        logits: maps a module and rows of the inputs, [B, ...] each, to logits [B, C].
        score: maps logits and targets [B, C] to a loss per row, [B].
        loss: name of the loss in reports.
    """

    name: str
    inputs: tuple[Tensor, ...]
    target: Float[Tensor, "R C"]
    groups: Sequence[str]
    make: Callable[[Tensor], Module]
    logits: Callable[..., Tensor]
    score: Callable[[Tensor, Tensor], Tensor]
    loss: str

    def losses(self, module: Module, rows: Rows = slice(None)) -> Float[Tensor, " B"]:
        """The loss of each row."""
        *inputs, target = self._rows(rows)
        return self.score(self.logits(module, *inputs), target)

    def restricted(self, rows: Tensor) -> Problem[Module]:
        """The same problem on a subset of rows."""
        *inputs, target = self._rows(rows)
        groups = [self.groups[i] for i in rows.tolist()]
        return replace(self, inputs=tuple(inputs), target=target, groups=groups)

    def _rows(self, rows: Rows) -> tuple[Tensor, ...]:
        return tuple(part[rows] for part in (*self.inputs, self.target))


def fit_logits(
    problem: Problem[Module], inputs: Inputs, config: CategoricalConfig
) -> tuple[Module, dict[str, Any]]:
    """Chooses the penalty if the config does not set it, and trains on all rows.

    Returns:
        The module in evaluation mode and frozen; and `l2` and `loss`, the mean over the rows.

    Raises:
        DataError: the penalty has to be chosen and there is only one group.
    """
    l2 = config.l2 if config.l2 is not None else _chosen_penalty(problem, inputs, config)
    key = hashlib.sha256(f"{problem.name} {l2} {config} {len(problem.target)}".encode())
    key.update(problem.target.double().sum(0).cpu().numpy().tobytes())
    state = TrainingState(inputs.journal.beside(f"{problem.name}.safetensors"), key.hexdigest())
    module = _trained(problem, l2, config, state)
    loss = float(problem.losses(module).double().mean())
    inputs.report(f"{problem.name}: l2 {l2:g}, {problem.loss} loss {loss:.4f} on the rows of the fit")
    return module, {"l2": l2, "loss": loss}


def squared_norm(module: nn.Module) -> Tensor:
    """The squared norm of all weights except intercepts."""
    weights = [p for p in module.parameters() if p.ndim == 2]
    return torch.stack([weight.square().sum() for weight in weights]).sum()


@torch.no_grad()
def rotate(module: nn.Module, axes: Float[Tensor, "D D"]) -> None:
    """Converts a module on `features @ axes` to one on the features, in place."""
    first = next(part for part in module.modules() if isinstance(part, nn.Linear))
    first.weight.copy_(first.weight @ axes.T)


def _chosen_penalty(problem: Problem[Module], inputs: Inputs, config: CategoricalConfig) -> float:
    fold = fold_of(problem.groups, config.seed, what="l2").to(problem.target.device)
    best, _ = search_penalty(
        config.l2_grid,
        fold,
        torch.ones_like(fold, dtype=torch.float64),
        lambda l2, k: _held_out(problem, fold == k, l2, config),
        family="categorical",
        name=problem.name,
        what="l2",
        loss=f"{problem.loss} loss",
        journal=inputs.journal,
        settings=f"{config}",
        report=inputs.report,
    )
    return best


def _held_out(problem: Problem[Module], held_out: Tensor, l2: float, config: CategoricalConfig) -> float:
    """Mean loss on the rows of a mask after training on the others."""
    train_rows, test_rows = (torch.nonzero(mask)[:, 0] for mask in (~held_out, held_out))
    module = _trained(problem.restricted(train_rows), l2, config, None)
    return float(problem.losses(module, test_rows).double().mean())


def _trained(
    problem: Problem[Module], l2: float, config: CategoricalConfig, state: TrainingState | None
) -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        module = problem.make(problem.target)
    module.to(problem.target.device)
    train(
        module,
        lambda rows: problem.losses(module, rows).mean() + l2 * squared_norm(module),
        slice(None),
        Schedule(lr=config.lr, steps=config.steps, eval_every=max(1, config.steps // 5)),
        seed=config.seed,
        state=state,
        name=problem.name,
    )
    return module
