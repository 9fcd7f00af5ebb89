"""A copy of the trained weights, kept in main memory and restored temporarily.

In: a model, whole or sharded by FSDP; each process keeps its own part. Out: the same model with those
weights, inside a context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

__all__ = ["KeptWeights"]


class KeptWeights:
    """The trainable weights of a model at the time of the call.

    Args:
        model: the model; it is not changed.
    """

    def __init__(self, model: Any) -> None:
        self._kept = _copies(model)

    @contextmanager
    def restored(self, model: Any) -> Iterator[None]:
        """The model has the kept weights inside the context, and its own afterwards.

        Args:
            model: the same model, at a later time.
        """
        own = _copies(model)
        _put(model, self._kept)
        try:
            yield
        finally:
            _put(model, own)


def _trained(model: Any) -> list[Tensor]:
    """This process's part of each trained weight; for sharded weights its shard."""
    for module in model.modules():  # FSDP continues to use weights that it has gathered
        if hasattr(module, "reshard"):
            module.reshard()
    weights = [weight.detach() for weight in model.parameters() if weight.requires_grad]
    return [weight.to_local() if hasattr(weight, "to_local") else weight for weight in weights]


def _copies(model: Any) -> list[Tensor]:
    return [weight.to("cpu", copy=True) for weight in _trained(model)]


def _put(model: Any, values: Sequence[Tensor]) -> None:
    for weight, value in zip(_trained(model), values, strict=True):
        weight.copy_(value)
