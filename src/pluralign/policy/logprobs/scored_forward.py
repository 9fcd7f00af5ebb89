"""A second way to call a causal language model: tokens in, their log-probabilities out, no logits.

In: a transformers `*ForCausalLM`, plain or inside peft. After `install`, calling the model (or its wrapper:
DDP, FSDP, a peft model) with `predictors=` and `tokens=` runs its decoder bin by bin and returns the
log-probability of each token; every other call is as before, so `generate` and saving do not change.
It uses the model's own call, so that gradients are synchronised and sharded weights gathered.

A model's transformation of logits after the head is read from its configuration, and `examine` compares the
result with the model's own logits (`probe`): a model with an unknown transformation is refused rather than
trained on wrong numbers.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor

from pluralign.backbones.switch_length import switch_length
from pluralign.errors import ArgumentError
from pluralign.policy.logprobs.chunked import token_log_probs
from pluralign.policy.logprobs.logits import PLAIN, Kernels, LogitRule, choose_kernels
from pluralign.policy.logprobs.packing import Packed, sequence_sums
from pluralign.policy.logprobs.probe import Subject, check_logits, check_training_mode, keeps_apart

__all__ = [
    "attach",
    "examine",
    "install",
    "packed_call",
    "response_log_probs",
    "response_token_log_probs",
    "row_tokens",
    "use_kernels",
]

_ROW_TOKENS = {"cpu": 512}


def attach(model: Any) -> None:
    """Adds the second call to the model, unless it has it already.

    Args:
        model: a causal language model of transformers, or a peft model around one.

    Raises:
        ArgumentError: it is not a causal language model, its head is not a plain linear layer, or it has no
            decoder that can be called separately.
    """
    inner = _inner(model)
    head = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    name = type(inner).__name__
    if getattr(inner.config, "is_encoder_decoder", False) or head is None:
        raise ArgumentError(f"received {name}; allowed: a causal language model with an output head")
    if not isinstance(head, torch.nn.Linear):
        raise ArgumentError(
            f"the head of {name} is a {type(head).__name__}, not a plain linear layer; exclude lm_head from "
            "an adapter's target_modules and modules_to_save, and from quantization"
        )
    _decoder(inner)
    if not hasattr(inner, "_plain_forward"):
        inner._plain_forward = inner.forward
        inner._logit_rule = _logit_rule(inner.config)
        inner._kernels = PLAIN
        inner.forward = types.MethodType(_scored_forward, inner)
        object.__setattr__(head, "forward", types.MethodType(_scored_head, head))


def examine(model: Any, wrapped: Any = None, *, without_dropout: bool = False) -> bool:
    """Tests a model that has the second call, with its device, dtype, autocast and attention.

    Args:
        model: a model that was passed to `attach`.
        wrapped: its wrapper if its weights are sharded over processes; all processes must call this.
        without_dropout: whether it is trained without dropout, as in evaluation mode.

    Returns:
        Whether the model separates packed sequences. If not, or if its weights are not available for the
        test, each sequence needs its own bin.

    Raises:
        ArgumentError: its logits do not follow from head and configuration, or its training mode differs
            although dropout is off.
    """
    inner = _inner(model)
    if wrapped is None and any(p.is_meta or p.numel() == 0 for p in inner.parameters()):
        return False  # already sharded, or in another process
    subject = Subject(model if wrapped is None else wrapped, inner, response_token_log_probs)
    alone = check_logits(subject)
    if without_dropout:
        check_training_mode(subject, alone)
    return keeps_apart(subject, alone)


def install(model: Any) -> bool:
    """`attach`, then `examine`: whether the model separates packed sequences.

    Args:
        model: a causal language model of transformers, or a peft model around one, on its device.

    Raises:
        ArgumentError: as for both.
    """
    attach(model)
    return examine(model)


def row_tokens(
    model: Any, apart: bool, tokens: int | None, device: torch.device, sharded: bool = False
) -> int | None:
    """Number of tokens per bin (see `pack`): each sequence alone, a row of some length, or one row of all.

    Args:
        model: an installed model, or a peft model around one.
        apart: the result of `examine`.
        tokens: tokens of a row; None for the default of the device.
        device: device of the model.
        sharded: whether its weights are gathered for each call, so that fewer calls are faster.
    """
    config = _inner(model).config
    # Attention in chunks counts from the start of a row, so a row must not be longer than one chunk.
    # Positions that change beyond some length: a longer sequence must be alone.
    limits = (getattr(config.get_text_config(), "attention_chunk_size", None), switch_length(config))
    limit = min((one for one in limits if one is not None), default=None)
    one_row = sharded or "flash" in (getattr(config, "_attn_implementation", None) or "")
    if not apart or (one_row and limit is not None):
        return 1
    if one_row:  # no mask whose cost is quadratic in the length of a row, or calls that cost more
        return None
    size = tokens or _ROW_TOKENS.get(device.type, 2048)
    return size if limit is None else min(size, limit)


def use_kernels(model: Any, requested: str, device: torch.device, half: torch.dtype | None) -> str:
    """Chooses the kernels for the logits of an installed model, and returns their name.

    Args:
        model: an installed model, or a peft model around one.
        requested: plain, compiled or auto; see `choose_kernels`.
        device: device of the model.
        half: dtype of the products under autocast; None for that of the weights.

    Raises:
        ConfigError: compiled kernels are requested, but do not work.
    """
    inner = _inner(model)
    head = inner.get_output_embeddings()
    dtype = head.weight.dtype if half is None else half
    if device.type != "cuda":  # see `log_probs`: products of half precision are made in float32 there
        dtype = torch.promote_types(dtype, torch.float32)
    inner._kernels = choose_kernels(
        requested, device, head.out_features, head.bias is not None, inner._logit_rule, dtype
    )
    name: str = inner._kernels.name
    return name


def response_log_probs(model: Any, packed: Packed) -> Tensor:
    """log pi(y|x) of each packed response, [S], float32, differentiable.

    Args:
        model: an installed model, or its wrapper.
        packed: a batch on the model's device.
    """
    return sequence_sums(_of_tokens(model, packed), packed)


def response_token_log_probs(model: Any, packed: Packed) -> list[Tensor]:
    """log pi of each token of each packed response, in the order in which sequences were given.

    Args:
        model: an installed model, or its wrapper.
        packed: a batch on the model's device.
    """
    parts = torch.split(_of_tokens(model, packed), packed.counts)
    return [parts[place] for place in packed.places]


def packed_call(packed: Packed) -> dict[str, Any]:
    """The arguments of an installed model, or its wrapper, for scoring a batch."""
    return {
        "input_ids": packed.input_ids[None],
        "position_ids": packed.position_ids[None],
        "predictors": packed.predictors,
        "tokens": packed.tokens,
        "bins": packed.bins,
        "alone": len(packed.bins) == len(packed.counts),
    }


def _of_tokens(model: Any, packed: Packed) -> Tensor:
    found: Tensor = model(**packed_call(packed))
    return found.to(packed.tokens.device)


def _inner(model: Any) -> Any:
    """The language model inside a peft model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _decoder(inner: Any) -> Any:
    """The module whose states are the input of the head.

    transformers' `get_decoder` is tried first; if that is the model itself (Llama 4's text model) or the head
    (ModernBERT's decoder), the usual attributes are next. `check_logits` tests whether it is the right one.
    """
    names = (inner.base_model_prefix, "model", "transformer")
    for found in (inner.get_decoder(), *(getattr(inner, name, None) for name in names if name)):
        if found is not inner and hasattr(found, "get_input_embeddings"):
            return found
    raise ArgumentError(
        f"received {type(inner).__name__}, which has no decoder; allowed: a model whose get_decoder() "
        "returns the part below its output head"
    )


