"""From the states of all tokens to one vector per text: last token, mean, or both.

In: hidden states of a padded batch and, per row, which tokens count. Out: float32 vectors. Positions come
from the attention mask, never from the pad token's id, so `pad == eos` and the padding side do not
matter.

Notation: B rows, T tokens of the padded batch, D width of a state.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["pool", "pooled_width", "state_at"]


def pooled_width(width: int, pooling: str) -> int:
    """Width of the pooled vector for states of `width`."""
    return 2 * width if pooling == "last_mean" else width


def pool(
    states: Float[Tensor, "B T D"], first: Int[Tensor, " B"], stop: Int[Tensor, " B"], pooling: str
) -> Float[Tensor, "B W"]:
    """Pools the states of tokens `first <= t < stop` of each row.

    Args:
        states: `[B, T, D]`, the last layer after its norm.
        first: `[B]`, position of the first token that counts.
        stop: `[B]`, one past the last token that counts; greater than `first`.
        pooling: `last`, `mean` or `last_mean`.

    Returns:
        `[B, D]` float32, `[B, 2 D]` for `last_mean` (last, then mean).
    """
    if pooling == "last":
        return state_at(states, stop - 1)
    steps = torch.arange(states.shape[1], device=states.device)
    keep = (steps >= first[:, None]) & (steps < stop[:, None])
    weights = keep.float() / (stop - first)[:, None]
    mean = torch.einsum("bt,btd->bd", weights, states.float())
    return mean if pooling == "mean" else torch.cat([state_at(states, stop - 1), mean], dim=-1)


def state_at(states: Float[Tensor, "B T D"], position: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
    """The state of one token per row, in float32."""
    return states[torch.arange(states.shape[0], device=states.device), position].float()
