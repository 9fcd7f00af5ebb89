"""The work on a chunk of logits between matrix products: two functions, and how they are run.

In: the output of the head, [C, V], float32 or wider. Out: a logit and a normaliser per position, and the
gradient with respect to the output of the head. Nothing here is differentiable.

The functions are written once. Uncompiled they pass over the chunk about ten times; compiled by torch
(Inductor, which writes Triton kernels for a GPU) they are fused into two or three passes.

Notation: C positions, V vocabulary, z logits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pluralign.errors import ConfigError

__all__ = ["PLAIN", "Kernels", "LogitRule", "choose_kernels", "reduce_logits", "slope_of_logits"]

_log = logging.getLogger("pluralign.policy")


@dataclass(frozen=True)
class LogitRule:
    """The transformation of logits after the head: z = cap * tanh(scale * raw / cap).

    Attributes:
        scale: factor on the raw logits (Cohere's `logit_scale`, the inverse of Granite's `logits_scaling`).
        cap: bound of Gemma 2's soft capping; None for no bound.
    """

    scale: float = 1.0
    cap: float | None = None

    def apply(self, raw: Tensor) -> Tensor:
        """The logits."""
        z = raw if self.scale == 1.0 else raw * self.scale
        return z if self.cap is None else self.cap * torch.tanh(z / self.cap)

    def chain(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """The gradient with respect to raw logits, from that with respect to logits."""
        if self.cap is not None:
            gradient = gradient * (1 - (logits / self.cap) ** 2)
        return gradient if self.scale == 1.0 else gradient * self.scale


def reduce_logits(
    raw: Float[Tensor, "C V"], bias: Float[Tensor, " V"] | None, tokens: Int[Tensor, " C"], rule: LogitRule
) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
    """z[token] and logsumexp(z), with z = rule(raw + bias)."""
    logits = _logits(raw, bias, rule)
    return logits.gather(1, tokens[:, None])[:, 0], logits.logsumexp(-1)


def slope_of_logits(
    raw: Float[Tensor, "C V"],
    bias: Float[Tensor, " V"] | None,
    tokens: Int[Tensor, " C"],
    normalizers: Float[Tensor, " C"],
    upstream: Float[Tensor, " C"],
    rule: LogitRule,
    dtype: torch.dtype,
) -> Float[Tensor, "C V"]:
    """upstream times the gradient of log p[token] with respect to raw, in the dtype of the products.

    d log p[token] / dz = onehot - softmax(z), rounded after the difference.
    """
    logits = _logits(raw, bias, rule)
    slope = (logits - normalizers[:, None]).exp_().mul_(-upstream[:, None])
    slope.scatter_add_(1, tokens[:, None], upstream[:, None])
    return rule.chain(slope, logits).to(dtype)


def _logits(raw: Tensor, bias: Tensor | None, rule: LogitRule) -> Tensor:
    return rule.apply(raw if bias is None else raw + bias)


@dataclass(frozen=True)
class Kernels:
    """How the two functions are run.

    Attributes:
        name: plain or compiled.
        reduce: `reduce_logits`.
        slope: `slope_of_logits`.
    """

    name: str
    reduce: Callable[..., tuple[Tensor, Tensor]]
    slope: Callable[..., Tensor]


PLAIN = Kernels("plain", reduce_logits, slope_of_logits)


@cache
def _compiled() -> Kernels:
    """Compiled at the first call; one compilation is used for chunks of any number of positions."""
    return Kernels("compiled", _any_length(reduce_logits), _any_length(slope_of_logits))


def _any_length(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(function, fullgraph=True)

    def run(raw: Tensor, bias: Tensor | None, *others: Any) -> Any:
        for tensor in (raw, *(other for other in others if isinstance(other, Tensor))):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return compiled(raw, bias, *others)

    return run


def choose_kernels(
    requested: str, device: torch.device, vocabulary: int, bias: bool, rule: LogitRule, dtype: torch.dtype
) -> Kernels:
    """The kernels for a model's head on a device; compiled ones are tested by comparison with plain ones.

    Args:
        requested: plain, compiled, or auto: compiled on a GPU if that works, otherwise plain.
        device: where the model is.
        vocabulary: V.
        bias: whether its head has a bias.
        rule: the model's transformation of logits.
        dtype: dtype of the products.

    Raises:
        ConfigError: compiled kernels are requested, but do not work here.
    """
    if requested == "plain" or (requested == "auto" and device.type != "cuda"):
        return PLAIN
    kernels = _compiled()
    problem = _difference(kernels, device, vocabulary, bias, rule, dtype)
    if problem is None:
        return kernels
    if requested == "compiled":
        raise ConfigError(
            f"log_prob_kernel: received compiled, which does not work here ({problem}); allowed: auto, plain"
        )
    _log.warning(
        "log-probabilities are computed without compiled kernels, which do not work here: %s", problem
    )
    return PLAIN


@torch.no_grad()
def _difference(
    kernels: Kernels, device: torch.device, vocabulary: int, bias: bool, rule: LogitRule, dtype: torch.dtype
) -> str | None:
    """What is wrong with the kernels on a few random positions; None if nothing is."""
    raw = torch.randn(24, vocabulary, generator=torch.Generator().manual_seed(0)).mul_(5)
    upstream, tokens = torch.linspace(-1, 1, 24), torch.arange(24) % vocabulary
    offsets = torch.linspace(-1, 1, vocabulary, dtype=dtype) if bias else None
    try:
        raw, upstream, tokens = (tensor.to(device) for tensor in (raw, upstream, tokens))
        offsets = None if offsets is None else offsets.to(device)
        chosen, normalizers = kernels.reduce(raw, offsets, tokens, rule)
        slope = kernels.slope(raw, offsets, tokens, normalizers, upstream, rule, dtype)
    except Exception as error:  # any error of a compiler
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    wanted, normal = PLAIN.reduce(raw, offsets, tokens, rule)
    gradient = PLAIN.slope(raw, offsets, tokens, normal, upstream, rule, dtype)
    tolerance = 1e-2 if dtype.itemsize < 4 else 1e-4
    for one, other in ((chosen, wanted), (normalizers, normal), (slope, gradient)):
        if not torch.allclose(one.float(), other.float(), rtol=tolerance, atol=1e-4):
            return f"their numbers are off by {(one.float() - other.float()).abs().max().item():.3g}"
    return None