def _scored_forward(self: Any, *args: Any, predictors: Tensor | None = None, **options: Any) -> Any:
    """The model's own forward pass, or the log-probabilities of `tokens` if `predictors` are given.

    With `with_states` also the states that predict them, the input of the head, for a critic; with
    `states_only` only these, without the work of the head.
    """
    if predictors is None:
        return self._plain_forward(*args, **options)
    decoder, bins = _decoder(self), options["bins"]
    ids, positions = options["input_ids"].split(bins, dim=1), options["position_ids"].split(bins, dim=1)
    # A sequence alone in a bin has the positions that the model chooses, which may not begin at 0.
    places: list[dict[str, Tensor]] = [{} if options["alone"] else {"position_ids": p} for p in positions]
    states = [
        decoder(input_ids=i, use_cache=False, **place).last_hidden_state.flatten(0, 1)
        for i, place in zip(ids, places, strict=True)
    ]
    joined = states[0] if len(states) == 1 else torch.cat(states)
    hidden = joined[predictors.to(joined.device)]  # a model that is spread over devices ends on another one
    if options.get("states_only"):
        return hidden
    head = self.get_output_embeddings()
    result: Tensor = head(hidden, tokens=options["tokens"], rule=self._logit_rule, kernels=self._kernels)
    return (result, hidden) if options.get("with_states") else result


def _scored_head(
    self: Any, hidden: Tensor, tokens: Tensor | None = None, rule: Any = None, kernels: Kernels = PLAIN
) -> Tensor:
    """The linear layer, or log-probabilities of `tokens`; as a call, so that sharded weights are gathered."""
    if tokens is None:
        return torch.nn.functional.linear(hidden, self.weight, self.bias)
    device = self.weight.device
    return token_log_probs(hidden.to(device), self.weight, tokens.to(device), self.bias, rule, None, kernels)


def _logit_rule(config: Any) -> LogitRule:
    text = config.get_text_config()
    scale = getattr(text, "logit_scale", None) or getattr(text, "lm_head_multiplier", None) or 1.0
    divisor = getattr(text, "logits_scaling", None) or 1.0
    cap = getattr(text, "final_logit_softcapping", None) or getattr(text, "logits_soft_cap", None)
    return LogitRule(scale=scale / divisor, cap=cap)
