"""The forward pass: token ids in, states of the last layer out, and a pooled vector per text.

In: `Tokens`. Out: float32 vectors on the CPU, batch by batch.

A `RunMode` says how batches are padded and what the model is given besides token ids; with the right one,
found by `probe`, neither the padding side nor the other texts in a batch change a vector beyond rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pluralign.backbones.batches import PaddedBatch, by_equal_length, by_side, by_token_budget, collate
from pluralign.backbones.pooling import pool, state_at
from pluralign.backbones.run_mode import RunMode
from pluralign.backbones.switch_length import switch_length
from pluralign.backbones.tokens import Tokens

__all__ = ["Forward"]


class Forward:
    """Runs one model over texts.

    Args:
        model: a Hugging Face model without a task head.
        pooling: how the response's states become a vector.
        causal: whether the model reads from left to right only.
        typed: whether texts have segment ids.
        pad_id: the padding id.
        max_tokens: maximum tokens of a padded batch.
        mode: how batches are made; may be set later, by `probe.find_mode`.

    Attributes:
        takes: names of the arguments of the model's forward pass.
        limit: most tokens of a text that may be run beside shorter ones; None for any number.
    """

    def __init__(
        self,
        model: Any,
        *,
        pooling: str,
        causal: bool,
        typed: bool,
        pad_id: int,
        max_tokens: int,
        mode: RunMode,
    ) -> None:
        self.model = model
        self.causal = causal
        self.typed = typed
        self.max_tokens = max_tokens
        self.pad_id = pad_id
        self.mode = mode
        self.takes = frozenset(inspect.signature(model.forward).parameters)
        self.limit = switch_length(model.config)
        self._pooling = pooling

    def run(self, kind: str, texts: Sequence[Tokens]) -> Iterator[tuple[list[int], Tensor]]:
        """Vectors of all texts, each run as a whole, in the fastest order.

        Args:
            kind: `prompt` (pooled by mean), `response` or `pair` (pooled as configured), or `conversation`
                (the response's vector, then the state of the last prompt token).
            texts: what to run.

        Yields:
            Positions in `texts`, and their vectors `[B, W]`, float32 on the CPU.
        """
        for places in self.batches(texts):
            yield places, self.vectors(kind, [texts[place] for place in places])

    def batches(self, texts: Sequence[Tokens], max_tokens: int | None = None) -> Iterator[list[int]]:
        """Positions in `texts`, batch by batch, as `run` would make them.

        Args:
            texts: what is to be run.
            max_tokens: maximum tokens of a padded batch; None for that of this object.
        """
        limit = self.max_tokens if max_tokens is None else max_tokens
        for side in by_side([len(one.ids) for one in texts], self.limit):
            for batch in self._batches([len(texts[place].ids) for place in side], limit):
                yield [side[one] for one in batch]

    def _batches(self, lengths: list[int], max_tokens: int) -> Iterator[list[int]]:
        if self.mode.fill == "equal":
            return by_equal_length(lengths, max_tokens)
        return by_token_budget(lengths, 1 if self.mode.fill == "alone" else max_tokens)

    @torch.inference_mode()
    def vectors(self, kind: str, texts: Sequence[Tokens]) -> Tensor:
        """Vectors of one batch, `[B, W]`, float32 on the CPU; as `run`."""
        return self.pooled(kind, texts).cpu()

    def pooled(self, kind: str, texts: Sequence[Tokens]) -> Tensor:
        """Vectors of one batch, `[B, W]`, float32 where the model is, with gradients where they are on."""
        side = "left" if self.mode.fill == "left" else "right"
        padded = collate(texts, pad_id=self.pad_id, side=side)
        states = self.states(padded).last_hidden_state
        begin, stop = padded.begin.to(states.device), padded.stop.to(states.device)
        start = torch.tensor([one.start for one in texts], device=states.device)
        # An empty response is represented by the last token of the text.
        first = torch.minimum(begin + start, stop - 1)
        if kind != "conversation":
            return pool(states, first, stop, "mean" if kind == "prompt" else self._pooling)
        response = pool(states, first, stop, self._pooling)
        prompt = state_at(states, begin + (start - 1).clamp(min=0))
        return torch.cat([response, prompt], dim=-1)

    def pool_response(self, states: Tensor, stop: Tensor) -> Tensor:
        """Pools states that all belong to the response: tokens `0 <= t < stop`."""
        return pool(states, torch.zeros_like(stop), stop, self._pooling)

    def states(
        self, padded: PaddedBatch, past: Any = None, past_mask: Tensor | None = None, *, keep: bool = False
    ) -> Any:
        """The model's output (a transformers `ModelOutput`) for one padded batch.

        Args:
            padded: the batch.
            past: keys and values of the beginning of each row.
            past_mask: `[B, P]` on the CPU, which of the past positions are tokens.
            keep: whether to return keys and values.
        """
        device = self.model.device
        mask = padded.attention_mask
        inputs: dict[str, Any] = {"input_ids": padded.input_ids.to(device)}
        if past_mask is not None:
            mask = torch.cat([past_mask, mask], dim=1)
        if self.mode.mask:
            inputs["attention_mask"] = mask.to(device)
        if self.mode.positions:
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -padded.input_ids.shape[1] :]
            inputs["position_ids"] = positions.to(device)
        if padded.types is not None:
            inputs["token_type_ids"] = padded.types.to(device)
        if past is not None:
            inputs["past_key_values"] = past
        if self.causal and "use_cache" in self.takes:
            inputs["use_cache"] = keep or past is not None
        return self.model(**inputs)

    def plain_states(self, padded: PaddedBatch) -> Tensor:
        """States of texts of equal length with the model's own defaults: token ids and any segment ids."""
        inputs = {"input_ids": padded.input_ids.to(self.model.device)}
        if padded.types is not None:
            inputs["token_type_ids"] = padded.types.to(self.model.device)
        caching = {"use_cache": False} if "use_cache" in self.takes else {}
        states: Tensor = self.model(**inputs, **caching).last_hidden_state
        return states
