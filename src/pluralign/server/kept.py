"""What is kept of a conversation, so that other questions about it need no second pass of the backbone.

In: the inputs of heads, or the distributions of a scorer without a head, one row each. Out: a `Prediction`
for any question: reward, attributes, gate and personas. Texts are not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pluralign.distributions import RewardDistribution
from pluralign.heads import HeadInputs, Steering

__all__ = ["Kept", "Prediction", "predicted"]


@dataclass(frozen=True)
class Kept:
    """One conversation.

    Attributes:
        inputs: of the model's head, one row; None for a scorer without a head.
        reward: of a scorer without a head, one row; None for one with a head.
        personas: head inputs of each persona's model, or its prediction if it has no head; one row each.
        truncated: whether the text was truncated; None where the scorer does not say.
    """

    inputs: HeadInputs | None
    reward: RewardDistribution | None
    personas: Mapping[str, HeadInputs | RewardDistribution] = field(default_factory=dict)
    truncated: bool | None = None

    @property
    def num_bytes(self) -> int:
        """Memory of its numbers; tensors that parts share count once."""
        parts = [self.inputs, self.reward, *self.personas.values()]
        found = {t.data_ptr(): t.numel() * t.element_size() for part in parts for t in _tensors(part)}
        return sum(found.values())


@dataclass(frozen=True)
class Prediction:
    """What is predicted for N conversations, in blocks of rows that follow each other.

    Attributes:
        reward: in units of the reference standard deviation.
        attributes: by name, on the scales of their ratings, N rows each; empty without attributes.
        gate: [N, A], weights of the attributes; None where the caller's replace them, or there are none.
        personas: rewards by persona.
        truncated: as in `Kept`, N of them.
    """

    reward: Sequence[RewardDistribution]
    attributes: Mapping[str, RewardDistribution] = field(default_factory=dict)
    gate: Tensor | None = None
    personas: Mapping[str, Sequence[RewardDistribution]] = field(default_factory=dict)
    truncated: Sequence[bool | None] = ()


@torch.no_grad()
def predicted(
    scorer: Any, personas: Mapping[str, Any], kept: Sequence[Kept], steering: Steering | None
) -> Prediction:
    """The prediction for conversations that were scored before.

    Args:
        scorer: the model that scored them.
        personas: models of personas, by name; those that are missing kept their distributions.
        kept: at least one.
        steering: of the attributes; None for a scorer without a head.
    """
    truncated = [one.truncated for one in kept]
    crowd = {
        name: _of_persona(personas.get(name), [one.personas[name] for one in kept])
        for name in kept[0].personas
    }
    inputs = _stacked([one.inputs for one in kept if one.inputs is not None])
    if inputs is None:
        blocks = [one.reward for one in kept if one.reward is not None]
        return Prediction(blocks, personas=crowd, truncated=truncated)
    head = scorer.head
    attributes: Mapping[str, RewardDistribution] = {}
    gate = None
    if head.attributes:
        attributes = scorer.predicted_attributes(inputs.response, on_grid=True)
        if steering is None or steering.weights is None:
            gate = head.gate_weights(inputs.prompt)
    reward = head.distribution(*inputs, steering=steering)
    return Prediction([reward], attributes, gate, crowd, truncated)


def _of_persona(model: Any, rows: Sequence[HeadInputs | RewardDistribution]) -> Sequence[RewardDistribution]:
    inputs = _stacked([row for row in rows if isinstance(row, HeadInputs)])
    if inputs is None:
        return [row for row in rows if isinstance(row, RewardDistribution)]
    found: RewardDistribution = model.head.distribution(*inputs)
    return [found]


def _stacked(rows: Sequence[HeadInputs]) -> HeadInputs | None:
    """Rows as one batch; None for none."""
    if not rows:
        return None
    response, prompt = (torch.cat([getattr(row, name) for row in rows]) for name in ("response", "prompt"))
    lengths = [row.length for row in rows if row.length is not None]
    return HeadInputs(response, prompt, torch.cat(lengths) if lengths else None)


def _tensors(part: HeadInputs | RewardDistribution | None) -> Iterator[Tensor]:
    if isinstance(part, HeadInputs):
        yield from (one for one in part if one is not None)
    elif part is not None:
        own, shared, members = part.parameters()
        yield from own.values()
        yield from shared.values()
        for member in members:
            yield from _tensors(member)
