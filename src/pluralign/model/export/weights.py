"""The weights of a backbone as a stock checkpoint holds them: adapters merged, nothing packed or absent."""

from __future__ import annotations

import copy
from typing import Any

from pluralign.errors import ArgumentError

__all__ = ["num_bytes", "plain_model"]


def plain_model(model: Any) -> Any:
    """The model itself, or a copy with its adapter merged into the weights.

    Args:
        model: a Hugging Face model without a task head; with a PEFT adapter around it, in its layers, or
            none.

    Raises:
        ArgumentError: weights are packed, or not on this machine (offloaded).
    """
    if hasattr(model, "merge_and_unload"):
        model = copy.deepcopy(model).merge_and_unload()
    elif any(_is_adapter(module) for module in model.modules()):
        model = _merged(model)
    for name, tensor in model.named_parameters():
        if tensor.is_meta or not tensor.is_floating_point():
            what = "offloaded" if tensor.is_meta else f"packed ({tensor.dtype})"
            raise ArgumentError(
                f"the backbone's weight {name} is {what}, and a checkpoint needs it; load the backbone "
                "unquantised and without offloading"
            )
    return model


def _is_adapter(module: Any) -> bool:
    return hasattr(module, "base_layer") and hasattr(module, "merge")


def _merged(model: Any) -> Any:
    """A copy with the adapters of its layers added to their weights."""
    own = copy.deepcopy(model)
    for name, module in list(own.named_modules()):
        if _is_adapter(module):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(own.get_submodule(parent), child, module.get_base_layer())
    own._hf_peft_config_loaded = False  # or transformers would save adapters only
    return own


def num_bytes(model: Any) -> int:
    """The size of a model's weights."""
    return sum(one.numel() * one.element_size() for one in model.parameters())
