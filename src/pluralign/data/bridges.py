"""Conversions between shapes: pairs from ratings, ratings from votes, weighted pairs from votes.

In: tables in the canonical shapes of `records`. Out: tables for the fits and evaluations of the other shape.
A response is never paired with an equal text. The resulting rows do not depend on the order of the input
rows. Each function says what information is lost.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pluralign.data.arrow import canonical_columns, canonical_types, data_set, to_dataset
from pluralign.data.columns import shape_of
from pluralign.data.rated_pairs import RatedPairs, prompt_key, rated_pairs, require_columns
from pluralign.data.table_columns import arrow_column, column_values, ragged, take, text_codes
from pluralign.errors import DataError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["pair_ids", "pairs_from_ratings", "ratings_from_votes", "weighted_pairs"]

logger = logging.getLogger(__name__)


def pairs_from_ratings(
    ratings: datasets.Dataset,
    *,
    margin: float = 0.0,
    attribute: str | None = None,
    max_pairs_per_group: int | None = 1000,
) -> datasets.Dataset:
    """Pairs of responses whose mean ratings differ.

    Two responses form a pair if they share group, prompt, attribute and subset (the rater pool), and their
    mean ratings differ by more than 0 and by at least `margin`. The disagreement of raters is lost.

    Args:
        ratings: canonical ratings.
        margin: smallest difference of the means, in units of the ratings' scale, >= 0.
        attribute: only this attribute; by default pairs of every attribute.
        max_pairs_per_group: maximum number per group, over all its pools, chosen by hash, independently of
            the order of rows; None keeps all, up to n(n-1)/2 for n responses (millions if a group is a book).

    Returns:
        Columns id ("chosen id>rejected id attribute"), prompt, chosen, rejected, subset, group, attribute,
        chosen_id, rejected_id, margin (the difference of the means). No rows if nothing can be paired.

    Raises:
        ArgumentError: `margin` or `max_pairs_per_group` is out of range, or `attribute` is not in the data.
        DataError: a column is missing.
    """
    pairs = rated_pairs(ratings, margin=margin, attribute=attribute, max_pairs_per_group=max_pairs_per_group)
    better, worse = (partial(_taken, ratings, rows=rows) for rows in (pairs.better, pairs.worse))
    return _table(
        {
            "id": pair_ids(ratings, pairs),
            "prompt": better("prompt"),
            "chosen": better("response"),
            "rejected": worse("response"),
            "subset": better("subset"),
            "group": better("group"),
            "attribute": better("attribute"),
            "chosen_id": better("id"),
            "rejected_id": worse("id"),
            "margin": pairs.margin,
        }
    )


def pair_ids(ratings: datasets.Dataset, pairs: RatedPairs) -> pa.ChunkedArray:
    """What `pairs_from_ratings` calls its pairs: "chosen id>rejected id attribute"."""
    import pyarrow.compute as pc

    sides = (_taken(ratings, "id", rows=rows) for rows in (pairs.better, pairs.worse))
    named = pc.binary_join_element_wise(*sides, ">")
    return pc.binary_join_element_wise(named, _taken(ratings, "attribute", rows=pairs.better), " ")


def ratings_from_votes(comparisons: datasets.Dataset) -> datasets.Dataset:
    """Ratings on the scale [-1, 1] from votes: each vote counts +1, 0 or -1 for its two sides.

    One row per distinct response of a prompt, group and subset, with the votes of all comparisons that it
    took part in. The opponent is lost: beating a weak response counts like beating a strong one. Comparisons
    of two equal texts carry no information and are left out; their number is logged.

    Args:
        comparisons: canonical comparisons.

    Returns:
        Canonical ratings of the attribute "preference"; the id is the group and a hash of prompt, subset and
        response; `rater_ids` (names may repeat) if every comparison of the response has them.

    Raises:
        DataError: a column is missing.
    """
    needed = ("prompt", "response_a", "response_b", "votes", "rater_ids", "subset", "group")
    rated: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    equal = 0
    for row in _rows(comparisons, needed, "comparisons"):
        if row["response_a"] == row["response_b"]:
            equal += 1
            continue
        prompt = prompt_key(row["prompt"])
        for side, sign in (("response_a", 1), ("response_b", -1)):
            key = (row["group"], prompt, row["subset"], row[side])
            rating = rated.setdefault(
                key,
                {
                    "id": f"{row['group']}/{_digest(*key[1:])}",
                    "prompt": row["prompt"],
                    "response": row[side],
                    "attribute": "preference",
                    "ratings": [],
                    "rater_ids": [],
                    "scale": [-1.0, 1.0],
                    "subset": row["subset"],
                    "group": row["group"],
                },
            )
            rating["ratings"] += [float(sign * vote) for vote in row["votes"]]
            if row["rater_ids"] is None or rating["rater_ids"] is None:
                rating["rater_ids"] = None
            else:
                rating["rater_ids"] += row["rater_ids"]
    _log_equal(equal)
    return to_dataset(list(rated.values()), canonical_columns("ratings"))


def weighted_pairs(comparisons_or_pairs: datasets.Dataset) -> datasets.Dataset:
    """The input of a Bradley-Terry fit: both orders of a comparison, weighted by their share of the votes.

    For votes v_1 ... v_n, "a over b" has the weight (#[v = 1] + #[v = 0] / 2) / n, and "b over a" the rest;
    an order without weight is left out. Every comparison has a total weight of 1, whatever the number of its
    votes. A pair has the weight in its column `weight`, or 1. Rows with two equal texts are left out; their
    number is logged.

    Args:
        comparisons_or_pairs: canonical comparisons or pairs.

    Returns:
        Columns id (of the comparison with ":a" or ":b" for the chosen side; of the pair unchanged),
        prompt, chosen, rejected, subset, group, weight (in (0, 1] for votes), and the pairs' margin if any.

    Raises:
        DataError: the table is of another shape, or a weight is not a positive finite number.
    """
    shape = shape_of(set(comparisons_or_pairs.column_names))
    convert = {"pairs": _weigh_pairs, "comparisons": _weigh_comparisons}.get(shape or "")
    if convert is None:
        columns = sorted(comparisons_or_pairs.column_names)
        raise DataError(f"weighted_pairs: received the columns {columns}; allowed: pairs or comparisons")
    weighed = convert(comparisons_or_pairs)
    one, other = text_codes(weighed.chosen, weighed.rejected)
    _log_equal(len(np.unique(weighed.row[one == other])))
    keep = np.flatnonzero((one != other) & (weighed.weight > 0.0))
    of_row = partial(_taken, comparisons_or_pairs, rows=weighed.row[keep])
    return _table(
        {
            "id": take(weighed.id, keep),
            "prompt": of_row("prompt"),
            "chosen": take(weighed.chosen, keep),
            "rejected": take(weighed.rejected, keep),
            "subset": of_row("subset"),
            "group": of_row("group"),
            "weight": weighed.weight[keep],
        }
        | ({"margin": of_row("margin")} if "margin" in comparisons_or_pairs.column_names else {})
    )


class _Weighed(NamedTuple):
    """Columns of weighted pairs, and the row of the table that each is made of."""

    row: NDArray[np.int64]
    id: pa.ChunkedArray
    chosen: pa.ChunkedArray
    rejected: pa.ChunkedArray
    weight: NDArray[np.float64]


def _weigh_pairs(pairs: datasets.Dataset) -> _Weighed:
    require_columns(pairs, ("id", "prompt", "chosen", "rejected", "subset", "group"), "pairs")
    weights = column_values(pairs, "weight") if "weight" in pairs.column_names else [1.0] * len(pairs)
    for number, weight in enumerate(weights, start=1):
        if not isinstance(weight, int | float) or not 0.0 < weight < float("inf"):
            raise DataError(f"pairs, row {number}, column 'weight': found {weight!r}; allowed: a number > 0")
    ids, chosen, rejected = (arrow_column(pairs, name) for name in ("id", "chosen", "rejected"))
    return _Weighed(np.arange(len(pairs)), ids, chosen, rejected, np.array(weights, np.float64))


def _weigh_comparisons(comparisons: datasets.Dataset) -> _Weighed:
    """Both orders of each comparison, one after the other."""
    import pyarrow.compute as pc

    needed = ("id", "prompt", "response_a", "response_b", "votes", "subset", "group")
    require_columns(comparisons, needed, "comparisons")
    votes = ragged(comparisons, "votes")
    sizes, row_of = votes.sizes, np.repeat(np.arange(len(comparisons)), votes.sizes)
    wins, ties = (np.bincount(row_of, votes.values == vote, len(sizes)) for vote in (1, 0))
    share = (wins + ties / 2) / sizes
    row = np.arange(len(sizes)).repeat(2)
    # Row i is at 2 i with a chosen, at 2 i + 1 with b.
    side = np.tile([0, len(sizes)], len(sizes))
    a, b = (arrow_column(comparisons, name) for name in ("response_a", "response_b"))
    ids = arrow_column(comparisons, "id")
    both = _joined(*(pc.binary_join_element_wise(ids, mark, "") for mark in (":a", ":b")))
    return _Weighed(
        row,
        take(both, row + side),
        take(_joined(a, b), row + side),
        take(_joined(b, a), row + side),
        np.stack([share, 1.0 - share], 1).ravel(),
    )


def _joined(first: pa.ChunkedArray, second: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array([*first.chunks, *second.chunks], first.type)


def _taken(table: datasets.Dataset, name: str, *, rows: NDArray[np.int64]) -> pa.ChunkedArray:
    return take(arrow_column(table, name), rows)


def _table(columns: Mapping[str, Any]) -> datasets.Dataset:
    """A data set of whole columns, each of the type that the package knows for its name."""
    import pyarrow as pa

    types, arrays = canonical_types(), {}
    for name, column in columns.items():
        kind = types.get(name, pa.string())
        is_arrow = isinstance(column, pa.ChunkedArray)
        arrays[name] = column.cast(kind) if is_arrow else pa.array(column, kind)
    return data_set(pa.table(arrays))


def _rows(table: datasets.Dataset, needed: Sequence[str], shape: str) -> Iterator[dict[str, Any]]:
    require_columns(table, needed, shape)
    for values in zip(*(column_values(table, name) for name in needed), strict=True):
        yield dict(zip(needed, values, strict=True))


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=8).hexdigest()


def _log_equal(count: int) -> None:
    if count:
        logger.info("%d rows with the same text on both sides left out", count)
