"""What a data set contains and how much its raters agree: the numbers behind `pluralign check`.

In: a table in one of the shapes, or anything that can be loaded as one. Out: a `Summary` of plain numbers,
which `dataclasses.asdict` makes serialisable as JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pluralign.data.agreement import grid_step, krippendorff_alpha
from pluralign.data.arrow import canonical_columns
from pluralign.data.columns import shape_of
from pluralign.data.leaks import SharedTexts, shared_texts
from pluralign.data.loading import detect_shape
from pluralign.data.records import SIDES, Shape
from pluralign.data.tables import read_table

__all__ = ["AttributeSummary", "LengthCue", "Spread", "Summary", "VoteSummary", "summarise"]

_MOST_GRID_BINS = 21  # a finer grid is shown in 10 equal bins


@dataclass(frozen=True)
class Spread:
    """Smallest, median and largest of some counts."""

    min: int
    median: float
    max: int


@dataclass(frozen=True)
class AttributeSummary:
    """The ratings of one attribute.

    Attributes:
        name: the attribute.
        rows: rated responses, counting each rater pool.
        raters: ratings per row.
        scale: [lowest, highest] that the data declares.
        grid_step: the step of the grid that all ratings lie on, None if they are continuous (`grid_step`).
        mean: over all ratings.
        std: over all ratings, with divisor n.
        share_lowest: share of the ratings at the scale's lower end.
        share_highest: share of the ratings at the scale's upper end.
        bin_edges: of the histogram; bins are centred on the grid if there is one with at most 21 points.
        bin_counts: ratings per bin.
        constant: whether all ratings are equal, so that there is nothing to learn.
        share_unanimous: share of the rows with 2 or more ratings whose ratings are equal; None without any.
        alpha_ordinal: Krippendorff's alpha; None where undefined.
        alpha_interval: the same with the interval metric.
        alpha_by_subset: subset -> alpha_ordinal within it, if there are several subsets.
    """

    name: str
    rows: int
    raters: Spread
    scale: tuple[float, float]
    grid_step: float | None
    mean: float
    std: float
    share_lowest: float
    share_highest: float
    bin_edges: tuple[float, ...]
    bin_counts: tuple[int, ...]
    constant: bool
    share_unanimous: float | None
    alpha_ordinal: float | None
    alpha_interval: float | None
    alpha_by_subset: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class VoteSummary:
    """The votes of comparisons.

    Attributes:
        raters: votes per comparison.
        share_a: share of all votes for the first response.
        share_tie: share of all votes that are ties.
        share_b: share of all votes for the second response.
        share_tied: share of the comparisons whose votes sum to 0.
        share_unanimous: share of the comparisons with 2 or more votes that are all equal; None without.
        alpha_ordinal: Krippendorff's alpha over every comparison in both orders, since which response is
            called "a" is arbitrary; None where undefined.
        identical_sides: comparisons of two equal texts.
        empty_responses: responses without text.
    """

    raters: Spread
    share_a: float
    share_tie: float
    share_b: float
    share_tied: float
    share_unanimous: float | None
    alpha_ordinal: float | None
    identical_sides: int
    empty_responses: int


@dataclass(frozen=True)
class LengthCue:
    """What length alone predicts about preference.

    Attributes:
        decided: pairs with a winner and two texts of different length (in characters).
        share_longer: share of them where the longer text won; None without any.
    """

    decided: int
    share_longer: float | None


@dataclass(frozen=True)
class Summary:
    """What `summarise` found.

    Attributes:
        shape: "ratings", "pairs", "comparisons" or "responses".
        rows: rows of the table.
        distinct_texts: distinct conversations (prompt and response), each of which is embedded once.
        groups: distinct groups; a split keeps the rows of one group on one side.
        subsets: subset -> rows.
        attributes: one per attribute, for ratings.
        votes: for comparisons.
        length: for pairs and comparisons.
        shared: prompts and texts that appear in several groups, and what a split does about them.
    """

    shape: Shape
    rows: int
    distinct_texts: int
    groups: int
    subsets: Mapping[str, int]
    attributes: tuple[AttributeSummary, ...] = ()
    votes: VoteSummary | None = None
    length: LengthCue | None = None
    shared: SharedTexts | None = None


def summarise(source: Any) -> Summary:
    """Summarises a data set.

    Args:
        source: a table that a loader returned, or anything that `load_ratings` takes as a source.

    Returns:
        Plain numbers; `dataclasses.asdict(summary)` is JSON.

    Raises:
        DataError: the source has problems, or no known shape.
    """
    shape = shape_of(set(getattr(source, "column_names", ()) or ()))
    table = source
    if shape is None or not set(canonical_columns(shape)) <= set(source.column_names):
        shape = detect_shape(source)
        table, _ = read_table(source, shape)
    columns = {name: table[name][:] for name in canonical_columns(shape)}
    prompts = [tuple((m["role"], m["content"]) for m in prompt) for prompt in columns["prompt"]]
    texts = {pair for side in SIDES[shape] for pair in zip(prompts, columns[side], strict=True)}
    return Summary(
        shape=shape,
        rows=len(table),
        distinct_texts=len(texts),
        groups=len(set(columns["group"])),
        subsets=dict(Counter(columns["subset"]).most_common()),
        attributes=_attributes(columns) if shape == "ratings" else (),
        votes=_votes(columns) if shape == "comparisons" else None,
        length=_length(columns, shape) if len(SIDES[shape]) == 2 else None,
        shared=shared_texts({shape: table}),
    )


def _attributes(columns: Mapping[str, list[Any]]) -> tuple[AttributeSummary, ...]:
    rows_of: dict[str, list[int]] = {}
    for i, name in enumerate(columns["attribute"]):
        rows_of.setdefault(name, []).append(i)
    return tuple(
        _attribute(
            name,
            [columns["ratings"][i] for i in rows],
            [columns["subset"][i] for i in rows],
            columns["scale"][rows[0]],
        )
        for name, rows in rows_of.items()
    )


def _attribute(
    name: str, items: list[list[float]], subsets: list[str], scale: Sequence[float]
) -> AttributeSummary:
    low, high = scale
    values = np.asarray([rating for item in items for rating in item])
    step = grid_step(values, (low, high))
    edges = _bin_edges(low, high, step)
    by_subset: dict[str, list[list[float]]] = {}
    for item, subset in zip(items, subsets, strict=True):
        by_subset.setdefault(subset, []).append(item)
    several = by_subset if len(by_subset) > 1 else {}
    return AttributeSummary(
        name=name,
        rows=len(items),
        raters=_spread(items),
        scale=(low, high),
        grid_step=step,
        mean=float(values.mean()),
        std=float(values.std()),
        share_lowest=float((values == low).mean()),
        share_highest=float((values == high).mean()),
        bin_edges=tuple(edges.tolist()),
        bin_counts=tuple(np.histogram(values, edges)[0].tolist()),
        constant=bool((values == values[0]).all()),
        share_unanimous=_share_unanimous(items),
        alpha_ordinal=krippendorff_alpha(items, "ordinal"),
        alpha_interval=krippendorff_alpha(items, "interval"),
        alpha_by_subset={subset: krippendorff_alpha(part, "ordinal") for subset, part in several.items()},
    )


def _bin_edges(low: float, high: float, step: float | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    if step is None or round((high - low) / step) >= _MOST_GRID_BINS:
        return np.linspace(low, high, 11)
    points = round((high - low) / step) + 1
    return np.linspace(low - step / 2, high + step / 2, points + 1)


def _votes(columns: Mapping[str, list[Any]]) -> VoteSummary:
    items: list[list[int]] = columns["votes"]
    count = Counter(vote for item in items for vote in item)
    total = sum(count.values())
    sides = list(zip(columns["response_a"], columns["response_b"], strict=True))
    both_orders = items + [[-vote for vote in item] for item in items]
    return VoteSummary(
        raters=_spread(items),
        share_a=count[1] / total,
        share_tie=count[0] / total,
        share_b=count[-1] / total,
        share_tied=sum(sum(item) == 0 for item in items) / len(items),
        share_unanimous=_share_unanimous(items),
        alpha_ordinal=krippendorff_alpha(both_orders, "ordinal"),
        identical_sides=sum(a == b for a, b in sides),
        empty_responses=sum(not text.strip() for texts in sides for text in texts),
    )


def _length(columns: Mapping[str, list[Any]], shape: Shape) -> LengthCue:
    first, second = (columns[side] for side in SIDES[shape])
    preferred = [sum(votes) for votes in columns["votes"]] if shape == "comparisons" else [1] * len(first)
    signs = [(len(a) - len(b)) * sign for a, b, sign in zip(first, second, preferred, strict=True)]
    decided = sum(sign != 0 for sign in signs)
    longer = sum(sign > 0 for sign in signs)
    return LengthCue(decided, longer / decided if decided else None)


def _spread(items: Sequence[Sequence[float]]) -> Spread:
    sizes = [len(item) for item in items]
    return Spread(min(sizes), float(np.median(sizes)), max(sizes))


def _share_unanimous(items: Sequence[Sequence[float]]) -> float | None:
    shared = [item for item in items if len(item) >= 2]
    if not shared:
        return None
    return sum(len(set(item)) == 1 for item in shared) / len(shared)
