"""What is done to rows: the interface between stages (score, embed, sample) and whatever runs them.

A stage is a class and its arguments. Each worker makes one object of it, which loads its model once, and
calls it with batches: a dict of columns in, a dict of columns out, as `map_batches` of Ray Data does. Objects
know nothing of shards, engines or machines, and arguments can be pickled, so any of them runs anywhere:

    rows.map_batches(ScoreRows, fn_constructor_kwargs={"model": "runs/fit"}, batch_size=2048, concurrency=2)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Batch", "RowFunction", "Stage", "text_column"]

Batch = dict[str, NDArray[Any]]
"""Columns of equal length; texts and messages are arrays of objects."""


class RowFunction(Protocol):
    """The object that a worker makes of a stage."""

    def __call__(self, batch: Batch) -> Batch:
        """The results of a batch of rows, in their order."""
        ...


@dataclass(frozen=True)
class Stage:
    """What is done to rows.

    Attributes:
        make: a class, or another function that can be pickled, that gives a `RowFunction`.
        arguments: of `make`, by name; they can be pickled.
        columns: Arrow types of the results.
        batch_rows: rows per call of the `RowFunction`.
    """

    make: Callable[..., RowFunction]
    arguments: Mapping[str, Any]
    columns: pa.Schema
    batch_rows: int


def text_column(values: Sequence[Any]) -> NDArray[Any]:
    """An array of objects, [N], whatever these are."""
    column = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        column[place] = value
    return column
