"""Numbers and errors of all processes: sums, means, lists. With one process they are unchanged.

In: accelerate's `Accelerator`. Every function is called by all processes at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, TypeVar

from torch import Tensor

from pluralign.errors import DataError

__all__ = ["agreed", "gathered", "is_agreed", "mean_over", "sum_over"]

Found = TypeVar("Found")

_AGREED = "_in_every_process"


def agreed(accelerator: Any, work: Callable[[], Found]) -> Found:
    """The result of `work`, or an error in every process if it failed in one.

    Otherwise the others would wait for the one that failed until they are killed, and the first process could
    not save the state.

    Args:
        accelerator: of the run.
        work: needs no other process.

    Raises:
        DataError: it failed in another process; where it failed, the error is its own.
    """
    if accelerator.num_processes == 1:
        return work()
    found, error = None, None
    try:
        found = work()
    except Exception as problem:
        error = problem
    messages = gathered(accelerator, ["" if error is None else f"{type(error).__name__}: {error}"])
    failed = [rank for rank, text in enumerate(messages) if text]
    if failed:
        raised = error or DataError(f"process {failed[0]} stopped the run: {messages[failed[0]]}")
        raised.__dict__[_AGREED] = True
        raise raised
    return found  # type: ignore[return-value]


def is_agreed(error: BaseException) -> bool:
    """Whether every process has this error, or one that reports it."""
    return _AGREED in vars(error)


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
