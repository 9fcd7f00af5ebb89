"""JSON files as json.dump, pandas, jq and people write them."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pluralign.data import json_files, load_ratings, read_table
from pluralign.data.problems import BadRow
from pluralign.errors import DataError

ROWS = [{"prompt": f"q{i}", "response": f"a{i} ü 🙂, [1]", "rating": 1 + i % 5} for i in range(7)]
LISTS = {
    "indented": json.dumps(ROWS, indent=2, ensure_ascii=False),
    "one line": json.dumps(ROWS, ensure_ascii=False),
    "a row per line": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
    "blanks before it": "\ufeff\n\n  " + json.dumps(ROWS) + "\n\n",
    "Windows": json.dumps(ROWS, indent=1).replace("\n", "\r\n"),
}
OBJECTS = {
    "indented objects": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "indented objects with commas": ",\n".join(json.dumps(row, indent=2) for row in ROWS),
}


def load(path: Path, **options: Any) -> Any:
    return read_table(path, "ratings", scale=(1, 5), attribute="h", **options)


@pytest.mark.parametrize("name", [*LISTS, *OBJECTS])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("window", [7, 1 << 20])
def test_lists_and_indented_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, packed: bool, window: int
) -> None:
    monkeypatch.setattr(json_files, "_WINDOW", window)
    path = tmp_path / ("a.json.gz" if packed else "a.json")
    data = (LISTS | OBJECTS)[name].encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    if window == 7 and name in OBJECTS:
        return  # the first line is longer than this window
    rows, report = load(path)
    assert list(zip(rows["response"], rows["ratings"], strict=True)) == [
        (row["response"], [float(row["rating"])]) for row in ROWS
    ]
    assert report.read_as == ("a JSON list" if name in LISTS else "JSON objects over several lines",)
    assert rows["id"][2] == f"{path.name}:3"


def test_a_file_of_lines_is_not_a_list(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert load(path)[1].read_as == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps(ROWS)[:-1], "no end of the list after 7 readable rows"),
        (json.dumps(ROWS)[:-9], "after 6 readable rows"),
        (json.dumps(ROWS) + "\n" + json.dumps(ROWS), "after the end of the list after 7 readable rows"),
        (json.dumps(ROWS)[:-1] + ", nonsense]", "'nonsense]'"),
        ("[]", "no rows"),
        ('{\n"prompt": "q",\n', "Expecting property name"),
    ],
)
def test_a_broken_list_stops_with_one_problem(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load(path, on_bad_row="quarantine", quarantine_path=tmp_path / "q" / "aside")
    assert len(caught.value.problems) == 1
    assert found in str(caught.value)


def test_latin_1_in_a_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(ROWS, ensure_ascii=False).encode("latin-1", "replace"))
    with pytest.raises(DataError, match="byte 0xfc at position .* not UTF-8"):
        load(path)


def test_what_is_not_an_object_in_a_list_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([*ROWS[:2], 3, "text", *ROWS[2:]]))
    rows, report = load(path, on_bad_row="quarantine", quarantine_path=tmp_path / "q" / "aside")
    assert (len(rows), report.rows_quarantined) == (7, 2)
    assert [problem.row for problem in report.problems] == [3, 4]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"prompt": "q", "response": "a", "response": "b", "rating": 1}', "'response' twice"),
        (
            '{"prompt": [{"role": "user", "content": "a", "content": "b"}], "response": "c", "rating": 1}',
            "twice",
        ),
        ('{"prompt": "q", "response": "a", "rating": 1, "meta": {"x": 1, "x": 2}}', None),
    ],
)
def test_a_key_twice_is_reported_where_it_matters(tmp_path: Path, line: str, told: str | None) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n")
    if told is None:
        assert len(load(path)[0]) == 1
    else:
        with pytest.raises(DataError, match=told):
            load(path)


def test_a_long_list_is_read_through_a_small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is held than a few rows, whatever the file's length."""
    monkeypatch.setattr(json_files, "_WINDOW", 100)
    row = {"text": "x" * 30}
    stream = io.BytesIO(json.dumps([row] * 500).encode())
    places = []
    for _, found in json_files.read_json(stream, "a", lambda _: None):
        assert not isinstance(found, BadRow)
        places.append(stream.tell())
    assert len(places) == 500
    assert all(place <= 50 * number + 400 for number, place in enumerate(places, start=1))


def test_lists_load_as_ratings(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(LISTS["indented"])
    assert len(load_ratings(path, scale=(1, 5), attribute="h")) == 7
