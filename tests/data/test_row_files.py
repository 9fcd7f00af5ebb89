"""Rows to files by the ending of their names, and read again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pluralign.data.row_files import ENDINGS, check_ending, write_lines, write_rows
from pluralign.errors import ArgumentError, ArtifactError

ROWS = [
    {"id": "1", "utility": 0.1, "says": 'a "quoted", text\nof two lines', "parts": {"x": [1.5, -2.0]}},
    {"id": "=2", "utility": -3e-9, "says": "\u00fc", "parts": {"x": []}},
    {"id": "3", "utility": 1e300, "says": "", "parts": {"x": [0.0]}},
]
BATCHES = [ROWS[:2], [], ROWS[2:]]


def stored(file: Path) -> list[dict]:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    with file.open(encoding="utf-8", newline="") as opened:
        cells = list(csv.DictReader(opened))
    return [row | {"utility": float(row["utility"]), "parts": json.loads(row["parts"])} for row in cells]


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_come_back(tmp_path, ending):
    write_rows(tmp_path / f"rows{ending}", BATCHES)
    assert stored(tmp_path / f"rows{ending}") == ROWS
    write_lines(tmp_path / f"lines{ending}", [[json.dumps(row) for row in rows] for rows in BATCHES])
    assert stored(tmp_path / f"lines{ending}") == ROWS


def test_lines_are_written_as_they_are(tmp_path):
    write_lines(tmp_path / "a.jsonl", [['{"a": 1}'], ['{"a":  2}']])
    assert (tmp_path / "a.jsonl").read_text() == '{"a": 1}\n{"a":  2}\n'


def test_a_schema_decides_types_and_writes_a_file_without_rows(tmp_path):
    schema = pa.schema({"a": pa.float64()})
    write_rows(tmp_path / "a.parquet", [[]], schema)
    assert pq.read_table(tmp_path / "a.parquet").schema == schema


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_rows_of_other_columns_are_refused_and_nothing_is_written(tmp_path, ending):
    with pytest.raises(
        ArtifactError, match=r"do not all have the same columns, as \w+ needs; write a .jsonl"
    ):
        write_rows(tmp_path / f"a{ending}", [[{"a": 1.0}], [{"a": 1.0, "b": 2.0}]])
    assert not list(tmp_path.iterdir())
    write_rows(tmp_path / "a.jsonl", [[{"a": 1.0}], [{"a": 1.0, "b": 2.0}]])


@pytest.mark.parametrize("name", ["a", "a.txt", "a.csv.gz", "parquet"])
def test_other_endings_are_refused(tmp_path, name):
    for write in (write_rows, write_lines):
        with pytest.raises(
            ArgumentError, match=r"allowed: a file that ends in .jsonl or .csv or .parquet"
        ) as raised:
            write(tmp_path / name, BATCHES)
        assert raised.value.allowed == ENDINGS
    assert check_ending("a.b/c.csv") == ".csv"
    assert not list(tmp_path.iterdir())
