"""Several sequences in one row without padding, and the sums of their tokens' log-probabilities.

In: token ids of prompts and responses. Out: `Packed`, flat tensors with positions that restart at 0 for each
sequence, and the positions that predict a token of a response.

A row is divided into bins. In a model that separates packed sequences (tested by `probe`), attention does not
cross sequences: transformers isolates the sequences of one row by their positions, with variable-length
kernels for flash attention and with a block mask otherwise. For other models each sequence has its own bin.
The time of a mask is quadratic in the length of a bin, so bins are short if there is a mask, and otherwise
one bin is the whole row. The last token of a sequence predicts nothing and is not an input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.precision import widened

__all__ = ["Packed", "TokenPair", "pack", "sequence_sums"]

TokenPair = tuple[Sequence[int], Sequence[int]]  # a prompt and the response to it


@dataclass(frozen=True)
class Packed:
    """Concatenated sequences of one batch.

    Attributes:
        input_ids: [T], all tokens except the last one of each sequence.
        position_ids: [T], 0, 1, ... within each sequence.
        predictors: [P], ascending indices in [0, T) of the tokens before each response token.
        tokens: [P], the response's tokens.
        bins: lengths of the bins, in order; they sum to T.
        counts: number of response tokens of each sequence, in packed order; they sum to P.
        places: for each sequence in the given order, its number in packed order.
    """

    input_ids: Int[Tensor, " T"]
    position_ids: Int[Tensor, " T"]
    predictors: Int[Tensor, " P"]
    tokens: Int[Tensor, " P"]
    bins: list[int]
    counts: list[int]
    places: list[int]

    def to(self, device: Any) -> Packed:
        """The same batch with its tensors on a device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            position_ids=self.position_ids.to(device),
            predictors=self.predictors.to(device),
            tokens=self.tokens.to(device),
        )


def pack(sequences: Sequence[TokenPair], bin_tokens: int | None) -> Packed:
    """Packs sequences into bins.

    Args:
        sequences: token ids of prompt and response; each prompt has at least one token, since the first
            token of a response is predicted from it.
        bin_tokens: maximum number of tokens of a bin, unless a single sequence is longer; None for one bin.

    Returns:
        The packed batch.

    Raises:
        ArgumentError: there are no sequences, or a prompt has no tokens.
    """
    if not sequences:
        raise ArgumentError("pack needs at least one sequence, received none")
    if any(len(prompt) == 0 for prompt, _ in sequences):
        raise ArgumentError("pack: a prompt has no token, so nothing predicts the response's first token")
    lengths = [len(prompt) + len(response) - 1 for prompt, response in sequences]
    groups = [list(range(len(sequences)))] if bin_tokens is None else _first_fit(lengths, bin_tokens)
    order = [one for group in groups for one in group]
    ids: list[int] = []
    positions: list[int] = []
    predictors: list[int] = []
    tokens: list[int] = []
    for one in order:
        prompt, response = sequences[one]
        first = len(ids) + len(prompt) - 1
        ids += [*prompt, *response][: lengths[one]]
        positions += range(lengths[one])
        predictors += range(first, first + len(response))
        tokens += response
    places = [0] * len(order)
    for place, one in enumerate(order):
        places[one] = place
    return Packed(
        input_ids=torch.tensor(ids, dtype=torch.long),
        position_ids=torch.tensor(positions, dtype=torch.long),
        predictors=torch.tensor(predictors, dtype=torch.long),
        tokens=torch.tensor(tokens, dtype=torch.long),
        bins=[sum(lengths[one] for one in group) for group in groups],
        counts=[len(sequences[one][1]) for one in order],
        places=places,
    )


def sequence_sums(token_log_probs: Float[Tensor, " P"], packed: Packed) -> Float[Tensor, " S"]:
    """Sum of the log-probabilities of each response, in the given order of sequences.

    The sum is computed in float64, so that it does not depend on the other packed sequences.

    Args:
        token_log_probs: log-probabilities of `packed.tokens`, [P].
        packed: the batch.

    Returns:
        [S], in the dtype of `token_log_probs`; 0 for a response without tokens.
    """
    parts = torch.split(widened(token_log_probs), packed.counts)
    return torch.stack([parts[place].sum() for place in packed.places]).to(token_log_probs.dtype)


def _first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins by the first-fit rule, longest sequence first; deterministic."""
    groups: list[list[int]] = []
    room: list[int] = []
    for one in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = next((g for g, free in enumerate(room) if free >= lengths[one]), None)
        if place is None:
            groups.append([one])
            room.append(max(capacity - lengths[one], 0))
        else:
            groups[place].append(one)
            room[place] -= lengths[one]
    return groups
