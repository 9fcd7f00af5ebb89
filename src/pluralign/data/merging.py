"""Merges rows with one rater each into one row per rated text.

In: canonical rows of ratings or comparisons, some with one rating or vote and one name. Out: a row per
prompt, responses, attribute, scale, subset and group, with the ratings or votes of all raters in the order of
the rows; and ids that are no longer unique. The other columns are those of the first row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pluralign.data.records import SIDES, Shape

__all__ = ["merge_raters"]

_JUDGEMENTS = {"ratings": "ratings", "comparisons": "votes"}


def merge_raters(rows: Sequence[dict[str, Any]], shape: Shape) -> tuple[list[dict[str, Any]], list[str]]:
    """The merged rows, and the ids that occur more than once.

    Args:
        rows: complete rows of `shape`.
        shape: "ratings" or "comparisons".
    """
    column = _JUDGEMENTS[shape]
    same = ("prompt", *SIDES[shape], "attribute", "scale", "subset", "group")
    merged: dict[str, dict[str, Any]] = {}
    for row in rows:
        key = json.dumps([row.get(name) for name in same])
        first = merged.get(key)
        if first is None:
            merged[key] = dict(row)
            continue
        names, more = first["rater_ids"], row["rater_ids"]
        first[column] = first[column] + row[column]
        first["rater_ids"] = None if names is None or more is None else names + more
    seen: set[tuple[str, str, str]] = set()
    again = []
    for row in merged.values():
        name = (row["id"], row["subset"], row.get("attribute") or "")
        if name in seen:
            again.append(row["id"])
        seen.add(name)
    return list(merged.values()), again
