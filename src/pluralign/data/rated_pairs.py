"""Which rows of a ratings table make pairs: two responses that were rated differently side by side.

In: canonical ratings. Out: the row numbers of the better and the worse response of each pair. Which pairs
come out does not depend on the order of the rows. `bridges` makes a table of them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pluralign.data.table_columns import (
    arrow_column,
    column_values,
    has_plain_prompts,
    prompt_codes,
    take,
    text_codes,
)
from pluralign.errors import ArgumentError, DataError

if TYPE_CHECKING:
    import datasets

__all__ = ["RatedPairs", "prompt_key", "rated_pairs", "require_columns"]

# Means of decimal ratings differ by rounding errors; a gap this close to the margin counts as equal to it.
_ROUNDING = 1e-9

Rows = NDArray[np.int64]


class RatedPairs(NamedTuple):
    """Pairs of rows of a ratings table: [P] each."""

    better: Rows
    worse: Rows
    margin: NDArray[np.float64]


def rated_pairs(
    ratings: datasets.Dataset,
    *,
    margin: float = 0.0,
    attribute: str | None = None,
    max_pairs_per_group: int | None = 1000,
) -> RatedPairs:
    """The pairs that `bridges.pairs_from_ratings` describes, as row numbers.

    Raises:
        ArgumentError: `margin` or `max_pairs_per_group` is out of range, or `attribute` is not in the data.
        DataError: a column is missing.
    """
    if not 0.0 <= margin < float("inf"):
        raise ArgumentError(f"margin: received {margin}; allowed: a finite number >= 0")
    if max_pairs_per_group is not None and max_pairs_per_group < 1:
        raise ArgumentError(
            f"max_pairs_per_group: received {max_pairs_per_group}; allowed: at least 1, or None"
        )
    needed = ("id", "prompt", "response", "attribute", "ratings", "subset", "group")
    require_columns(ratings, needed, "ratings")
    rows = np.arange(len(ratings))
    if attribute is not None:
        given = column_values(ratings, "attribute")
        rows = np.flatnonzero(np.asarray(given, object) == attribute)
        if not len(rows):
            raise ArgumentError(f"attribute: received {attribute!r}; the ratings have {sorted(set(given))}")
    mean = np.array([sum(given) / len(given) for given in column_values(ratings, "ratings")])
    text = text_codes(arrow_column(ratings, "response"))[0]
    keys = [_prompt_ranks(ratings), *(_ranks(ratings, name) for name in ("subset", "attribute"))]
    group, names = _ranks(ratings, "group"), sorted(set(column_values(ratings, "group")))
    # Pool by pool, in a pool from the worst to the best: so they are numbered, and some chosen, by hash.
    by = (_ranks(ratings, "response"), _ranks(ratings, "id"), mean, *keys[::-1], group)
    rows = rows[np.lexsort([key[rows] for key in by])]
    start = _starts([group[rows], *(key[rows] for key in keys)])
    worse = _num_worse(mean[rows], start, max(margin - _ROUNDING, _ROUNDING))
    better, other = _numbered(worse, start, _starts([group[rows]]), max_pairs_per_group, group[rows], names)
    better, other = rows[better], rows[other]
    apart = text[better] != text[other]
    better, other = better[apart], other[apart]
    return RatedPairs(better, other, mean[better] - mean[other])


def _starts(keys: Sequence[Rows]) -> Rows:
    """For each row, the first row of its run of equal keys."""
    count = len(keys[0])
    new = np.zeros(count, bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return np.maximum.accumulate(np.where(new, np.arange(count), 0))


def _num_worse(mean: NDArray[np.float64], start: Rows, gap: float) -> Rows:
    """How many of the first rows of its pool each row beats by the gap; pools are sorted by mean."""
    found = np.zeros(len(mean), np.int64)
    begins = np.flatnonzero(start == np.arange(len(start)))
    for a, b in zip(begins.tolist(), [*begins[1:].tolist(), len(mean)], strict=True):
        if b - a > 1:
            found[a:b] = np.searchsorted(mean[a:b], mean[a:b] - gap, side="right")
    return found


def _numbered(
    worse: Rows, start: Rows, of_group: Rows, limit: int | None, group: Rows, names: Sequence[str]
) -> tuple[Rows, Rows]:
    """Places of the better and the worse row of each pair, at most `limit` of a group, chosen by hash."""
    end = worse.cumsum()
    before = (end - worse)[of_group]  # pairs of the groups before
    total = np.zeros(len(worse), np.int64)
    np.maximum.at(total, of_group, end - before)
    first = np.flatnonzero(of_group == np.arange(len(of_group)))
    numbers = []
    for place in first.tolist():
        count, offset = int(total[place]), int(before[place])
        if limit is not None and count > limit:
            numbers.append(offset + np.array(_choose(count, limit, names[group[place]]), np.int64))
        elif count:
            numbers.append(np.arange(offset, offset + count))
    number = np.concatenate([np.zeros(0, np.int64), *numbers])
    better = np.searchsorted(end, number, side="right")
    return better, start[better] + number - (end - worse)[better]


def _choose(total: int, count: int, seed: str) -> list[int]:
    """`count` of the numbers below `total`, by hash: the same on every machine and in every Python."""
    chosen: set[int] = set()
    for draw in itertools.count():
        if len(chosen) == count:
            break
        data = "\x00".join((seed, str(draw))).encode()
        chosen.add(int(hashlib.blake2b(data, digest_size=8).hexdigest(), 16) % total)
    return sorted(chosen)


def _ranks(table: datasets.Dataset, name: str) -> Rows:
    """The place of each row's text among the distinct ones in alphabetical order."""
    column = arrow_column(table, name)
    return _alphabetical(text_codes(column)[0], column.to_pylist())


def _prompt_ranks(ratings: datasets.Dataset) -> Rows:
    column = arrow_column(ratings, "prompt")
    if has_plain_prompts(column):
        code, first = prompt_codes(column)
        keys = [prompt_key(prompt) for prompt in take(column, first).to_pylist()]
        return _rank_of(keys)[code]
    keys = [prompt_key(prompt) for prompt in column.to_pylist()]
    return np.unique(np.asarray(keys, object), return_inverse=True)[1].astype(np.int64)


def _alphabetical(code: Rows, texts: Sequence[Any]) -> Rows:
    _, first = np.unique(code, return_index=True)
    return _rank_of([texts[row] for row in first.tolist()])[code]


def _rank_of(distinct: Sequence[str]) -> Rows:
    rank = np.empty(len(distinct), np.int64)
    rank[sorted(range(len(distinct)), key=distinct.__getitem__)] = np.arange(len(distinct))
    return rank


def prompt_key(prompt: Any) -> str:
    """A prompt as text, by which prompts are told apart and sorted."""
    return repr([(message["role"], message["content"]) for message in prompt])


def require_columns(table: datasets.Dataset, needed: Sequence[str], shape: str) -> None:
    """Raises where a table lacks columns that every loader gives."""
    missing = [column for column in needed if column not in table.column_names]
    if missing:
        raise DataError(f"{shape}: the columns {missing} are missing; load the data with load_{shape}")
