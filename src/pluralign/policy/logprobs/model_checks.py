"""What a model has to be before it is trained on given data, and what a stranger would want to be told.

In: a model with an adapter or without, numbers about the data. Out: nothing, an error or a warning. It
changes nothing, and knows nothing about losses.
"""

from __future__ import annotations

import logging
from typing import Any

from pluralign.errors import ConfigError
from pluralign.policy.logprobs.loading import check_vocabulary, load_policy, num_positions

__all__ = ["check_positions", "check_precision", "load_reference", "tell_of_adapter_dropout"]

_log = logging.getLogger("pluralign.policy")


def load_reference(reference: Any, policy: Any, tokenizer: Any) -> Any:
    """The reference, loaded where it is named; None where it is the policy as it is given.

    Raises:
        ArgumentError: it does not know all tokens.
        ArtifactError: it cannot be read.
    """
    if reference is None or reference is policy:
        return None
    if isinstance(reference, str):
        reference, _ = load_policy(reference, tokenizer, dtype="auto")
    check_vocabulary(reference, tokenizer)
    return reference


def check_positions(model: Any, longest: int, name: str = "max_length") -> None:
    """Raises `ConfigError` where a sequence is longer than what the model was made for."""
    positions = num_positions(model)
    if positions is not None and longest > positions:
        raise ConfigError(
            f"{name}: sequences have up to {longest:,} tokens and the model {positions:,} positions; "
            f"allowed: at most {positions}"
        )


def check_precision(model: Any) -> None:
    """Warns where weights are trained in half precision, in which small updates are lost."""
    half = {str(p.dtype) for p in model.parameters() if p.requires_grad and p.dtype.itemsize < 4}
    if half:
        _log.warning(
            "weights are trained in %s, where updates at small learning rates are lost in rounding; load the "
            "model with dtype=torch.float32 (bf16=True computes in half precision all the same)",
            " and ".join(sorted(half)),
        )


def tell_of_adapter_dropout(model: Any) -> None:
    """Warns where switching off dropout takes away what an adapter was asked to have."""
    names = (name for name, part in model.named_modules() if getattr(part, "p", 0) and "lora_dropout" in name)
    if next(names, None) is not None:
        _log.warning("lora_dropout is switched off; disable_dropout=False keeps it")
