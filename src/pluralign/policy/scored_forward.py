"""A second way to call a causal language model: tokens in, their log-probabilities out, no logits.

In: a transformers `*ForCausalLM`, plain or inside peft. After `install`, calling the model (or whatever wraps
it: DDP, FSDP, a peft model) with `predictors=` and `tokens=` runs its decoder bin by bin and gives the
log-probability of each token; every other call is as before, so `generate` and saving do not change.
It goes through the model's own call, so that gradients are synchronised and sharded weights gathered.

It knows nothing about batches or losses. What a model does to its logits after the head is read from its
configuration, and `install` compares one short text with the model's own logits: a model that does something
unknown is refused rather than trained on other numbers.
"""

from __future__ import annotations

import logging
import types
from typing import Any

import torch
from torch import Tensor

from pluralign.errors import ArgumentError
from pluralign.policy.chunked_log_probs import token_log_probs
from pluralign.policy.logits import PLAIN, Kernels, LogitRule, choose_kernels
from pluralign.policy.packing import Packed, pack, sequence_sums

__all__ = ["install", "response_log_probs", "response_token_log_probs", "use_kernels"]

_log = logging.getLogger("pluralign.policy")

_PROBE = (([1, 5, 2], [7, 3]), ([4], [6, 2, 9, 8]))


def install(model: Any) -> bool:
    """Gives the model the second call; a model that has it stays as it is.

    Args:
        model: a causal language model of transformers, or a peft model around one.

    Returns:
        Whether the model keeps packed sequences apart. If not, each needs a bin of its own.

    Raises:
        ArgumentError: it is no causal language model, its head is no plain linear layer, or its logits are
            not those that head and configuration say.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    name = type(inner).__name__
    if getattr(inner.config, "is_encoder_decoder", False) or head is None:
        raise ArgumentError(f"received {name}; allowed: a causal language model with an output head")
    if not isinstance(head, torch.nn.Linear):
        raise ArgumentError(
            f"the head of {name} is a {type(head).__name__}, not a plain linear layer; leave lm_head out of "
            "an adapter's target_modules and modules_to_save, and out of quantization"
        )
    if not hasattr(inner, "_plain_forward"):
        inner._plain_forward = inner.forward
        inner._logit_rule = _logit_rule(inner.config)
        inner._kernels = PLAIN
        inner.forward = types.MethodType(_scored_forward, inner)
        object.__setattr__(head, "forward", types.MethodType(_scored_head, head))
    if any(p.is_meta or p.numel() == 0 for p in (head.weight, *inner.parameters())):
        return False  # sharded already: its weights cannot be read here
    return _check(inner, name)


def use_kernels(model: Any, asked: str, device: torch.device, half: torch.dtype | None) -> str:
    """Chooses what runs on the logits of an installed model, and says which it is.

    Args:
        model: an installed model, or a peft model around one.
        asked: plain, compiled or auto; see `choose_kernels`.
        device: where it will be.
        half: dtype of the products under autocast; None for that of the weights.

    Raises:
        ConfigError: compiled kernels are asked for, and cannot be had.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = inner.get_output_embeddings()
    dtype = head.weight.dtype if half is None else half
    if device.type != "cuda":  # see `log_probs`: products of half precision are made in float32 there
        dtype = torch.promote_types(dtype, torch.float32)
    inner._kernels = choose_kernels(
        asked, device, head.out_features, head.bias is not None, inner._logit_rule, dtype
    )
    name: str = inner._kernels.name
    return name


def response_log_probs(model: Any, packed: Packed) -> Tensor:
    """log pi(y|x) of each packed response, [S], float32, differentiable.

    Args:
        model: an installed model, or what wraps it.
        packed: a batch on the model's device.
    """
    return sequence_sums(_of_tokens(model, packed), packed)


def response_token_log_probs(model: Any, packed: Packed) -> list[Tensor]:
    """log pi of each token of each packed response, in the order in which sequences were given.

    Args:
        model: an installed model, or what wraps it.
        packed: a batch on the model's device.
    """
    parts = torch.split(_of_tokens(model, packed), packed.counts)
    return [parts[place] for place in packed.places]


def _of_tokens(model: Any, packed: Packed) -> Tensor:
    found: Tensor = model(
        input_ids=packed.input_ids[None],
        position_ids=packed.position_ids[None],
        predictors=packed.predictors,
        tokens=packed.tokens,
        bins=packed.bins,
    )
    return found


def _scored_forward(self: Any, *args: Any, predictors: Tensor | None = None, **options: Any) -> Any:
    """The model's own forward pass, or the log-probabilities of `tokens` where `predictors` are given."""
    if predictors is None:
        return self._plain_forward(*args, **options)
    decoder = getattr(self, self.base_model_prefix)
    bins = options["bins"]
    ids, positions = options["input_ids"].split(bins, dim=1), options["position_ids"].split(bins, dim=1)
    states = [
        decoder(input_ids=i, position_ids=p, use_cache=False).last_hidden_state[0]
        for i, p in zip(ids, positions, strict=True)
    ]
    hidden = (states[0] if len(states) == 1 else torch.cat(states))[predictors]
    head = self.get_output_embeddings()
    result: Tensor = head(hidden, tokens=options["tokens"], rule=self._logit_rule, kernels=self._kernels)
    return result


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
    scale = getattr(text, "logit_scale", None) or 1.0
    divisor = getattr(text, "logits_scaling", None) or 1.0
    return LogitRule(scale=scale / divisor, cap=getattr(text, "final_logit_softcapping", None))


@torch.no_grad()
def _check(model: Any, name: str) -> bool:
    """Compares with the model's own logits on a few tokens; whether packing them changes nothing."""
    training = model.training
    model.eval()
    try:
        device = model.get_input_embeddings().weight.device
        wanted, spread = _from_logits(model, device)
        apart, together = (
            response_log_probs(model, pack(_PROBE, bin_tokens).to(device)).double().cpu()
            for bin_tokens in (1, None)
        )
    finally:
        model.train(training)
    half = model.get_output_embeddings().weight.dtype.itemsize < 4
    tolerance = (0.02 if half else 1e-3) * spread
    if (apart - wanted).abs().max() > tolerance:
        raise ArgumentError(
            f"{name} changes its logits after the head in a way that its configuration does not say: "
            f"log-probabilities {apart.tolist()} from the head, {wanted.tolist()} from its logits"
        )
    if (together - wanted).abs().max() <= tolerance:
        return True
    _log.info("%s does not keep packed sequences apart; each is run alone", name)
    return False


def _from_logits(model: Any, device: Any) -> tuple[Tensor, float]:
    """Sums of log-probabilities by the model's own logits, and how far these spread."""
    sums, spread = [], 1.0
    for prompt, response in _PROBE:
        ids = torch.tensor([[*prompt, *response]], device=device)
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].double().cpu()
        spread = max(spread, (logits.max() - logits.min()).item())
        log_probs = logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None])
        sums.append(log_probs.sum())
    return torch.stack(sums), spread
