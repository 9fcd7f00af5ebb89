"""Numbers of all processes together: sums, means, lists. With one process they are what they were.

In: accelerate's `Accelerator`. Every function is called by all processes at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from torch import Tensor

__all__ = ["gathered", "mean_over", "sum_over"]


def sum_over(accelerator: Any, tensor: Tensor) -> Tensor:
    """The sum over processes."""
    if accelerator.num_processes == 1:
        return tensor
    total: Tensor = accelerator.reduce(tensor, "sum")
    return total


def mean_over(accelerator: Any, metrics: Mapping[str, float]) -> dict[str, float]:
    """The mean of each number over the processes that have it."""
    parts: list[Mapping[str, float]] = gathered(accelerator, [metrics])
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: fmean(part[name] for part in parts if name in part) for name in names}


def gathered(accelerator: Any, items: Sequence[Any]) -> list[Any]:
    """The items of all processes, in their order."""
    if accelerator.num_processes == 1:
        return list(items)
    from accelerate.utils import gather_object

    found: list[Any] = gather_object(list(items))
    return found
