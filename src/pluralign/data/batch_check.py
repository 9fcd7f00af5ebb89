"""A batch of rows checked a column at a time: only suspicious rows are then checked one by one.

In: the columns of a batch, under canonical names. Out: its canonical columns as Arrow arrays, and the rows
that need a closer look, whose cells there do not count. `records` defines which rows are valid: a row passes
here only if it would pass there, without a problem and without a note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pluralign.data import plain_checks as check
from pluralign.data.records import LONGEST_NAME, SIDES, Defaults, Shape
from pluralign.data.same_text import prompt_group
from pluralign.data.table_columns import prompt_codes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["checked_columns"]

Values = Sequence[Any] | Any


def checked_columns(
    column: Callable[[str], Values | None],
    numbers: NDArray[np.int64],
    *,
    shape: Shape,
    file: str,
    absent: frozenset[str],
    defaults: Defaults,
) -> tuple[dict[str, pa.Array], NDArray[np.bool_]]:
    """The canonical columns of N rows, and which of them need a closer look.

    Args:
        column: name -> its values, Arrow or Python; None where there is no such column.
        numbers: of the rows in their file.
        shape: which one.
        file: name of the file, from which missing ids are made.
        absent: required columns that the whole file lacks: they are null, which makes no row suspicious.
        defaults: what the caller supplied.
    """
    return _Check(column, numbers, shape, file, absent, defaults).run()


class _Check:
    """One batch; `_odd` collects the rows that need a closer look."""

    def __init__(
        self,
        column: Callable[[str], Values | None],
        numbers: NDArray[np.int64],
        shape: Shape,
        file: str,
        absent: frozenset[str],
        defaults: Defaults,
    ) -> None:
        self._column = column
        self._numbers = numbers
        self._shape: Shape = shape
        self._file = file
        self._absent = absent
        self._defaults = defaults
        self._count = len(numbers)
        self._odd = np.zeros(self._count, bool)

    def run(self) -> tuple[dict[str, pa.Array], NDArray[np.bool_]]:
        """The canonical columns, and which rows need a closer look."""
        import pyarrow as pa

        found = {"prompt": self._cells("prompt", check.prompts)}
        sides = SIDES[self._shape]
        found |= {side: self._required(side, check.texts, pa.string()) for side in sides}
        self._compare_sides(found["prompt"], [found[side] for side in sides if side not in self._absent])
        named = (f"{self._file}:{number}" for number in self._numbers.tolist())
        found["id"] = self._name("id", lambda: pa.array(list(named), pa.string()))
        found["subset"] = self._name("subset", lambda: pa.array([""] * self._count, pa.string()))
        found["group"] = self._groups(found["prompt"], {side: found[side] for side in sides})
        if self._shape == "ratings":
            found |= self._ratings()
        elif self._shape == "comparisons":
            found |= self._votes()
        found |= self._optional()
        return found, self._odd

    def _values(self, name: str) -> Values:
        values = self._column(name)
        return [None] * self._count if values is None else values

    def _cells(self, name: str, how: Callable[[Values], check.Cells]) -> pa.Array:
        cells = how(self._values(name))
        self._odd |= cells.odd
        return cells.array

    def _required(self, name: str, how: Callable[[Values], check.Cells], kind: pa.DataType) -> pa.Array:
        """A column that no row may lack, unless the whole file does."""
        import pyarrow as pa

        if name in self._absent:
            return pa.nulls(self._count, kind)
        array = self._cells(name, how)
        self._odd |= np.asarray(array.is_null(), bool)
        return array

    def _compare_sides(self, prompt: pa.Array, sides: Sequence[pa.Array]) -> None:
        """Marks rows with equal sides, and those whose texts may hold a conversation or repeat the prompt."""
        import pyarrow.compute as pc

        if len(sides) == 2:
            self._odd |= np.asarray(pc.equal(*sides).fill_null(False), bool)
        if not sides:
            return
        bare = check.sizes_of(prompt) == 0
        if bare.any():
            self._odd |= bare & np.all([check.begins_with_turn(side) for side in sides], axis=0)
        text = check.as_arrow(self._values("prompt"))
        if text is not None and check.is_text(text.type):
            again = np.all([check.begin_alike(text, side) for side in sides], axis=0)
            self._odd |= again | check.begins_with_turn(text)

    def _name(self, name: str, default: Callable[[], pa.Array]) -> pa.Array:
        import pyarrow.compute as pc

        array = self._cells(name, check.names)
        return pc.coalesce(array, default()) if array.null_count else array

    def _groups(self, prompt: pa.Array, sides: Mapping[str, pa.Array]) -> pa.Array:
        """The groups; of rows without one a hash of the prompt, or of the sides where there is none."""
        import pyarrow as pa
        import pyarrow.compute as pc

        array = self._cells("group", check.names)
        rows = np.flatnonzero(np.asarray(array.is_null(), bool) & ~self._odd)
        if not len(rows) or self._absent & {*sides, "prompt"}:
            return array
        place = pa.array(rows)
        asked = prompt.take(place)
        code, first = prompt_codes(pa.chunked_array([asked]))
        said = {name: side.take(place).to_pylist() for name, side in sides.items()}
        shown = asked.take(pa.array(first)).to_pylist()
        known = [prompt_group(one, {}) if one else None for one in shown]
        groups = [
            known[number] or prompt_group([], {name: texts[i] for name, texts in said.items()})
            for i, number in enumerate(code.tolist())
        ]
        mask = np.zeros(self._count, bool)
        mask[rows] = True
        return pc.replace_with_mask(array, pa.array(mask), pa.array(groups, pa.string()))

    def _ratings(self) -> dict[str, pa.Array]:
        import pyarrow as pa

        lists = pa.list_(pa.float64())
        attribute, scale = self._attribute(), self._scale()
        ratings = self._required("ratings", lambda v: check.number_lists(v, of_one=True), lists)
        sizes = check.sizes_of(ratings)
        if "ratings" not in self._absent:
            self._odd |= sizes == 0
        if "scale" not in self._absent and "ratings" not in self._absent:
            self._odd |= _off_scale(ratings, sizes, scale)
        return {
            "attribute": attribute,
            "ratings": ratings,
            "rater_ids": self._rater_ids(sizes, "ratings"),
            "scale": scale,
        }

    def _attribute(self) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        given, values = self._defaults.attribute, check.as_arrow(self._values("attribute"))
        array = self._cells("attribute", check.names)
        if values is None or not check.is_text(values.type):  # names take numbers, attributes do not
            self._odd |= np.asarray(array.is_valid(), bool)
        if given is not None:
            array = pc.coalesce(array, pa.scalar(given, pa.string()))
            self._odd |= np.asarray(pc.not_equal(array, given), bool)
        elif "attribute" not in self._absent:
            self._odd |= np.asarray(array.is_null(), bool)
        return array

    def _scale(self) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        given, kind = self._defaults.scale, pa.list_(pa.float64())
        array = self._cells("scale", check.number_lists)
        if given is not None and array.null_count:
            array = pc.coalesce(array, pa.scalar(list(given), kind))
        if "scale" in self._absent:
            return array
        low, high, whole = _ends(array)
        legal = whole & (low < high)
        if given is not None:
            legal &= (low == given[0]) & (high == given[1])
        self._odd |= ~legal
        return array

    def _votes(self) -> dict[str, pa.Array]:
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = pa.list_(pa.int8())
        votes = self._required("votes", lambda v: check.number_lists(v, of_one=True), pa.list_(pa.float64()))
        sizes = check.sizes_of(votes)
        if "votes" in self._absent:
            return {"votes": pa.nulls(self._count, kind), "rater_ids": self._rater_ids(sizes, "votes")}
        flat = np.asarray(pc.list_flatten(votes), np.float64)
        self._odd |= (sizes == 0) | check.of_rows(~np.isin(flat, (-1.0, 0.0, 1.0)), sizes)
        whole = pa.array(np.where(np.isin(flat, (-1.0, 1.0)), flat, 0.0).astype(np.int8))
        offsets = pa.array(np.concatenate([[0], sizes.cumsum()]), pa.int32())
        return {
            "votes": pa.ListArray.from_arrays(offsets, whole),
            "rater_ids": self._rater_ids(sizes, "votes"),
        }

    def _rater_ids(self, sizes: NDArray[np.int64], judgements: str) -> pa.Array:
        import pyarrow as pa

        if judgements in self._absent:
            return pa.nulls(self._count, pa.list_(pa.string()))
        array = self._cells("rater_ids", check.name_lists)
        self._odd |= np.asarray(array.is_valid(), bool) & (check.sizes_of(array) != sizes)
        return array

    def _optional(self) -> dict[str, pa.Array]:
        name = partial(check.names, keep_empty=True)
        kinds: dict[str, Callable[[Values], check.Cells]] = {
            "split": name,
            "system": name,
            "true_mean": check.numbers,
            "true_quantiles": check.number_lists,
        }
        found = {
            name: self._cells(name, how) for name, how in kinds.items() if self._column(name) is not None
        }
        if "system" in found:
            self._odd |= check.longer_than(found["system"], LONGEST_NAME)
        return found


def _ends(scale: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """The first and the last number of each list, and which lists have two."""
    import pyarrow.compute as pc

    sizes = check.sizes_of(scale)
    flat = np.append(np.asarray(pc.list_flatten(scale), np.float64), [np.nan, np.nan])
    start = sizes.cumsum() - sizes
    return flat[start], flat[start + 1], sizes == 2


def _off_scale(ratings: pa.Array, sizes: NDArray[np.int64], scale: pa.Array) -> NDArray[np.bool_]:
    import pyarrow.compute as pc

    low, high, _ = _ends(scale)
    flat = np.asarray(pc.list_flatten(ratings), np.float64)
    inside = (flat >= low.repeat(sizes)) & (flat <= high.repeat(sizes))
    return check.of_rows(~inside, sizes)
