"""The texts of a table as a model reads them, each once, and columns that a head gives of them.

In: a model and a table. Out: `Texts`; columns of plain arrays. It measures nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pluralign.data import distinct_conversations
from pluralign.heads import Head, HeadInputs

if TYPE_CHECKING:
    import datasets

    from pluralign.model import RewardModel

__all__ = ["Columns", "Texts", "gate_columns", "host_array"]

Columns = dict[str, Any]


@dataclass(frozen=True)
class Texts:
    """Distinct conversations and what a model's head reads of them.

    Attributes:
        conversations: M of them.
        numbers: for each column of responses, which conversation each of the N rows has.
        inputs: of the M conversations.
    """

    conversations: list[list[dict[str, str]]]
    numbers: tuple[Tensor, ...]
    inputs: HeadInputs

    @classmethod
    def read(
        cls, model: RewardModel, table: datasets.Dataset, *sides: str, progress: bool | None = None
    ) -> Texts:
        """Embeds these columns of responses."""
        conversations, numbers = distinct_conversations(table, *sides)
        inputs = model.read(conversations, progress=progress)
        return cls(conversations, tuple(torch.from_numpy(side) for side in numbers), inputs)


def gate_columns(head: Head, prompt: Tensor) -> Columns:
    """The weight of each attribute as `gate_<attribute>`; nothing where the model has no gate.

    Args:
        head: of the model.
        prompt: [N, P], the prompts' vectors.
    """
    if not head.has_gate:
        return {}
    weights = head.gate_weights(prompt)
    return {f"gate_{a.name}": host_array(weights[:, i]) for i, a in enumerate(head.attributes)}


def host_array(tensor: Tensor) -> Any:
    """The tensor as an array."""
    return tensor.detach().cpu().numpy()
