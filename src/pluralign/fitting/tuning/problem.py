"""What a family passes to the loop: texts, training units with a loss each, and the head that is trained.

A unit is what has a loss of its own: a response with its ratings, or a pair of responses.

Notation: N distinct texts, U units, S texts of each (1 or 2), B units of a batch, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.conversations import Conversation
from pluralign.fitting.tables.inputs import Fitted, Inputs

__all__ = ["Entries", "Problem", "Stage", "TuningRecipe"]

Losses = Callable[[Any, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """A part of the data, and the losses of a head on it.

    Attributes:
        conversations: the N distinct texts.
        units: [U, S], the texts of each unit.
        groups: [U], the group of each unit.
        losses: maps a head, vectors [B, S, D] and the numbers [B] of their units to a loss per unit, [B]; the
            mean over all units is the loss of the family's frozen fit, without its penalty.
    """

    conversations: Sequence[Conversation]
    units: Int[Tensor, "U S"]
    groups: Sequence[str]
    losses: Losses

    def __len__(self) -> int:
        return len(self.units)


@dataclass(frozen=True)
class Stage:
    """One training of the backbone.

    Attributes:
        name: for reports and files.
        start: fits a head on the current backbone; its gate and mix are fitted at the end.
        trained: names of the tensors in the head's state dict that are trained.
        problem: the losses of such a head on a part of the data, which is held out if `held_out=True`; None
            where the part has none.
    """

    name: str
    start: Callable[[Inputs, Any], Fitted]
    trained: Callable[[Any], Sequence[str]]
    problem: Callable[..., Problem | None]


@dataclass(frozen=True)
class TuningRecipe:
    """How a family is tuned.

    Attributes:
        stages: for the data that there is, in order; the head of the last one is the model's.
        finish: adds what is fitted on the tuned backbone to that head: gate, unit, baselines; of the head,
            all data, the family's configuration, and the held-out part (None where nothing was held out).
    """

    stages: Callable[[Inputs, Any], Sequence[Stage]]
    finish: Callable[[Any, Inputs, Any, Inputs | None], Fitted]


class Entries:
    """Ratings of units, a few each: which attribute, which number, which weight.

    Args:
        unit: [E], the unit of each rating.
        attribute: [E], the place of its attribute.
        target: [E].
        weight: [E, ...], whose sum over a unit's entries is its share of the mean loss.
        num_units: U.
    """

    def __init__(
        self,
        unit: Int[Tensor, " E"],
        attribute: Int[Tensor, " E"],
        target: Float[Tensor, " E"],
        weight: Float[Tensor, "E ..."],
        num_units: int,
    ) -> None:
        order = torch.argsort(unit, stable=True)
        self._attribute, self._target, self._weight = attribute[order], target[order], weight[order]
        counts = torch.bincount(unit, minlength=num_units)
        self._first, self._count = counts.cumsum(0) - counts, counts

    def of(self, rows: Int[Tensor, " B"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Place in `rows`, attribute, target and weight of all entries of some units, [M] each."""
        device, rows = rows.device, rows.cpu()
        counts = self._count[rows]
        place = torch.repeat_interleave(torch.arange(len(rows)), counts)
        inside = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts)[place]
        entry = self._first[rows][place] + inside
        found = (place, self._attribute[entry], self._target[entry], self._weight[entry])
        return tuple(one.to(device) for one in found)  # type: ignore[return-value]
