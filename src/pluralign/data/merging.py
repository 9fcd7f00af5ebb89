"""Merges rows with one rater each into one row per rated text.

In: canonical rows of ratings or comparisons, some with one rating or vote and one name. Out: a row per
prompt, responses, attribute, scale, subset and group, with the ratings or votes of all raters in the order of
the rows; and ids that are no longer unique. The other columns are those of the first row.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from pluralign.data.layouts import JUDGEMENTS
from pluralign.data.records import SIDES, Shape
from pluralign.data.table_columns import by_appearance, joint_codes, prompt_codes, take, text_codes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["merge_raters"]


def merge_raters(table: pa.Table, shape: Shape) -> tuple[pa.Table, list[str]]:
    """The merged rows, and the ids that several of them have.

    Args:
        table: complete rows of `shape`.
        shape: "ratings" or "comparisons".
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(table):
        return table, []
    codes = [
        prompt_codes(table.column("prompt"))[0],
        *text_codes(*(table.column(side) for side in SIDES[shape])),
    ]
    codes += [text_codes(table.column(name))[0] for name in ("subset", "group")]
    if shape == "ratings":
        scale = table.column("scale")
        codes += text_codes(table.column("attribute"))
        codes += text_codes(pc.list_element(scale, 0), pc.list_element(scale, 1))
    text, first = by_appearance(joint_codes(codes))
    order = np.argsort(text, kind="stable")
    ends_of = np.cumsum(np.bincount(text))[:-1]
    merged = {name: take(table.column(name), first) for name in table.column_names}
    for name in (JUDGEMENTS[shape], "rater_ids"):
        lists = take(table.column(name), order).to_pylist()
        joined = [
            _joined(lists[start:stop])
            for start, stop in zip([0, *ends_of], [*ends_of, len(lists)], strict=True)
        ]
        merged[name] = pa.chunked_array([pa.array(joined, table.column(name).type)])
    ids = zip(
        *(
            merged[name].to_pylist()
            for name in ("id", "subset") + (("attribute",) if shape == "ratings" else ())
        ),
        strict=True,
    )
    added: set[tuple[str, ...]] = set()
    again = []
    for key in ids:
        if key in added:
            again.append(key[0])
        added.add(key)
    return pa.table(merged), again


def _joined(lists: list[list[object] | None]) -> list[object] | None:
    """All of them one after the other; nothing where one is missing."""
    if None in lists:
        return None
    return list(itertools.chain.from_iterable(part for part in lists if part is not None))
