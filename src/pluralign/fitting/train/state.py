"""The state of a module's training: its best state so far, and a file from which training continues.

In: a module and its optimiser after an evaluation on held-out rows. Out: the same, restored. The file is
written atomically, contains only tensors, and belongs to one training: a file with another key is ignored.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pluralign.files import write_file

__all__ = ["TrainingState"]

_log = logging.getLogger("pluralign.fitting")

REST = 20  # a file that took a second to write is not written again for this many seconds


class TrainingState:
    """The best state and, given a path, its file.

    Args:
        path: a safetensors file; None for no file.
        key: identifies everything that determines the training.

    Attributes:
        step: steps done.
        best_loss: loss of the best state.
        best_step: its step.
        evals_since_best: evaluations since then.
        best: the module's state dict in the best state.
    """

    def __init__(self, path: Path | None, key: str = "") -> None:
        self._path = path
        self._key = key
        self.step = 0
        self.best_loss = float("inf")
        self.best_step = 0
        self.evals_since_best = 0
        self.best: dict[str, Tensor] = {}
        self._next_save = 0.0

    def record(
        self,
        step: int,
        loss: float,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        keep_last: bool = False,
    ) -> None:
        """Records an evaluation, and keeps the module if it is the best one.

        Args:
            step: steps done.
            loss: the evaluation loss.
            module: in its current state.
            optimizer: in its current state.
            keep_last: there is no evaluation, so every state counts as the best one.
        """
        self.step = step
        if not self.best or loss < self.best_loss or keep_last:
            self.best_loss, self.best_step, self.evals_since_best = loss, step, 0
            self.best = {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}
        else:
            self.evals_since_best += 1
        if self._path is not None and (started := time.monotonic()) >= self._next_save:
            self._save(self._path, module, optimizer)
            self._next_save = time.monotonic() + REST * (time.monotonic() - started)

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
        """Restores module and optimiser from the file; False if there is none for this training.

        A damaged file is logged, and the training starts again.
        """
        from safetensors import safe_open

        if self._path is None or not self._path.is_file():
            return False
        try:
            with safe_open(self._path, framework="pt") as file:
                facts = file.metadata() or {}
                if facts.get("key") != self._key:
                    return False
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self._restore(facts, tensors, module, optimizer)
        except Exception as error:  # safetensors has an error of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            _log.warning("%s is damaged (%s); this training starts again", self._path, reason)
            return False
        return True

    def _restore(
        self,
        facts: Mapping[str, str],
        tensors: dict[str, Tensor],
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Restores what a file holds, or nothing if it does not fit."""
        steps = [int(facts[name]) for name in ("step", "best_step", "looks_since_best")]  # as files name them
        loss, own = float(facts["best_loss"]), module.state_dict()
        parts = {prefix: _part(tensors, prefix) for prefix in ("module.", "best.")}
        for part in parts.values():
            _check_shapes(part, own)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(tensors, "optimizer.").items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = tensor
        for place, parameter in enumerate(module.parameters()):
            like = {name: one for name, one in moments.get(place, {}).items() if one.numel() > 1}
            _check_shapes(like, dict.fromkeys(like, parameter))
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        module.load_state_dict(parts["module."])
        self.best, self.best_loss = parts["best."], loss
        self.step, self.best_step, self.evals_since_best = steps

    def _save(self, path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        from safetensors.torch import save

        tensors: dict[str, Any] = {f"module.{k}": v for k, v in module.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for number, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{k}": v for k, v in moments.items()}
        facts = {"key": self._key, "step": repr(self.step), "best_step": repr(self.best_step)}
        facts |= {"looks_since_best": repr(self.evals_since_best), "best_loss": repr(self.best_loss)}
        write_file(path, save({k: v.detach().cpu().clone() for k, v in tensors.items()}, metadata=facts))


def _check_shapes(found: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> None:
    shapes = [{name: list(tensor.shape) for name, tensor in of.items()} for of in (found, needed)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"it holds {shapes[0]}, and {shapes[1]} is needed")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
