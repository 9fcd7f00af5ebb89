"""Runs prompts that many texts share only once: their keys and values are reused for all responses.

In: `Tokens` of conversations. Out: the same vectors as without sharing, up to rounding, from fewer tokens:
P + nR instead of n(P + R) for n responses of R tokens to a prompt of P. Only for causal models.

Prompts of a batch are padded on the left, so that the cached positions next to the responses are always
tokens; this keeps sliding-window attention exact.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pluralign.backbones.batches import by_token_budget, collate
from pluralign.backbones.forward import Forward
from pluralign.backbones.tokens import Tokens

__all__ = ["run", "run_shared", "split_shared"]

# Two small passes instead of one must pay off: the minimum share of a group's tokens to be saved.
_LEAST_SAVING = 0.2


def run(forward: Forward, kind: str, texts: Sequence[Tokens]) -> Iterator[tuple[list[int], Tensor]]:
    """Like `Forward.run`, but runs shared prompts once if the model's mode allows it."""
    rest = list(range(len(texts)))
    if forward.mode.share_prompts:
        shared, rest = split_shared(texts, forward.limit)
        yield from run_shared(forward, texts, shared)
    for places, vectors in forward.run(kind, [texts[one] for one in rest]):
        yield [rest[place] for place in places], vectors


def split_shared(texts: Sequence[Tokens], limit: int | None = None) -> tuple[list[list[int]], list[int]]:
    """Positions of texts in groups that share their prompt with profit, and of the others.

    Args:
        texts: conversations.
        limit: most tokens of a text that may share its prompt; None for any number.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for place, one in enumerate(texts):
        if 0 < one.start < len(one.ids) and (limit is None or len(one.ids) <= limit):
            groups[one.ids[: one.start].tobytes()].append(place)
    shared = []
    for group in groups.values():
        saved = (len(group) - 1) * texts[group[0]].start
        if saved > 0 and saved >= _LEAST_SAVING * sum(len(texts[one].ids) for one in group):
            shared.append(group)
    taken = {one for group in shared for one in group}
    return shared, [place for place in range(len(texts)) if place not in taken]


def run_shared(
    forward: Forward, texts: Sequence[Tokens], groups: Sequence[Sequence[int]]
) -> Iterator[tuple[list[int], Tensor]]:
    """Vectors of texts that share prompts: the response's, then the state of the last prompt token.

    Yields:
        Positions in `texts`, and their vectors `[B, W]`, float32 on the CPU.
    """
    starts = [texts[group[0]].start for group in groups]
    for several in by_token_budget(starts, forward.max_tokens):
        prompts = _Prompts(forward, [_part(texts[groups[one][0]], 0, starts[one]) for one in several])
        members = [(row, place) for row, one in enumerate(several) for place in groups[one]]
        responses = [_part(texts[place], texts[place].start, len(texts[place].ids)) for _, place in members]
        # A row holds its prompt's keys and values in memory; each counts as a quarter of a token.
        extra = prompts.padded.input_ids.shape[1] // 4
        for batch in by_token_budget([len(one.ids) for one in responses], forward.max_tokens, extra):
            rows = [members[one][0] for one in batch]
            yield [members[one][1] for one in batch], prompts.vectors([responses[one] for one in batch], rows)


class _Prompts:
    """Prompts that the model has read: their keys and values, and the state of each one's last token."""

    @torch.inference_mode()
    def __init__(self, forward: Forward, prompts: Sequence[Tokens]) -> None:
        self._forward = forward
        self.padded = collate(prompts, pad_id=forward.pad_id, side="left")
        output = forward.states(self.padded, keep=True)
        self._past, self._states = output.past_key_values, output.last_hidden_state[:, -1].float()

    @torch.inference_mode()
    def vectors(self, responses: Sequence[Tokens], prompts: Sequence[int]) -> Tensor:
        """Vectors of responses to these of the prompts, [B, W], float32 on the CPU."""
        rows = torch.tensor(prompts)  # on the CPU, so that it can index caches spread over several devices
        past = copy.deepcopy(self._past)  # the forward pass appends to it
        past.batch_select_indices(rows)
        padded = collate(responses, pad_id=self._forward.pad_id)
        states = self._forward.states(padded, past, self.padded.attention_mask[rows]).last_hidden_state
        pooled = self._forward.pool_response(states, padded.stop.to(states.device))
        return torch.cat([pooled, self._states[rows].to(pooled.device)], dim=-1).cpu()


def _part(text: Tokens, start: int, stop: int) -> Tokens:
    types = None if text.types is None else text.types[start:stop]
    return Tokens(text.ids[start:stop], types, 0, text.truncated)
