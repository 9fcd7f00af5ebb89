"""Log-probabilities of given tokens from hidden states and the output head, chunk by chunk.

In: hidden states [P, D] of the predicting positions, the head's weight [V, D], the tokens [P]. Out: float32
[P], differentiable in states, weight and bias. Logits are computed for one chunk of positions at a time,
[C, V], in the forward pass and again in the backward pass, never [P, V].

Matrix products are those of the device; the work on a chunk of logits between them is in two functions of
`logits`, which are fused kernels on a GPU.

Precision: logits are float32 for all inputs (products of half-precision inputs are accumulated in float32 and
not rounded back), and so is the sum of the weight's gradient over chunks.

Notation: P positions, C positions of a chunk, D width, V vocabulary, z logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.policy.logprobs.logits import PLAIN, Kernels, LogitRule

__all__ = ["token_log_probs"]

_CHUNK_BYTES = {"cpu": 2**24}  # of one chunk of logits; on a CPU it should fit roughly into the caches
_RELEASE = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2] if part.isdecimal())
_WIDE_PRODUCTS = _RELEASE >= (2, 8)  # half-precision products that return float32
_WIDE_SUMS = _RELEASE >= (2, 10)  # ... and that add to float32


def token_log_probs(
    hidden: Float[Tensor, "P D"],
    weight: Float[Tensor, "V D"],
    tokens: Int[Tensor, " P"],
    bias: Float[Tensor, " V"] | None = None,
    rule: LogitRule | None = None,
    chunk: int | None = None,
    kernels: Kernels = PLAIN,
) -> Float[Tensor, " P"]:
    """log softmax(z)[token] with z = rule(hidden W' + bias), without storing [P, V].

    The backward pass recomputes the logits of each chunk: one product more than a plain cross-entropy, but V
    times less memory per position.

    Args:
        hidden: states at the positions before each token, [P, D].
        weight: weight of the head, [V, D], any floating dtype; under autocast it is used in that dtype.
        tokens: the tokens, [P], in [0, V).
        bias: bias of the head, [V], or None.
        rule: transformation of the logits after the head; None for none.
        chunk: positions at a time; None for about 16 MB of logits on a CPU and 512 MB elsewhere.
        kernels: functions for a chunk of logits; all give the same numbers up to rounding.

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
    result: Tensor = apply(hidden, weight, bias, tokens, rule or LogitRule(), size, kernels)
    return result


class _TokenLogProbs(torch.autograd.Function):
    """The chunked forward pass, and the backward pass that computes the logits again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        tokens: Tensor,
        rule: LogitRule,
        size: int,
        kernels: Kernels,
    ) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        ctx.rule, ctx.size, ctx.kernels, ctx.dtype = rule, size, kernels, dtype
        chosen = torch.empty(len(hidden), dtype=_wide(hidden), device=hidden.device)
        normalizers = torch.empty_like(chosen)
        with torch.autocast(device, enabled=False):
            head = _operand(weight, dtype)
            for part, states in _chunks(hidden, dtype, size):
                found = kernels.reduce(_product(states, head.T), bias, tokens[part], rule)
                chosen[part], normalizers[part] = found
        ctx.save_for_backward(hidden, weight, bias, tokens, normalizers)
        return chosen - normalizers

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Two matrix products per chunk, with the gradient of its logits."""
        hidden, weight, bias, tokens, normalizers = ctx.saved_tensors
        of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight, dtype=_wide(weight)) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias, dtype=_wide(bias)) if ctx.needs_input_grad[2] else None
        upstream = gradients[0]
        with torch.autocast(hidden.device.type, enabled=False):
            head = _operand(weight, ctx.dtype)
            for part, states in _chunks(hidden, ctx.dtype, ctx.size):
                raw = _product(states, head.T)
                slope = ctx.kernels.slope(
                    raw, bias, tokens[part], normalizers[part], upstream[part], ctx.rule, head.dtype
                )
                del raw
                if of_bias is not None:
                    of_bias += slope.sum(0, dtype=of_bias.dtype)
                if of_hidden is not None:
                    of_hidden[part] = _product(slope, head).to(hidden.dtype)
                if of_weight is not None:
                    _add_product(of_weight, slope.T, states)
        return (
            of_hidden,
            None if of_weight is None else of_weight.to(weight.dtype),
            None if of_bias is None else of_bias.to(bias.dtype),
            *(None, None, None, None),
        )


def _chunks(hidden: Tensor, dtype: torch.dtype, size: int) -> Iterator[tuple[slice, Tensor]]:
    """The slice of each chunk, and its states as an operand."""
    for start in range(0, len(hidden), size):
        part = slice(start, start + size)
        yield part, _operand(hidden[part], dtype)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _operand(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix in the dtype of the products: half precision on a GPU, where products accumulate in float32
    and can return it; float32 on a CPU, which has no such product."""
    halves = matrix.is_cuda and _WIDE_PRODUCTS
    return matrix.to(dtype if halves else torch.promote_types(dtype, torch.float32))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b as float32 (float64 for float64)."""
    return torch.mm(a, b, out_dtype=torch.float32) if a.dtype.itemsize < 4 else torch.mm(a, b)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b, in the dtype of the total."""
    if a.dtype.itemsize >= 4:
        total.addmm_(a, b)
    elif _WIDE_SUMS:
        torch.addmm(total, a, b, out_dtype=torch.float32, out=total)
    else:
        total += torch.mm(a, b, out_dtype=torch.float32)
