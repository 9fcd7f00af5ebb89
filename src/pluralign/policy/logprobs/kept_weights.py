"""The trained weights as they were at some time, kept in main memory and put back for a moment.

In: a model, whole or sharded by FSDP; each process keeps what it holds. Out: the same model with those
weights, inside a context. It knows nothing about references or samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

__all__ = ["KeptWeights"]


class KeptWeights:
    """The weights that the model has now and that training may change.

    Args:
        model: stays as it is.
    """

    def __init__(self, model: Any) -> None:
        self._kept = _copies(model)

    @contextmanager
    def restored(self, model: Any) -> Iterator[None]:
        """The model computes with the kept weights inside, and with its own again afterwards.

        Args:
            model: the one that was given, at a later time.
        """
        own = _copies(model)
        _put(model, self._kept)
        try:
            yield
        finally:
            _put(model, own)


def _trained(model: Any) -> list[Tensor]:
    """What this process holds of each trained weight; for sharded weights its share."""
    for module in model.modules():  # FSDP shows, and goes on with, weights that it has gathered
        if hasattr(module, "reshard"):
            module.reshard()
    weights = [weight.detach() for weight in model.parameters() if weight.requires_grad]
    return [weight.to_local() if hasattr(weight, "to_local") else weight for weight in weights]


def _copies(model: Any) -> list[Tensor]:
    return [weight.to("cpu", copy=True) for weight in _trained(model)]


def _put(model: Any, values: Sequence[Tensor]) -> None:
    for weight, value in zip(_trained(model), values, strict=True):
        weight.copy_(value)
