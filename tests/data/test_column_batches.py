"""Files are checked a batch and a column at a time: neither changes what is read, nor what is said of it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pluralign.data import (
    batches,
    formats,
    json_lines,
    load_comparisons,
    read_table,
    sources,
    table_columns,
    table_reading,
)
from pluralign.errors import DataError, PluralignError

# Of each column: what is right, and what somebody has to look at.
CELLS: dict[str, tuple[list[Any], list[Any]]] = {
    "prompt": (
        [None, "Why?", [{"role": "user", "content": "Why?"}], []],
        ["", " \x1f", [{"role": "king", "content": "a"}], [{"role": "user"}], 3, "\ud800"],
    ),
    "text": (
        ["Because.", "So.", "Since then."],
        ["", "\u2003", None, '[{"role": "user", "content": "a"}]', "Human: a\n\nAssistant: b", 7, "a\x00b"],
    ),
    "attribute": (["help", "harm"], [None, "", 1, True]),
    "ratings": (
        [[3], [1, 2.5], [4, 4, 1]],
        [[], None, 2, [9], [True], [1, True, 2.5], [None], [None, None, 3], ["3"], "[1, 2]"],
    ),
    "votes": ([[1], [1, -1, 0], -1], [[], None, [2], [0.5], "tie", [True], ["A"], [1.0, None]]),
    "scale": ([[0, 4], [0.0, 4.0]], [None, [4, 0], [0], [0, 5], [0, None], "0-4"]),
    "rater_ids": ([None], [["a"], ["a", "b"], [], "a", [1], ["a", None], [None, None, "a"], ["\ud800"]]),
    "rater": (["a", "b"], [None, 1, 1.5, ["a"]]),
    "subset": (["x", "y"], [None, "", 1, 1.5]),
    "group": (["g", "h"], [None, "", 2, ["g"]]),
    "true_mean": ([1.5, 2], [None, "1", True, 10**400]),
    "true_quantiles": ([[1, 2]], [None, [], 1, ["a"]]),
    "spare": ([1, 2.5, "a", None, [1]], [True, {}, {"b": 1}, 2**70, "\ud800", "2025-01-31", [None, None]]),
}
JUDGED = ("attribute", "ratings", "scale")
SHAPES: dict[str, tuple[str, ...]] = {
    "ratings": ("response", *JUDGED),
    "pairs": ("chosen", "rejected"),
    "comparisons": ("response_a", "response_b", "votes"),
    "responses": ("response",),
}
OPTIONAL = ("rater_ids", "rater", "subset", "group", "true_mean", "true_quantiles", "spare")


def a_file(seed: int) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """The shape, rows and arguments of a load; half of the files hold nothing odd but what is optional."""
    draw = random.Random(seed)
    shape = draw.choice(list(SHAPES))
    columns = ["prompt", *SHAPES[shape], *(name for name in OPTIONAL if draw.random() < 0.3)]
    if draw.random() < 0.1:
        columns.remove(draw.choice(columns))
    odd = draw.choice([0.0, 0.04])
    one_rater = "rater" in columns and draw.random() < 0.7
    rows = []
    for number in range(draw.choice([1, 5, 17])):
        row: dict[str, Any] = {"id": f"row {number}"} if draw.random() < 0.95 else {"id": "row 0"}
        for name in columns:
            right, other = CELLS.get(name, CELLS["text"])
            row[name] = draw.choice(other if draw.random() < odd else right)
            if name not in CELLS and isinstance(row[name], str) and row[name].strip():
                row[name] += f" {number}" if draw.random() < 0.9 else ""
            if one_rater and name in ("ratings", "votes"):
                row[name] = 1
            if draw.random() < odd / 2:
                del row[name]
        rows.append(row)
    options: dict[str, Any] = {"scale": (0, 4)} if shape == "ratings" and draw.random() < 0.2 else {}
    if draw.random() < 0.2:
        options["where"] = draw.choice([{"subset": "x"}, {"spare": 1}])
    if draw.random() < 0.5:
        options["on_bad_row"] = "quarantine"
    return shape, rows, options


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """The rows as JSON Lines, or as Parquet with texts where a column has no one type."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            columns[name] = pa.array([None if value is None else json.dumps(value) for value in values])
    pq.write_table(pa.table(columns), path)


