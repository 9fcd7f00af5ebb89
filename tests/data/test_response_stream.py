"""`stream_responses` gives what `load_responses` gives, batch by batch, and names the same problems."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pluralign as pl
from fake_backbone import pairs_rows, ratings_rows, votes_rows
from pluralign.data import batches as data_batches
from pluralign.data import formats as data_formats
from pluralign.data import json_lines, stream_responses
from pluralign.errors import DataError

PLAIN = [{"prompt": f"p{i}", "response": f"r{i}"} | ({"id": f"name {i}"} if i % 3 else {}) for i in range(25)]
MESSAGES = [
    {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": f"p{i}"}], "response": "r"}
    for i in range(12)
]
TRL = [{"chosen": f"a{i}", "rejected": f"b{i}", "prompt": f"p{i}"} for i in range(12)]


@pytest.fixture
def small_batches(monkeypatch):
    """Batches of five rows."""
    for module in (data_batches, json_lines, data_formats):
        monkeypatch.setattr(module, "BATCH_ROWS", 5)


def write(path, rows):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.suffix == ".csv":
        text = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
        path.write_text(text + "\n")
    else:
        path.write_text(lines)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
@pytest.mark.parametrize(
    "rows", [PLAIN, MESSAGES, TRL, pairs_rows(12), votes_rows(12), ratings_rows(4)],
    ids=["plain", "messages", "trl", "pairs", "votes", "ratings"],
)  # fmt: skip
def test_rows_are_those_of_load_responses(tmp_path, small_batches, name, rows):
    source = write(tmp_path / name, rows)
    tables = list(stream_responses(source))
    assert len(tables) == -(-len(rows) // 5)
    found = pa.concat_tables(tables)
    table = pl.data.load_responses(source)
    for column in found.column_names:
        assert found.column(column).to_pylist() == table[column][:], column
    assert {"id", "prompt"} < set(found.column_names)


def test_cells_names_and_folders(tmp_path, small_batches):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "a.csv", [{"q": f"p{i}", "answer": i} for i in range(7)])
    write(folder / "b.jsonl", [{"q": f"p{i}", "answer": f"r{i}"} for i in range(7)])
    columns = {"prompt": "q", "response": "answer"}
    found = pa.concat_tables(stream_responses(folder, columns=columns))
    table = pl.data.load_responses(folder, columns=columns)
    assert found.column("id").to_pylist() == table["id"][:]
    assert found.column("response").to_pylist() == table["response"][:]


def test_memory_is_that_of_a_batch(tmp_path, small_batches):
    """The second batch is read when the first has been taken."""
    source = tmp_path / "a.jsonl"
    write(source, PLAIN)
    stream = stream_responses(source)
    first = next(stream)
    assert len(first) == 5
    del stream


def test_bad_rows_are_named_with_their_numbers(tmp_path, small_batches):
    rows = [*PLAIN[:7], {"prompt": "p", "response": 3}, *PLAIN[7:9], {"prompt": "p"}, *PLAIN]
    source = write(tmp_path / "a.jsonl", rows)
    stream = stream_responses(source)
    next(stream)
    with pytest.raises(DataError, match="not read yet") as raised:
        next(stream)
    assert [problem.row for problem in raised.value.problems] == [8]
    source.write_text('{"prompt": "p", "response": "r"}\nnot json\n')
    with pytest.raises(DataError) as raised:
        list(stream_responses(source))
    assert [problem.row for problem in raised.value.problems] == [2]
    with pytest.raises(DataError, match="found only the columns"):
        list(stream_responses(write(tmp_path / "b.jsonl", [{"prompt": "p"}])))
    (tmp_path / "c.jsonl").write_text("")
    with pytest.raises(DataError, match="no rows"):
        list(stream_responses(tmp_path / "c.jsonl"))
