"""Trainers test a policy before they train it; in one process each equal policy is tested once.

The probe's answer depends on the model alone: its weights, its structure, how it is run. Hundreds of tests
train the same tiny policies, and the probe is a quarter of what each of them computes. Its own tests call it
directly; models with parts or attention of a test's own, and those that a probe refused or did not find to
keep sequences apart, are tested every time.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import torch

_KNOWN = ("torch", "transformers", "peft", "accelerate")
_passed: set[str] = set()


def install() -> None:
    """For this process; a second call does nothing."""
    from pluralign.policy.offline import trainer
    from pluralign.policy.online import models

    for module in (trainer, models):
        if not hasattr(module.examine, "__wrapped__"):
            module.examine = remembering(module.examine)


def remembering(examine: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(examine)
    def remembered(model: Any, wrapped: Any = None, *, without_dropout: bool = False) -> bool:
        key = None if wrapped is not None else key_of(model, without_dropout)
        if key in _passed:
            return True
        apart = examine(model, wrapped, without_dropout=without_dropout)
        if apart and key is not None:
            _passed.add(key)
        return apart

    return remembered


def key_of(model: Any, without_dropout: bool) -> str | None:
    """All that the answer depends on; None for a model that may hold more than this sees."""
    modules = list(model.modules())
    own = [m for m in modules if type(m).__module__.split(".")[0] not in _KNOWN or m._forward_hooks]
    attention = getattr(model.config, "_attn_implementation", None)
    if own or attention not in ("sdpa", "eager"):
        return None
    numbers = [
        sorted((k, v) for k, v in vars(m).items() if isinstance(v, int | float | str)) for m in modules
    ]
    state = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), without_dropout, attention)
    digest = hashlib.sha256(repr((state, repr(model), model.config.to_dict(), numbers)).encode())
    for name, value in model.state_dict().items():
        if value.device.type != "cpu":
            return None
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