def what_came(path: Path, seed: int) -> tuple[Any, ...]:
    """Table, report and what was set aside; or the error."""
    shape, _, options = a_file(seed)
    aside = path.with_name("aside.jsonl")
    aside.unlink(missing_ok=True)
    if "on_bad_row" in options:
        options["quarantine_path"] = aside
    try:
        table, report = read_table(path, shape, **options)  # type: ignore[arg-type]
    except PluralignError as error:
        return type(error), str(error), getattr(error, "problems", None)
    return repr(table.features), repr(table[:]), report, aside.read_text() if aside.exists() else None


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_neither_the_size_of_batches_nor_a_closer_look_changes_anything(tmp_path, monkeypatch, suffix):
    path, found = tmp_path / f"rows{suffix}", []
    for seed in range(40):
        write(a_file(seed)[1], path)
        found.append(what_came(path, seed))
    kinds = {type(one[0]) for one in found}
    assert kinds == {str, type}, "some load and some do not"

    def closely(*args, **kwargs):
        canonical, odd = checked(*args, **kwargs)
        return canonical, np.ones_like(odd)

    checked = table_reading.checked_columns
    with monkeypatch.context() as patch:
        patch.setattr(table_reading, "checked_columns", closely)
        for seed, before in enumerate(found):
            write(a_file(seed)[1], path)
            assert what_came(path, seed) == before, f"a closer look, seed {seed}"
    for module in (batches, formats, json_lines, sources, table_reading):
        monkeypatch.setattr(module, "BATCH_ROWS", 3)
    monkeypatch.setattr(table_columns, "BATCH_ROWS", 2)
    for seed, before in enumerate(found):
        write(a_file(seed)[1], path)
        assert what_came(path, seed) == before, f"batches of 3, seed {seed}"


def test_most_rows_need_no_closer_look(tmp_path, monkeypatch):
    looked: list[int] = []
    look = table_reading._FilePass._read_rows
    monkeypatch.setattr(
        table_reading._FilePass,
        "_read_rows",
        lambda self, batch, places, plan: looked.append(len(places)) or look(self, batch, places, plan),
    )
    rows = [
        {
            "prompt": [{"role": "user", "content": "Why?"}],
            "response": f"Because of {number}.",
            "attribute": "help",
            "ratings": [1, 2, 3],
            "scale": [0, 4],
            "rater_ids": ["a", "b", "c"],
        }
        for number in range(50)
    ]
    rows[7]["ratings"] = [1, 2, 9]
    for suffix in (".jsonl", ".parquet"):
        write(rows, tmp_path / f"rows{suffix}")
        table, _ = read_table(
            tmp_path / f"rows{suffix}", "ratings", on_bad_row="quarantine", quarantine_path=tmp_path / "aside"
        )
        assert len(table) == 49
    assert looked == [1, 1]


def test_rows_of_one_rater_each_are_reported_of_all_that_their_file_lacks(tmp_path):
    row = {"prompt": "Why?", "response": "So.", "attribute": "help", "ratings": 1, "rater": "a"}
    write([row, {**row, "rater": "b"}], tmp_path / "rows.jsonl")
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "rows.jsonl", "ratings")
    assert [(problem.row, problem.column) for problem in caught.value.problems] == [(None, "scale")]


def test_names_of_raters_are_no_problem_where_there_are_no_votes_at_all(tmp_path):
    row = {"prompt": "Why?", "response_a": "So.", "response_b": "Since.", "rater_ids": ["a", "b"]}
    write([row], tmp_path / "rows.jsonl")
    with pytest.raises(DataError) as caught:
        load_comparisons(tmp_path / "rows.jsonl")
    assert [(problem.row, problem.column) for problem in caught.value.problems] == [(None, "votes")]
