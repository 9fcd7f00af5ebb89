"""Ratings of texts that have different numbers of raters, a block of alike rows at a time.

In: ratings as `Ragged` lists. Out: blocks of rows with about as many raters each, their ratings filled up
with NaN, and random draws for every rating. One text with ten thousand raters makes one small block, and
fills up no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pluralign.data.table_columns import Ragged
from pluralign.evaluation.columns import Floats, noise_generator

__all__ = ["blocks", "filled", "noise_of"]

_CELLS = 400_000  # ratings of a block, with those that fill it up
_DENSE = 4  # up to so many places per rating it is quicker to draw for all places


def blocks(sizes: npt.NDArray[np.int64], most_rows: int) -> Iterator[npt.NDArray[np.int64]]:
    """The numbers of all rows, a block at a time, in which no row has more than twice the raters of another.

    Args:
        sizes: [N], how many raters each row has.
        most_rows: of a block.
    """
    order = np.argsort(sizes, kind="stable")
    sizes = np.maximum(sizes[order], 1)
    start = 0
    while start < len(order):
        stop = min(start + most_rows, int(np.searchsorted(sizes, 2 * sizes[start], side="right")))
        stop = min(stop, start + max(1, _CELLS // int(sizes[stop - 1])))
        yield order[start:stop]
        start = stop


def filled(ratings: Ragged) -> Tensor:
    """[N, R], NaN after the last rating of each row."""
    width = max(1, int(ratings.sizes.max(initial=0)))
    table = np.full((len(ratings.sizes), width), np.nan)
    table[np.arange(width) < ratings.sizes[:, None]] = ratings.values
    return torch.from_numpy(table)


def noise_of(sizes: npt.NDArray[np.int64], width: int, seed: int, purpose: str) -> Ragged:
    """Uniform draws on [0, 1), one per rating: those of `uniform_noise` for [N, width] at ratings.

    Args:
        sizes: [N], how many raters each row has.
        width: at least the largest of them.
        seed: as in `uniform_noise`.
        purpose: as in `uniform_noise`.
    """
    generator = noise_generator(seed, purpose)
    dense = len(sizes) * width <= _DENSE * int(sizes.sum())
    drawn = _drawn_for_all(generator, sizes, width) if dense else _drawn_one_by_one(generator, sizes, width)
    return Ragged(np.concatenate([np.zeros(0), *drawn]), sizes)


def _drawn_for_all(generator: Any, sizes: npt.NDArray[np.int64], width: int) -> Iterator[Floats]:
    at_once = max(1, _CELLS // width)
    for start in range(0, len(sizes), at_once):
        part = sizes[start : start + at_once]
        yield generator.random((len(part), width))[np.arange(width) < part[:, None]]


def _drawn_one_by_one(generator: Any, sizes: npt.NDArray[np.int64], width: int) -> Iterator[Floats]:
    """Skips the draws of places without a rating."""
    for size in sizes.tolist():
        yield generator.random(size)
        generator.bit_generator.advance(width - size)
