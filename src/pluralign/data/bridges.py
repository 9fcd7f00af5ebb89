"""Conversions between shapes: pairs from ratings, ratings from votes, weighted pairs from votes.

In: tables in the canonical shapes of `records`. Out: tables for the fits and evaluations of the other shape.
A response is never paired with an equal text. The resulting rows do not depend on the order of the input
rows. Each function says what information is lost.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pluralign.data.arrow import canonical_columns, to_dataset
from pluralign.data.columns import shape_of
from pluralign.errors import ArgumentError, DataError

if TYPE_CHECKING:
    import datasets

__all__ = ["pairs_from_ratings", "ratings_from_votes", "weighted_pairs"]

logger = logging.getLogger(__name__)

# Means of decimal ratings differ by rounding errors; a difference this close to the margin counts as equal to
# it.
_ROUNDING = 1e-9


class _Rated(NamedTuple):
    """A response with its mean rating."""

    mean: float
    id: str
    text: str


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
    if not 0.0 <= margin < float("inf"):
        raise ArgumentError(f"margin: received {margin}; allowed: a finite number >= 0")
    if max_pairs_per_group is not None and max_pairs_per_group < 1:
        raise ArgumentError(
            f"max_pairs_per_group: received {max_pairs_per_group}; allowed: at least 1, or None"
        )
    needed = ("id", "prompt", "response", "attribute", "ratings", "subset", "group")
    pools: dict[tuple[str, str, str, str], list[_Rated]] = {}
    prompts: dict[str, list[dict[str, str]]] = {}
    attributes = set()
    for row in _rows(ratings, needed, "ratings"):
        attributes.add(row["attribute"])
        if attribute is not None and row["attribute"] != attribute:
            continue
        prompt = _prompt_key(row["prompt"])
        prompts.setdefault(prompt, row["prompt"])
        mean = sum(row["ratings"]) / len(row["ratings"])
        pool = pools.setdefault((row["group"], prompt, row["subset"], row["attribute"]), [])
        pool.append(_Rated(mean, row["id"], row["response"]))
    if attribute is not None and attribute not in attributes:
        raise ArgumentError(f"attribute: received {attribute!r}; the ratings have {sorted(attributes)}")
    keys_of: dict[str, list[tuple[str, str, str, str]]] = {}
    for key in sorted(pools):
        keys_of.setdefault(key[0], []).append(key)
    rows = []
    for group, keys in keys_of.items():
        of_group = [pools[key] for key in keys]
        for place, better, worse in _pairs_of_group(of_group, margin, max_pairs_per_group, group):
            _, prompt, subset, name = keys[place]
            rows.append(
                {
                    "id": f"{better.id}>{worse.id} {name}",
                    "prompt": prompts[prompt],
                    "chosen": better.text,
                    "rejected": worse.text,
                    "subset": subset,
                    "group": group,
                    "attribute": name,
                    "chosen_id": better.id,
                    "rejected_id": worse.id,
                    "margin": better.mean - worse.mean,
                }
            )
    return to_dataset(rows, (*canonical_columns("pairs"), "attribute", "chosen_id", "rejected_id", "margin"))


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
        prompt = _prompt_key(row["prompt"])
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
        prompt, chosen, rejected, subset, group, weight (in (0, 1] for votes).

    Raises:
        DataError: the table is of another shape, or a weight is not a positive finite number.
    """
    shape = shape_of(set(comparisons_or_pairs.column_names))
    convert = {"pairs": _weigh_pairs, "comparisons": _weigh_comparisons}.get(shape or "")
    if convert is None:
        columns = sorted(comparisons_or_pairs.column_names)
        raise DataError(f"weighted_pairs: received the columns {columns}; allowed: pairs or comparisons")
    rows, equal = [], 0
    for row in convert(comparisons_or_pairs):
        if row["chosen"] == row["rejected"]:
            equal += 1
        elif row["weight"] > 0.0:
            rows.append(row)
    _log_equal(equal)
    return to_dataset(rows, (*canonical_columns("pairs"), "weight"))


