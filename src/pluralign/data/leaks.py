"""Equal texts in several groups: which groups a split has to keep together, and what can still leak.

In: tables with `group` and texts. Out: group -> the name of its joint group; counts of texts that several
groups share; and records of texts, for comparison with other tables later. It does not split.

Rules: groups that share a prompt belong together, and so do groups that share prompt and response. There are
exceptions: a prompt in more than a quarter of all groups is an instruction without its object ("Summarise the
article."), and a short text ("Sincerely,") does not identify its source. Those are counted instead. For two
plain texts without a prompt, long common first lines count as the prompt. Texts are compared with
`same_text.normal_text`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pluralign.data.arrow import data_set
from pluralign.data.batches import BATCH_ROWS
from pluralign.data.records import SIDES
from pluralign.data.same_text import normal_text, shared_start
from pluralign.data.table_columns import arrow_column, column_values, text_codes
from pluralign.data.text_digests import Digests, digests_of, is_long, prompt_digests, text_digests

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["SharedTexts", "TextRecord", "join_groups", "joint_groups", "shared_texts", "text_record"]

_MOST = 4  # at most 1 in this many groups is joined into one; more would leave too little to split
_SIDES = tuple(dict.fromkeys(side for sides in SIDES.values() for side in sides))


@dataclass(frozen=True)
class SharedTexts:
    """Texts that several groups share.

    Attributes:
        prompts: distinct prompts that appear in several groups.
        texts: distinct texts that appear in several groups with the same prompt, or without any.
        joined: groups that a split keeps together with another one.
        parts: number of units to split: groups, where joined ones count as one.
        apart: prompts and texts that may still be on both sides of a split.
        responses: long responses (40 bytes or more) that appear in several units with different prompts.
    """

    prompts: int
    texts: int
    joined: int
    parts: int
    apart: int
    responses: int

    @property
    def found(self) -> bool:
        """Whether groups share any prompt or text."""
        return bool(self.prompts or self.texts)

    def __str__(self) -> str:
        """A one-line summary; empty if nothing is shared."""
        if not self.found:
            return ""
        shared = [_count(self.prompts, "prompt"), _count(self.texts, "text")]
        appear = "appears" if self.prompts + self.texts == 1 else "appear"
        line = f"{' and '.join(s for s in shared if s)} {appear} in several groups"
        if self.joined:
            line += f"; a split keeps {self.joined:,} groups together, {self.parts:,} parts in all"
        if self.apart:
            line += f"; {_count(self.apart, 'text')} may be on both sides of a split"
        return line


class TextRecord(NamedTuple):
    """The content of a table without its texts: sorted digests of distinct prompts and conversations."""

    prompts: Digests
    texts: Digests

    def shared_with(self, other: TextRecord) -> tuple[int, int]:
        """How many prompts and how many conversations are in both."""
        pairs = zip(self, other, strict=True)
        prompts, texts = (len(np.intersect1d(a, b, assume_unique=True)) for a, b in pairs)
        return prompts, texts


def shared_texts(tables: Mapping[str, datasets.Dataset]) -> SharedTexts:
    """Counts what several groups share, over all tables together.

    Args:
        tables: by name; rows with a column `group` and any of the columns of texts.
    """
    return _Found(tables).counts()


def joint_groups(tables: Mapping[str, datasets.Dataset]) -> dict[str, str]:
    """Maps every group to the name of its joint group, which is its own if it shares nothing.

    A joint group has the alphabetically first name of its members, so it depends only on the tables' content.

    Args:
        tables: as in `shared_texts`.
    """
    return _Found(tables).names()


def join_groups(tables: Mapping[str, datasets.Dataset]) -> dict[str, datasets.Dataset]:
    """The tables with joint groups in the column `group`; tables without joint groups are unchanged."""
    import pyarrow as pa

    names = joint_groups(tables)
    joined = {}
    for name, table in tables.items():
        groups = column_values(table, "group")
        new = [names[group] for group in groups]
        if new != groups:
            columns = {column: arrow_column(table, column) for column in table.column_names}
            joined[name] = data_set(pa.table(columns | {"group": pa.array(new, pa.string())}))
        else:
            joined[name] = table
    return joined


def text_record(tables: Mapping[str, datasets.Dataset]) -> TextRecord:
    """The content of these tables, for comparison with others later."""
    prompts, texts = [_NONE], [_NONE]
    for table in tables.values():
        for batch in _batches(table):
            prompts.append(batch.source[batch.source > 0])
            texts += [side.text[side.text > 0] for side in batch.sides]
    return TextRecord(np.unique(np.concatenate(prompts)), np.unique(np.concatenate(texts)))


_NONE: Digests = np.zeros(0, np.uint64)


class _Side(NamedTuple):
    """One column of responses: digests of the response, of prompt and response, and which are long."""

    response: Digests
    text: Digests
    long: NDArray[np.bool_]


class _Batch(NamedTuple):
    """Some rows of a table: the digest of each row's source (0 for none), and the sides."""

    source: Digests
    sides: list[_Side]


