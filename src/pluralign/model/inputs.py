"""The inputs of a head: embeddings, and lengths if it is debiased for length.

In: conversations and their embeddings. Out: `HeadInputs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from pluralign.heads import Head, HeadInputs
from pluralign.heads.debias import LengthUnit

if TYPE_CHECKING:
    from pluralign.backbones import Embeddings

__all__ = ["Conversation", "head_inputs", "response_lengths"]

Conversation = Sequence[Mapping[str, str]]


def head_inputs(head: Head, conversations: Sequence[Conversation], embedded: Embeddings) -> HeadInputs:
    """The vectors, and the responses' lengths in the head's unit, if it uses them."""
    unit = head.length_unit
    length = None if unit is None else response_lengths(unit, conversations, embedded)
    return HeadInputs(embedded.response, embedded.prompt, length)


def response_lengths(
    unit: LengthUnit, conversations: Sequence[Conversation], embedded: Embeddings
) -> Float[Tensor, " N"]:
    """The tokens of each response that the backbone read, or all of its characters."""
    if unit == "tokens":
        return embedded.num_tokens.float()
    return torch.tensor([float(len(c[-1]["content"])) for c in conversations])