def _weigh_pairs(pairs: datasets.Dataset) -> Iterator[dict[str, Any]]:
    needed = ["id", "prompt", "chosen", "rejected", "subset", "group"]
    weighted = "weight" in pairs.column_names
    for number, row in enumerate(_rows(pairs, [*needed, "weight"] if weighted else needed, "pairs"), start=1):
        weight = row.setdefault("weight", 1.0)
        if not isinstance(weight, int | float) or not 0.0 < weight < float("inf"):
            raise DataError(f"pairs, row {number}, column 'weight': found {weight!r}; allowed: a number > 0")
        yield row


def _weigh_comparisons(comparisons: datasets.Dataset) -> Iterator[dict[str, Any]]:
    needed = ["id", "prompt", "response_a", "response_b", "votes", "subset", "group"]
    for row in _rows(comparisons, needed, "comparisons"):
        votes = row["votes"]
        share = (votes.count(1) + votes.count(0) / 2) / len(votes)
        same = {"prompt": row["prompt"], "subset": row["subset"], "group": row["group"]}
        a, b = row["response_a"], row["response_b"]
        yield {"id": f"{row['id']}:a", "chosen": a, "rejected": b, "weight": share, **same}
        yield {"id": f"{row['id']}:b", "chosen": b, "rejected": a, "weight": 1.0 - share, **same}


def _rows(
    table: datasets.Dataset, needed: tuple[str, ...] | list[str], shape: str
) -> Iterator[dict[str, Any]]:
    missing = [column for column in needed if column not in table.column_names]
    if missing:
        raise DataError(f"{shape}: the columns {missing} are missing; load the data with load_{shape}")
    for batch in table.select_columns(list(needed)).with_format(None).iter(batch_size=1000):
        for values in zip(*(batch[column] for column in needed), strict=True):
            yield dict(zip(needed, values, strict=True))


def _pairs_of_group(
    pools: Sequence[list[_Rated]], margin: float, limit: int | None, seed: str
) -> Iterator[tuple[int, _Rated, _Rated]]:
    """(index of the pool, better, worse), all of them or `limit` chosen by hash.

    In a pool sorted by mean, the responses that are worse than a given one by the margin come first. So pairs
    can be numbered without enumerating them, and a few can be chosen from millions.
    """
    ordered = [sorted(pool) for pool in pools]
    betters: list[tuple[int, int]] = []
    ends: list[int] = []  # ends[k]: pairs of betters[0] ... betters[k]
    for place, pool in enumerate(ordered):
        means = [rated.mean for rated in pool]
        for i, mean in enumerate(means):
            worse = bisect.bisect_right(means, mean - max(margin - _ROUNDING, _ROUNDING))
            if worse:
                betters.append((place, i))
                ends.append(worse + (ends[-1] if ends else 0))
    total = ends[-1] if ends else 0
    numbers = range(total) if limit is None or total <= limit else _choose(total, limit, seed)
    for number in numbers:
        k = bisect.bisect_right(ends, number)
        place, i = betters[k]
        better, worse_one = ordered[place][i], ordered[place][number - (ends[k - 1] if k else 0)]
        if better.text != worse_one.text:
            yield place, better, worse_one


def _choose(total: int, count: int, seed: str) -> list[int]:
    """`count` of the numbers below `total`, by hash: the same on every machine and in every Python."""
    chosen: set[int] = set()
    for draw in itertools.count():
        if len(chosen) == count:
            break
        chosen.add(int(_digest(seed, str(draw)), 16) % total)
    return sorted(chosen)


def _prompt_key(prompt: list[Mapping[str, str]]) -> str:
    return repr([(message["role"], message["content"]) for message in prompt])


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=8).hexdigest()


def _log_equal(count: int) -> None:
    if count:
        logger.info("%d rows with the same text on both sides left out", count)
