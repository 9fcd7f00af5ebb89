"""Columns that nobody needs: whatever they hold, the rows are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pluralign.data import load_pairs, read_table, weighted_pairs
from pluralign.errors import DataError

ROW = {"prompt": "q", "attribute": "h", "ratings": [1], "scale": [1, 5]}
AS_TEXT = "column 'meta' as text, since its values do not fit one type"


def read(*values: Any, name: str = "meta") -> tuple[Any, Any]:
    rows = [{**ROW, "response": f"r{i}", name: value} for i, value in enumerate(values)]
    return read_table(rows, "ratings")


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ((5, "N/A", None), ["5", "N/A", None]),
        (({"a": 1}, {"a": "x"}), ['{"a": 1}', '{"a": "x"}']),
        (("ok", "cut \ud83d"), ["ok", "cut \\ud83d"]),
        ((1, 2**70), ["1", str(2**70)]),
        (([1], 2), ["[1]", "2"]),
        ((True, 3), ["true", "3"]),
        (({}, {}), ["{}", "{}"]),
        (({"a\x00": 1}, {"\ud83d": 2}), ['{"a\\u0000": 1}', '{"\\ud83d": 2}']),
        (({1: "x", "b": object}, 1), ['{"1": "x", "b": "<class \'object\'>"}', "1"]),
    ],
)
def test_what_fits_no_type_becomes_text(values: Any, kept: list[str]) -> None:
    table, report = read(*values)
    assert table["meta"][:] == kept
    assert report.notes == {AS_TEXT: 1}


@pytest.mark.parametrize(
    "values",
    [
        (1, 2), ("a", None), ({"a": 1}, {"b": "x"}), ([1], [2]), (None, None),
        ([None, None], [None]), ([None, None, 3], None), ([[None, None]], [[]]),
    ],
)  # fmt: skip
def test_what_fits_stays_as_it_is(values: Any) -> None:
    table, report = read(*values)
    expected = [{"a": 1, "b": None}, {"a": None, "b": "x"}] if isinstance(values[0], dict) else list(values)
    assert table["meta"][:] == expected
    assert report.notes == {}


def test_columns_of_other_shapes_may_hold_anything() -> None:
    """`votes` and `chosen` mean nothing in a table of ratings."""
    for name in ("votes", "chosen", "weight", "margin"):
        table, _ = read("high", 3, name=name)
        assert table[name][:] == ["high", "3"]


@pytest.mark.parametrize(("name", "legal"), [("a\x00b", "a\\x00b"), ("\ud83d", "\\ud83d"), ("", "")])
def test_names_that_no_table_takes_are_spelled_out(name: str, legal: str) -> None:
    assert read(1, 2, name=name)[0][legal][:] == [1, 2]


def test_a_name_that_is_spelled_out_replaces_no_other() -> None:
    rows = [{**ROW, "response": "r", "a\x00": 1, "a\\x00": 2}]
    assert read_table(rows, "ratings")[0].to_list()[0]["a\\x00_"] == 1


def test_a_weight_that_is_not_a_number_is_reported_where_it_is_needed(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b", "weight": w} for w in (1, "high")]
    with pytest.raises(DataError, match="row 1, column 'weight': found '1'"):
        weighted_pairs(load_pairs(rows))
