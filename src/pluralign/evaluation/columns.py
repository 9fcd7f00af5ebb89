"""Columns of numbers: the checks on the input of every metric, and means by key.

In: tensors on any device, arrays or lists. Out: checked float64 arrays, dictionaries of plain numbers, or an
`ArgumentError` that names the column.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence, Sized
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from pluralign.errors import ArgumentError, did_you_mean

__all__ = [
    "Floats",
    "Values",
    "as_array",
    "bin_of",
    "columns",
    "count_by",
    "group_codes",
    "group_numbers",
    "known_names",
    "mean_by",
    "mean_or_none",
    "noise_generator",
    "rating_table",
    "reward_column",
    "rounding",
    "same_length",
    "uniform_noise",
    "unit_share",
]

Floats = npt.NDArray[np.float64]
Values = torch.Tensor | npt.ArrayLike
_Key = TypeVar("_Key", bound=Hashable)


def as_array(values: Values) -> Floats:
    """`values` in float64 on the host, without gradient.

    Raises:
        ArgumentError: an entry is not a number, or rows differ in length.
    """
    if isinstance(values, torch.Tensor):
        return np.asarray(values.detach().cpu().double().numpy())
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"needs numbers; received {type(values).__name__}: {error}") from None


def rounding(*values: Values) -> float:
    """Relative difference up to which numbers count as equal: 4 units in the last place.

    Of single precision if one of the values has single precision or less, else of double.
    """
    kinds = [getattr(value, "dtype", None) for value in values]
    single = (torch.float32, torch.float16, torch.bfloat16, np.dtype("float32"), np.dtype("float16"))
    return 4 * float(np.finfo(np.float32 if any(kind in single for kind in kinds) else np.float64).eps)


def columns(**values: Values) -> list[Floats]:
    """Vectors [N] of one length without NaN; infinities are allowed, since they can be compared."""
    arrays = {name: as_array(column) for name, column in values.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 or not shape[0] for shape in shapes.values()):
        raise ArgumentError(f"needs vectors of one length, at least 1; got shapes {shapes}")
    for name, array in arrays.items():
        if np.isnan(array).any():
            raise ArgumentError(f"{name} is NaN in row {int(np.isnan(array).argmax())}: leave out the row")
    return list(arrays.values())


def rating_table(values: Values, rows: int | None = None) -> Floats:
    """Ratings [N] or [N, R], NaN for a missing rater; N = `rows` if given."""
    array = as_array(values)
    if array.ndim not in (1, 2) or 0 in array.shape or (rows is not None and len(array) != rows):
        wanted = "N" if rows is None else rows
        raise ArgumentError(f"ratings must have shape [{wanted}] or [{wanted}, R]; got {list(array.shape)}")
    return array


def uniform_noise(shape: tuple[int, ...], seed: int, purpose: str) -> Floats:
    """Uniform draws on [0, 1); each purpose has its own stream, so that one seed serves all of them."""
    return noise_generator(seed, purpose).random(shape)


def noise_generator(seed: int, purpose: str) -> np.random.Generator:
    """The stream of `uniform_noise`; it can be moved on past draws that are not needed."""
    return np.random.Generator(np.random.PCG64([seed, *purpose.encode()]))


def unit_share(value: float) -> float:
    """`value` if it lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ArgumentError(f"levels, masses and shares must be in [0, 1]; got {value}")
    return value


def bin_of(shares: Floats, bins: int) -> npt.NDArray[np.int64]:
    """Index of the bin of equal width in [0, 1]; bin b is [b/bins, (b+1)/bins), the last one includes 1."""
    if bins < 1:
        raise ArgumentError(f"needs at least one bin; got {bins}")
    return np.minimum((shares * bins).astype(np.int64), bins - 1)


def mean_or_none(scores: Collection[float | None]) -> float | None:
    """Plain mean; None if there are no scores, or one is None."""
    present = [score for score in scores if score is not None]
    return math.fsum(present) / len(present) if present and len(present) == len(scores) else None


def mean_by(keys: Sequence[_Key], values: Values) -> dict[_Key, float]:
    """Mean of `values` [N] over the rows of each key, in the order of first appearance."""
    sums: dict[_Key, float] = defaultdict(float)
    for key, value in zip(keys, as_array(values).tolist(), strict=True):
        sums[key] += value
    counts = Counter(keys)
    return {key: total / counts[key] for key, total in sums.items()}


def count_by(keys: Sequence[_Key], flags: npt.ArrayLike) -> dict[_Key, int]:
    """Number of rows of each key whose flag [N] is set."""
    flagged = Counter(key for key, flag in zip(keys, np.asarray(flags), strict=True) if flag)
    return {key: flagged[key] for key in dict.fromkeys(keys)}


def reward_column(values: Values, name: str) -> Floats:
    """`values` as a float64 vector [N], N >= 1; an entry that is not finite is an error."""
    array = as_array(values)
    if array.ndim != 1 or not len(array):
        raise ArgumentError(f"{name} must be a list of at least one reward; got shape {array.shape}")
    bad = ~np.isfinite(array)
    if bad.any():
        first = int(bad.argmax())
        raise ArgumentError(f"{name}[{first}] is {array[first]}, which is not a score: leave out the row")
    return array


def group_codes(labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """A number for each group, in the alphabetical order of their names: [N].

    Intervals need no names, and to sort these anew for each of them would take most of the time.
    """
    number = {label: i for i, label in enumerate(sorted(set(labels)))}
    return np.array([number[label] for label in labels], np.int64)


def group_numbers(labels: Sequence[Any] | npt.NDArray[Any], rows: int, name: str) -> npt.NDArray[np.int64]:
    """A number, 0 to G - 1, for the group of each row, whatever the labels are, in their order: [N].

    Args:
        labels: [N], texts or numbers, or anything with a `repr` of its own.
        rows: N.
        name: of the argument, for messages.

    Raises:
        ArgumentError: there is not one label per row, or one is missing.
    """
    listed = labels.tolist() if isinstance(labels, np.ndarray | torch.Tensor) else list(labels)
    if len(listed) != rows or any(isinstance(label, list) for label in listed):
        raise ArgumentError(f"{name} needs one label per row; received {len(listed)} for {rows} rows")
    missing = [row for row, label in enumerate(listed) if label is None or label != label]  # NaN
    if missing:
        raise ArgumentError(f"{name}[{missing[0]}] is {listed[missing[0]]}: every row needs a group")
    plain = len({type(label) for label in listed}) == 1 and isinstance(listed[0], str | int | float)
    distinct = sorted(set(listed if plain else map(repr, listed)))
    number = {label: place for place, label in enumerate(distinct)}
    return np.array([number[label if plain else repr(label)] for label in listed], np.int64)


def same_length(**columns: Sized) -> None:
    """Raises unless all columns have one entry per row."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ArgumentError(f"the columns need one entry per row; got {lengths}")


def known_names(names: Iterable[str], allowed: Sequence[str]) -> None:
    """Raises for the first name that is not allowed, and suggests the closest allowed one."""
    for name in dict.fromkeys(names):
        if name not in allowed:
            hint = did_you_mean(name, allowed)
            raise ArgumentError(f"{name!r} is not in this benchmark{hint}; allowed: {', '.join(allowed)}")
