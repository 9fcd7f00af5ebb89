"""Log-probabilities of given tokens from hidden states and the output head, chunk by chunk.

In: hidden states [P, D] of the positions that predict, the head's weight [V, D], the tokens [P]. Out: float32
[P], differentiable in states, weight and bias. Logits exist for one chunk of positions at a time, [C, V], in
the forward pass and again in the backward pass, never [P, V]. It knows nothing about models or sequences.

Precision: logits are float32 whatever the inputs are (products of half-precision inputs are accumulated in
float32 and not rounded back), and so is the sum of the weight's gradient over chunks.

Notation: P positions, C positions of a chunk, D width, V vocabulary, z logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.errors import ArgumentError

__all__ = ["LogitRule", "token_log_probs"]

_CHUNK_BYTES = {"cpu": 2**24, "cuda": 2**29}  # of one chunk of logits; a CPU's should stay near its caches


@dataclass(frozen=True)
class LogitRule:
    """What a model does to its logits after the head: z = cap * tanh(scale * raw / cap).

    Attributes:
        scale: factor on the raw logits (Cohere's `logit_scale`, the inverse of Granite's `logits_scaling`).
        cap: bound of Gemma 2's soft capping; None for none.
    """

    scale: float = 1.0
    cap: float | None = None

    def apply(self, raw: Tensor) -> Tensor:
        """The logits, in the memory of `raw`."""
        z = raw if self.scale == 1.0 else raw.mul_(self.scale)
        return z if self.cap is None else z.div_(self.cap).tanh_().mul_(self.cap)

    def chain(self, gradient: Tensor, logits: Tensor | None) -> Tensor:
        """The gradient with respect to raw logits, in the memory of the one with respect to logits."""
        if self.cap is not None and logits is not None:
            gradient.mul_(logits.div_(self.cap).square_().neg_().add_(1.0))
        return gradient if self.scale == 1.0 else gradient.mul_(self.scale)


def token_log_probs(
    hidden: Float[Tensor, "P D"],
    weight: Float[Tensor, "V D"],
    tokens: Int[Tensor, " P"],
    bias: Float[Tensor, " V"] | None = None,
    rule: LogitRule | None = None,
    chunk: int | None = None,
) -> Float[Tensor, " P"]:
    """log softmax(z)[token] with z = rule(hidden W' + bias), without ever holding [P, V].

    The backward pass recomputes each chunk's logits: one product more than a plain cross-entropy, and V
    times less memory per position.

    Args:
        hidden: states at the positions before each token, [P, D].
        weight: of the head, [V, D], any floating dtype; under autocast it is used in autocast's dtype.
        tokens: what was said, [P], in [0, V).
        bias: of the head, [V], or None.
        rule: what the model does to logits after the head; None for nothing.
        chunk: positions at a time; None for about 16 MB of logits on a CPU and 512 MB elsewhere.

    Returns:
        float32 [P] (float64 for float64 states), in nats, at most 0.

    Raises:
        ArgumentError: shapes do not fit, or `chunk` is not positive.
    """
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ArgumentError(
            f"token_log_probs needs hidden [P, D] and weight [V, D], received {list(hidden.shape)} and "
            f"{list(weight.shape)}"
        )
    if tokens.shape != hidden.shape[:1]:
        raise ArgumentError(f"tokens must have shape [{len(hidden)}], received {list(tokens.shape)}")
    if chunk is not None and chunk < 1:
        raise ArgumentError(f"chunk must be at least 1, received {chunk}")
    size = chunk or max(16, _CHUNK_BYTES.get(hidden.device.type, 2**29) // (4 * len(weight)))
    apply: Any = _TokenLogProbs.apply
    result: Tensor = apply(hidden, weight, bias, tokens, rule or LogitRule(), size)
    return result


class _TokenLogProbs(torch.autograd.Function):
    """The chunked forward pass, and the backward pass that computes the logits once more."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        tokens: Tensor,
        rule: LogitRule,
        size: int,
    ) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        ctx.rule, ctx.size, ctx.dtype = rule, size, dtype
        found = torch.empty(len(hidden), dtype=_wide(hidden), device=hidden.device)
        normalizers = torch.empty_like(found)
        with torch.autocast(device, enabled=False):
            head = _operand(weight, dtype)
            for part, states in _chunks(hidden, dtype, size):
                logits = _logits(states, head, bias, rule)
                normalizers[part] = logits.logsumexp(-1)
                found[part] = logits.gather(1, tokens[part, None])[:, 0]
        ctx.save_for_backward(hidden, weight, bias, tokens, normalizers)
        return found - normalizers

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """d log p / dz = onehot - softmax(z); the rest is two matrix products per chunk."""
        hidden, weight, bias, tokens, normalizers = ctx.saved_tensors
        of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight, dtype=_wide(weight)) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias, dtype=_wide(bias)) if ctx.needs_input_grad[2] else None
        upstream = gradients[0]
        with torch.autocast(hidden.device.type, enabled=False):
            head = _operand(weight, ctx.dtype)
            for part, states in _chunks(hidden, ctx.dtype, ctx.size):
                logits = _logits(states, head, bias, ctx.rule)
                kept = logits.clone() if ctx.rule.cap is not None else None
                slope = logits.sub_(normalizers[part, None]).exp_().mul_(-upstream[part, None])
                slope.scatter_add_(1, tokens[part, None], upstream[part, None])
                slope = ctx.rule.chain(slope, kept)
                if of_bias is not None:
                    of_bias += slope.sum(0)
                narrow = slope.to(head.dtype)
                if of_hidden is not None:
                    of_hidden[part] = _product(narrow, head).to(hidden.dtype)
                if of_weight is not None:
                    _add_product(of_weight, narrow.T, states)
        return (
            of_hidden,
            None if of_weight is None else of_weight.to(weight.dtype),
            None if of_bias is None else of_bias.to(bias.dtype),
            *(None, None, None),
        )


def _chunks(hidden: Tensor, dtype: torch.dtype, size: int) -> Iterator[tuple[slice, Tensor]]:
    """Each chunk's place, and its states as an operand."""
    for start in range(0, len(hidden), size):
        part = slice(start, start + size)
        yield part, _operand(hidden[part], dtype)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _operand(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix in the dtype of the products: half precision on a GPU, whose products accumulate in float32
    and can return it; float32 on a CPU, which has no such product."""
    return matrix.to(dtype if matrix.is_cuda else torch.promote_types(dtype, torch.float32))


def _logits(states: Tensor, head: Tensor, bias: Tensor | None, rule: LogitRule) -> Tensor:
    raw = _product(states, head.T)
    return rule.apply(raw if bias is None else raw.add_(bias))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b as float32 (float64 for float64)."""
    return torch.mm(a, b, out_dtype=torch.float32) if a.dtype.itemsize < 4 else torch.mm(a, b)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b, in the dtype of the total."""
    if a.dtype.itemsize < 4:
        total += torch.mm(a, b, out_dtype=torch.float32)
    else:
        total.addmm_(a, b)
