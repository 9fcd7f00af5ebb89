"""What Arrow reads of JSON Lines is what Python's parser reads, row by row and column by column."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pluralign.data import load_comparisons
from pluralign.data.batches import Batch, RowBatch
from pluralign.data.json_files import json_batches
from pluralign.data.json_lines import LineBatch

# A column's cells; in each, Arrow's types or its reader could make other values of them.
BY_ARROW: dict[str, list[Any]] = {
    "texts": ["a", None, "", "ü \u2028", 'a "quoted" {[', "1.0"],
    "whole numbers": [1, -(2**63), 2**63 - 1],
    "whole numbers and others": [1, 2.5, -0.0, 3.0, None],
    "numbers in lists": [[1], [1.5, 2], []],
    "nulls behind numbers": [[1, None], [None, None], None],
    "one null before a text": [[None], ["x"]],
    "nulls in lists of lists": [[[1]], [[None, None]], None],
    "objects": [{"b": 1}, {"c": "x"}, {}, None],
    "lists of objects": [[{"role": "user", "content": "q"}], [{"content": None}], []],
    "dates": ["2025-01-31", "2025-02-01", None],
    "times": ["2025-01-31 10:00:00", "2025-01-31T10:00:00Z"],
    "dates and texts": ["2025-01-31", "soon"],
    "nothing": [None, None],
}
LINE_BY_LINE: dict[str, list[Any]] = {
    "nulls before a text": [[None, None, "x"], ["y"]],
    "nulls before a number": [[None, 3], [4]],
    "nothing but nulls": [[None, None], [None]],
    "nulls in the first list of lists": [[[None, None]], [[1]]],
    "nulls in an object's list": [{"b": [None, 1.5]}],
    "two types": ["a", 1],
    "a flag and a number": [True, 1],
    "beyond 64 bits": [2**63, 1],
    "beyond a float's whole numbers": [2**53 + 1, 0.5],
    "dates in lists": [["2025-01-31"]],
    "half a surrogate pair": ["\ud800"],
    "too deep": [json.loads("[" * 600 + "]" * 600)],
}


def batches_of(data: bytes) -> list[Batch]:
    def bad(number: int, row: Any) -> None:
        raise AssertionError(f"line {number} is a record: {row}")

    return list(json_batches(io.BytesIO(data), "rows.jsonl", lambda _: None, bad))


def plainly(values: Any) -> str:
    """Texts that tell 1 from 1.0 and True, and -0.0 from 0.0."""
    return repr(values.to_pylist() if hasattr(values, "to_pylist") else list(values))


@pytest.mark.parametrize(("kind", "cells"), (BY_ARROW | LINE_BY_LINE).items())
@pytest.mark.parametrize("filled", [True, False])
def test_values_are_those_of_the_lines(kind: str, cells: list[Any], filled: bool) -> None:
    rows: list[dict[str, Any]] = [{"id": f"r{i}", "cell": cell} for i, cell in enumerate(cells)]
    if not filled:
        rows.append({"id": "without"})
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (batch,) = batches_of(data)
    assert type(batch) is (LineBatch if kind in BY_ARROW else RowBatch)
    assert repr(list(batch.rows())) == repr(rows)
    want = [row.get("cell") for row in rows]
    assert plainly(batch.values("cell")) == plainly(batch.kept("cell")) == repr(want)
    places = np.array([len(rows) - 1, 0])
    assert repr(list(batch.take(places).rows())) == repr([rows[-1], rows[0]])


def test_what_arrow_loses_is_read(tmp_path: Path) -> None:
    """Where nobody says who the first raters were, Arrow's list of names is shorter than its offsets say."""
    row = {"prompt": "Why?", "response_a": "So.", "response_b": "Because.", "votes": [1, -1, 0]}
    rows = [{**row, "id": str(i), "rater_stance": [None, None, f"s{i}"]} for i in range(40)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = load_comparisons(path)
    assert table["rater_stance"][:] == [row["rater_stance"] for row in rows]
