"""Where the training of a module stands: its best look so far, and a file from which it goes on.

In: a module and its optimiser after a look at held-out rows. Out: the same, restored. It does not know the
data, the loss or the schedule. The file is written whole or not at all, holds tensors only, and belongs to
one training: one of another key is ignored.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pluralign.files import write_file

__all__ = ["TrainingState"]

REST = 20  # a file that took a second to write is not written again for so many seconds


class TrainingState:
    """The best look and, given a path, its file.

    Args:
        path: a safetensors file; None keeps nothing on disk.
        key: what decides the training.

    Attributes:
        step: steps done.
        best_loss: of the best look.
        best_step: its step.
        looks_since_best: looks since then.
        best: the module's state dict at the best look.
    """

    def __init__(self, path: Path | None, key: str = "") -> None:
        self._path = path
        self._key = key
        self.step = 0
        self.best_loss = float("inf")
        self.best_step = 0
        self.looks_since_best = 0
        self.best: dict[str, Tensor] = {}
        self._next_save = 0.0

    def look(
        self,
        step: int,
        loss: float,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        keep_last: bool = False,
    ) -> None:
        """Takes note of a look, and keeps the module if it is the best one.

        Args:
            step: steps done.
            loss: on the rows by which looks are judged.
            module: as it is now.
            optimizer: as it is now.
            keep_last: there is nothing to judge by, so every look counts as the best one.
        """
        self.step = step
        if not self.best or loss < self.best_loss or keep_last:
            self.best_loss, self.best_step, self.looks_since_best = loss, step, 0
            self.best = {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}
        else:
            self.looks_since_best += 1
        if self._path is not None and (started := time.monotonic()) >= self._next_save:
            self._save(self._path, module, optimizer)
            self._next_save = time.monotonic() + REST * (time.monotonic() - started)

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
        """Puts module and optimiser where the file says; False where there is none of this training."""
        from safetensors import SafetensorError, safe_open

        if self._path is None or not self._path.is_file():
            return False
        try:
            with safe_open(self._path, framework="pt") as file:
                facts = file.metadata() or {}
                if facts.get("key") != self._key:
                    return False
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return False
        module.load_state_dict(_part(tensors, "module."))
        self.best = _part(tensors, "best.")
        self.step, self.best_step, self.looks_since_best = (
            int(facts[name]) for name in ("step", "best_step", "looks_since_best")
        )
        self.best_loss = float(facts["best_loss"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(tensors, "optimizer.").items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        return True

    def _save(self, path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        from safetensors.torch import save

        tensors: dict[str, Any] = {f"module.{k}": v for k, v in module.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for number, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{k}": v for k, v in moments.items()}
        names = ("step", "best_step", "looks_since_best", "best_loss")
        facts = {"key": self._key} | {name: repr(getattr(self, name)) for name in names}
        write_file(path, save({k: v.detach().cpu().clone() for k, v in tensors.items()}, metadata=facts))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
