"""Checks of a model before it is trained on given data, and warnings about its settings.

In: a model with or without an adapter, numbers about the data. Out: nothing, an error or a warning. Nothing
is changed.
"""

from __future__ import annotations

import logging
from typing import Any

from pluralign.errors import ConfigError
from pluralign.policy.logprobs.loading import check_vocabulary, load_policy, num_positions

__all__ = ["check_positions", "check_precision", "load_reference", "warn_about_adapter_dropout"]

_log = logging.getLogger("pluralign.policy")


def load_reference(reference: Any, policy: Any, tokenizer: Any) -> Any:
    """The reference, loaded if it is a name; None if it is the policy before training.

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
    """Raises `ConfigError` if a sequence is longer than the model's number of positions."""
    positions = num_positions(model)
    if positions is not None and longest > positions:
        raise ConfigError(
            f"{name}: sequences have up to {longest:,} tokens and the model {positions:,} positions; "
            f"allowed: at most {positions}"
        )


def check_precision(model: Any) -> None:
    """Warns if weights are trained in half precision, in which small updates are lost."""
    half = {str(p.dtype) for p in model.parameters() if p.requires_grad and p.dtype.itemsize < 4}
    if half:
        _log.warning(
            "weights are trained in %s, where updates at small learning rates are lost in rounding; load the "
            "model with dtype=torch.float32 (bf16=True computes in half precision all the same)",
            " and ".join(sorted(half)),
        )


def warn_about_adapter_dropout(model: Any) -> None:
    """Warns if switching off dropout also switches off the requested dropout of an adapter."""
    names = (name for name, part in model.named_modules() if getattr(part, "p", 0) and "lora_dropout" in name)
    if next(names, None) is not None:
        _log.warning("lora_dropout is switched off; disable_dropout=False keeps it")
