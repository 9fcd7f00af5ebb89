"""Rows on disk in shards: every row once, in order, whatever the sizes of the tables that they come in."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lettered_stage import tables

from pluralign.engines import read_stored_rows, store_rows
from pluralign.engines.stored_rows import _cut
from pluralign.errors import ArgumentError, ArtifactError, DataError


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 12))
def test_shards_have_all_rows_in_order(sizes, rows_per_shard):
    numbers = iter(range(100))
    parts = [pa.table({"n": pa.array([next(numbers) for _ in range(size)], pa.int64())}) for size in sizes]
    found = list(_cut(iter(parts), rows_per_shard))
    assert [n for table in found for n in table.column("n").to_pylist()] == list(range(sum(sizes)))
    assert all(len(table) == rows_per_shard for table in found[:-1])
    assert all(0 < len(table) <= rows_per_shard for table in found)


def test_rows_are_stored_once_and_read_back(tmp_path):
    found = store_rows(tables(20), tmp_path / "rows", 6, {"file": "a"})
    assert (found.rows, found.num_shards, found.rows_per_shard) == (20, 4, 6)
    assert found.read(3).column("id").to_pylist() == ["18", "19"]

    def never():
        raise AssertionError
        yield

    assert store_rows(never(), tmp_path / "rows", 6, {"file": "a"}) == found
    assert read_stored_rows(tmp_path / "rows") == found
    other = store_rows(tables(7), tmp_path / "rows", 6, {"file": "b"})
    assert (other.rows, other.num_shards) == (7, 2)


def test_what_an_interruption_left_is_written_again(tmp_path):
    def breaks():
        yield from tables(14)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_rows(breaks(), tmp_path / "rows", 6, {})
    with pytest.raises(ArtifactError, match="no finished rows"):
        read_stored_rows(tmp_path / "rows")
    assert store_rows(tables(20), tmp_path / "rows", 6, {}).rows == 20


def test_what_cannot_be_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        store_rows([], tmp_path / "rows", 6, {})
    with pytest.raises(ArgumentError, match="rows_per_shard must be at least 1, received 0"):
        store_rows(tables(3), tmp_path / "rows", 0, {})
    found = store_rows(tables(9), tmp_path / "rows", 6, {})
    (tmp_path / "rows" / "rows-00001.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ArtifactError, match=r"rows-00001.parquet cannot be read.*repeat the command"):
        found.read(1)
    (tmp_path / "rows" / "rows.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(ArtifactError, match="missing or damaged"):
        read_stored_rows(tmp_path / "rows")