class _Found:
    """The keys that appear in several groups, and the groups that they join."""

    def __init__(self, tables: Mapping[str, datasets.Dataset]) -> None:
        self._groups, numbers = _numbered([arrow_column(table, "group") for table in tables.values()])
        self._parent = list(range(len(self._groups)))
        self._size = [1] * len(self._groups)
        of_batch = [
            (batch, groups[BATCH_ROWS * i : BATCH_ROWS * (i + 1)])
            for table, groups in zip(tables.values(), numbers, strict=True)
            for i, batch in enumerate(_batches(table))
        ]
        sides = [(side, groups) for batch, groups in of_batch for side in batch.sides]
        self._prompts = _in_several([(batch.source, groups) for batch, groups in of_batch])
        self._texts = _in_several([(side.text, groups) for side, groups in sides])
        long = [(side, side.long, groups) for side, groups in sides]
        long_texts = _in_several([(side.text[keep], groups[keep]) for side, keep, groups in long])
        # Texts that few groups share join first: they say most about their source.
        for groups in sorted([*long_texts, *self._prompts], key=lambda groups: (len(groups), groups)):
            self._join(groups)
        responses = _in_several([(side.response[keep], groups[keep]) for side, keep, groups in long])
        # Equal responses to one prompt are among the texts already.
        self._responses = self._num_apart(responses) - self._num_apart(long_texts)

    def names(self) -> dict[str, str]:
        """Group -> the first name of its joint group."""
        return {group: self._groups[self._root(i)] for i, group in enumerate(self._groups)}

    def counts(self) -> SharedTexts:
        """The counts for `shared_texts`."""
        roots = [self._root(i) for i in range(len(self._groups))]
        return SharedTexts(
            prompts=len(self._prompts),
            texts=len(self._texts),
            joined=sum(self._size[root] > 1 for root in roots),
            parts=len(set(roots)),
            apart=self._num_apart(self._prompts) + self._num_apart(self._texts),
            responses=max(0, self._responses),
        )

    def _root(self, group: int) -> int:
        while self._parent[group] != group:
            group = self._parent[group]
        return group

    def _num_apart(self, shared: Sequence[tuple[int, ...]]) -> int:
        return sum(len({self._root(group) for group in groups}) > 1 for groups in shared)

    def _join(self, groups: Sequence[int]) -> None:
        """Joins these groups, unless that would join too many."""
        count = len(self._groups)
        roots = sorted({self._root(group) for group in groups})
        size = sum(self._size[root] for root in roots)
        if size > min(max(2, count // _MOST), count - 1):
            return
        for root in roots:
            self._parent[root] = roots[0]
        self._size[roots[0]] = size


def _numbered(columns: Sequence[pa.ChunkedArray]) -> tuple[list[str], list[NDArray[np.int64]]]:
    """All names of groups in alphabetical order, and for each row the place of its own."""
    import pyarrow as pa

    if not columns:
        return [], []
    columns = [column.cast(pa.string()) for column in columns]
    codes = text_codes(*columns)
    joined = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    names: list[str] = joined.unique().to_pylist()
    # In alphabetical order nothing depends on the order of rows or tables.
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return [names[i] for i in order], [place[of_rows] for of_rows in codes]


def _in_several(parts: Sequence[tuple[Digests, NDArray[np.int64]]]) -> list[tuple[int, ...]]:
    """The groups of each key that appears in several of them; a key of 0 means none."""
    keys, groups = [key for key, _ in parts], [group for _, group in parts]
    key, group = np.concatenate([_NONE, *keys]), np.concatenate([np.zeros(0, np.int64), *groups])
    key, group = key[key > 0], group[key > 0]
    if not len(key):
        return []
    order = np.lexsort((group, key))
    key, group = key[order], group[order]
    first = np.ones(len(key), bool)
    first[1:] = (key[1:] != key[:-1]) | (group[1:] != group[:-1])
    key, group = key[first], group[first]
    start = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    end = np.r_[start[1:], len(key)]
    return [tuple(group[a:b].tolist()) for a, b in zip(start, end, strict=True) if b - a > 1]


def _batches(table: datasets.Dataset) -> Iterator[_Batch]:
    """The digests of a table's rows, in batches."""
    import pyarrow as pa

    sides = {side: arrow_column(table, side) for side in _SIDES if side in table.column_names}
    prompts = arrow_column(table, "prompt") if "prompt" in table.column_names else None
    for start in range(0, len(table), BATCH_ROWS):
        columns = [column.slice(start, BATCH_ROWS) for column in sides.values()]
        if prompts is None:
            prompt = np.zeros(min(BATCH_ROWS, len(table) - start), np.uint64)
        else:
            prompt = prompt_digests(prompts.slice(start, BATCH_ROWS))
        source = prompt.copy()
        bare = np.flatnonzero(prompt == 0) if len(columns) > 1 else ()
        if len(bare):
            texts = zip(*(column.take(pa.array(bare)).to_pylist() for column in columns), strict=True)
            starts = [normal_text(shared_start(of_row)) for of_row in texts]
            source[bare] = digests_of([start if is_long(start) else "" for start in starts])
        yield _Batch(source, [_side(prompt, column) for column in columns])


def _side(prompt: Digests, texts: Any) -> _Side:
    response, long = text_digests(texts)
    # Wraps around; a product by an odd number keeps (a, b) and (b, a) apart.
    text = np.where(response > 0, prompt * np.uint64(0x9E3779B97F4A7C15) + response, np.uint64(0))
    return _Side(response, text, long)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count > 1 else ''}" if count else ""
