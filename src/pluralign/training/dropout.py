"""Switches off what is random in a model while it is trained.

In: a model of transformers. Out: the same, with every dropout probability at 0.
"""

from __future__ import annotations

import re
from typing import Any

import torch

__all__ = ["disable_dropout"]

_DROPOUT = re.compile(r"drop")
_NOISE = re.compile(r"drop|^(input_)?jitter_noise$|jitter_eps$")


def disable_dropout(model: Any) -> None:
    """Sets every dropout probability to 0: in modules, in attributes of layers, in configurations.

    This includes dropout of units, attention, whole layers or paths, and the noise on a router's input
    (`jitter`). Numbers that are also used in evaluation are kept (PhiMoE's `router_jitter_noise` is a
    threshold there).
    """
    configs = {id(model.config): model.config}
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        _zero(module, _NOISE)
        config = getattr(module, "config", None)
        if config is not None:
            configs[id(config)] = config
    for config in [*configs.values(), *(part for one in configs.values() for part in _parts(one))]:
        _zero(config, _DROPOUT)


def _zero(holder: Any, names: re.Pattern[str]) -> None:
    for name, value in list(vars(holder).items()):
        if isinstance(value, float) and value != 0.0 and names.search(name):
            setattr(holder, name, 0.0)


def _parts(config: Any) -> list[Any]:
    """Configurations inside a configuration."""
    return [value for value in vars(config).values() if hasattr(value, "to_diff_dict")]
