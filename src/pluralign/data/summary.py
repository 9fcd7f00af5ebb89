"""What a data set contains and how much its raters agree: the numbers behind `pluralign check`.

In: a table in one of the shapes, or anything that can be loaded as one. Out: a `Summary` of plain numbers,
which `dataclasses.asdict` makes serialisable as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pluralign.data.agreement import alpha_of_lists, grid_step
from pluralign.data.arrow import canonical_columns
from pluralign.data.columns import shape_of
from pluralign.data.leaks import SharedTexts, shared_texts
from pluralign.data.loading import detect_shape
from pluralign.data.records import SIDES, Shape
from pluralign.data.table_columns import (
    Ragged,
    arrow_column,
    by_appearance,
    has_plain_prompts,
    joint_codes,
    prompt_codes,
    ragged,
    text_codes,
)
from pluralign.data.tables import read_table

if TYPE_CHECKING:
    import pyarrow as pa

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
    """The result of `summarise`.

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
    import pyarrow.compute as pc

    shape = shape_of(set(getattr(source, "column_names", ()) or ()))
    table = source
    if shape is None or not set(canonical_columns(shape)) <= set(source.column_names):
        shape = detect_shape(source)
        table, _ = read_table(source, shape)
    prompts = _prompt_numbers(arrow_column(table, "prompt"))
    sides = text_codes(*(arrow_column(table, side) for side in SIDES[shape]))
    texts = joint_codes([np.tile(prompts, len(sides)), np.concatenate(sides)])
    return Summary(
        shape=shape,
        rows=len(table),
        distinct_texts=len(np.unique(texts)),
        groups=pc.count_distinct(arrow_column(table, "group"), mode="all").as_py(),
        subsets=_counted(arrow_column(table, "subset")),
        attributes=_attributes(table) if shape == "ratings" else (),
        votes=_votes(table) if shape == "comparisons" else None,
        length=_length(table, shape) if len(SIDES[shape]) == 2 else None,
        shared=shared_texts({shape: table}),
    )


def _prompt_numbers(prompts: pa.ChunkedArray) -> NDArray[np.int64]:
    """A number for each prompt, the same where roles and texts are equal."""
    if has_plain_prompts(prompts):
        return prompt_codes(prompts)[0]
    number: dict[tuple[Any, ...], int] = {}
    said = (tuple((m["role"], m["content"]) for m in prompt) for prompt in prompts.to_pylist())
    return np.array([number.setdefault(prompt, len(number)) for prompt in said], np.int64)


def _counted(names: pa.ChunkedArray) -> dict[str, int]:
    """Number of rows per name, largest first; ties in order of appearance."""
    import pyarrow.compute as pc

    counts = pc.value_counts(names).to_pylist()
    return {one["values"]: one["counts"] for one in sorted(counts, key=lambda one: -one["counts"])}


def _attributes(table: Any) -> tuple[AttributeSummary, ...]:
    names = arrow_column(table, "attribute")
    (attribute,) = text_codes(names)
    (subset,) = text_codes(arrow_column(table, "subset"))
    items, scales = ragged(table, "ratings"), arrow_column(table, "scale")
    subsets = arrow_column(table, "subset").unique().to_pylist()
    order = np.argsort(attribute, kind="stable")
    of_each = np.split(order, np.flatnonzero(np.diff(attribute[order])) + 1)
    return tuple(
        _attribute(name, items[rows], subset[rows], subsets, scales[int(rows[0])].as_py())
        for name, rows in zip(names.unique().to_pylist(), of_each if len(order) else (), strict=True)
    )


def _attribute(
    name: str, items: Ragged, subset: NDArray[np.int64], subsets: Sequence[str], scale: Sequence[float]
) -> AttributeSummary:
    low, high = scale
    values = items.values
    step = grid_step(values, (low, high))
    edges = _bin_edges(low, high, step)
    numbers, first = by_appearance(subset)
    several = range(len(first)) if len(first) > 1 else ()
    return AttributeSummary(
        name=name,
        rows=len(items.sizes),
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
        alpha_ordinal=alpha_of_lists(items, "ordinal"),
        alpha_interval=alpha_of_lists(items, "interval"),
        alpha_by_subset={
            subsets[subset[first[one]]]: alpha_of_lists(items[np.flatnonzero(numbers == one)], "ordinal")
            for one in several
        },
    )


def _bin_edges(low: float, high: float, step: float | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    if step is None or round((high - low) / step) >= _MOST_GRID_BINS:
        return np.linspace(low, high, 11)
    points = round((high - low) / step) + 1
    return np.linspace(low - step / 2, high + step / 2, points + 1)


def _votes(table: Any) -> VoteSummary:
    import pyarrow.compute as pc

    items = ragged(table, "votes")
    values, count = items.values, len(items.sizes)
    item_of = np.repeat(np.arange(count), items.sizes)
    sides = [arrow_column(table, side) for side in SIDES["comparisons"]]
    both_orders = Ragged(np.concatenate([values, -values]), np.tile(items.sizes, 2))
    return VoteSummary(
        raters=_spread(items),
        share_a=float((values == 1).mean()),
        share_tie=float((values == 0).mean()),
        share_b=float((values == -1).mean()),
        share_tied=float((np.bincount(item_of, values, count) == 0).mean()),
        share_unanimous=_share_unanimous(items),
        alpha_ordinal=alpha_of_lists(both_orders, "ordinal"),
        identical_sides=pc.sum(pc.equal(*sides)).as_py() or 0,
        empty_responses=sum(not text.strip() for side in sides for text in side.to_pylist()),
    )


def _length(table: Any, shape: Shape) -> LengthCue:
    import pyarrow.compute as pc

    first, second = (np.asarray(pc.utf8_length(arrow_column(table, side)), np.int64) for side in SIDES[shape])
    longer_first = np.sign(first - second)
    if shape == "comparisons":
        votes = ragged(table, "votes")
        item_of = np.repeat(np.arange(len(first)), votes.sizes)
        longer_first = longer_first * np.sign(np.bincount(item_of, votes.values, len(first)))
    decided, longer = int((longer_first != 0).sum()), int((longer_first > 0).sum())
    return LengthCue(decided, longer / decided if decided else None)


def _spread(items: Ragged) -> Spread:
    sizes = items.sizes
    return Spread(int(sizes.min()), float(np.median(sizes)), int(sizes.max()))


def _share_unanimous(items: Ragged) -> float | None:
    shared = items[np.flatnonzero(items.sizes >= 2)]
    if not len(shared.sizes):
        return None
    start = np.cumsum(shared.sizes) - shared.sizes
    lowest, highest = (of.reduceat(shared.values, start) for of in (np.minimum, np.maximum))
    return float((lowest == highest).mean())
