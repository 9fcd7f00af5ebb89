"""`where`: values as a command line gives them, and what is said where none is left."""

from __future__ import annotations

from typing import Any

import pytest

from pluralign.data import read_table
from pluralign.data.selecting import is_value
from pluralign.errors import DataError

ROWS = [
    {
        "response": f"a{i}",
        "attribute": "h",
        "ratings": [3],
        "scale": [1, 5],
        "prompt": "p",
        "round": i % 3,
        "share": i / 2,
        "ok": i % 2 == 0,
        "name": str(i % 2),
        "note": None if i else "x",
    }
    for i in range(6)
]


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ({"round": "1"}, 2),
        ({"round": "1.0"}, 2),
        ({"round": 1}, 2),
        ({"ok": "true"}, 3),
        ({"ok": "False"}, 3),
        ({"ok": True}, 3),
        ({"share": ".5"}, 1),
        ({"name": "1"}, 3),
        ({"name": 1}, 3),
        ({"note": "null"}, 5),
        ({"note": None}, 5),
        ({"round": "0", "ok": "true"}, 1),
    ],
)
def test_rows_are_found_whatever_the_type(where: dict[str, Any], left: int) -> None:
    table, report = read_table(ROWS, "ratings", where=where)
    assert (len(table), report.rows_filtered) == (left, 6 - left)


@pytest.mark.parametrize(
    ("cell", "wanted"), [(True, "1"), (1, "true"), ("01", "1"), (10, "1_0"), ([1], "1"), (None, "")]
)
def test_what_is_not_such_a_value(cell: Any, wanted: Any) -> None:
    assert not is_value(cell, wanted)


def test_values_that_exist_are_listed_where_none_is_left() -> None:
    with pytest.raises(DataError) as caught:
        read_table(ROWS, "ratings", where={"round": "7", "ok": "true"})
    assert "the column 'round' holds 0 (2 rows), 1 (2 rows), 2 (2 rows)" in str(caught.value)
    assert "the column 'ok' holds True (3 rows), False (3 rows)" in str(caught.value)
    many = [row | {"code": f"c{i:02}"} for i, row in enumerate(ROWS * 3)]
    with pytest.raises(DataError, match=r"'c09' \(1 rows\), \.\.\."):
        read_table(many, "ratings", where={"code": "x"})
