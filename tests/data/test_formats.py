"""Files that are damaged as files: each must be named with its place, and nothing read past the damage."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pluralign.data import gzip_files, load_ratings, read_table
from pluralign.data.formats import read_file
from pluralign.errors import DataError

ROW: dict[str, Any] = {
    "prompt": "Hi",
    "response": "Hello",
    "attribute": "help",
    "ratings": [3],
    "scale": [1, 5],
}


def jsonl(num_rows: int) -> bytes:
    return b"".join(
        json.dumps({**ROW, "id": str(i), "response": "x" * i}).encode() + b"\n"
        for i in range(1, num_rows + 1)
    )


def fails(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        load_ratings(path)
    assert caught.value.problems
    return caught.value


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.csv", "r.parquet"])
def test_an_empty_file_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    assert name in str(fails(path))


def test_a_file_with_a_header_only_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("prompt,response,attribute,ratings,scale\n")
    assert "no rows" in str(fails(path))


def test_an_empty_gzip_member_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(b""))
    assert "no rows" in str(fails(path))


def test_a_cut_off_gzip_file_says_how_many_rows_were_readable(tmp_path: Path) -> None:
    whole = gzip.compress(jsonl(2000))
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    problem = fails(path).problems[-1]
    readable = int(str(problem).split("after ")[1].split(" readable")[0])
    assert 0 < readable < 2000


def test_a_flipped_byte_in_gzip_data_is_noticed(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(jsonl(2000)))
    damaged[-6] ^= 0xFF  # the checksum at the end
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(bytes(damaged))
    assert "damaged gzip data after 2000 readable rows" in str(fails(path))


def test_text_called_gz_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(jsonl(3))
    assert "that is not gzip" in str(fails(path))


def test_gzip_is_recognised_without_its_ending(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(gzip.compress(jsonl(3)))
    assert len(load_ratings(path)) == 3


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_latin_1_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    header = "prompt,response,attribute,ratings,scale\n"
    texts = {
        "r.jsonl": jsonl(2).decode() + json.dumps(ROW).replace("Hello", "Grüße"),
        "r.csv": header + 'Hi,a,help,3,"[1, 5]"\nHi,Grüße,help,3,"[1, 5]"\n',
    }
    path = tmp_path / name
    path.write_bytes(texts[name].encode("latin-1"))
    (problem,) = fails(path).problems
    assert problem.row == 3
    assert "not UTF-8" in problem


def test_utf_16_is_an_error_and_a_utf_8_mark_is_not(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(jsonl(2).decode().encode("utf-16"))
    assert "UTF-16" in str(fails(path))
    path.write_bytes(b"\xef\xbb\xbf" + jsonl(2))
    assert len(load_ratings(path)) == 2


@pytest.mark.parametrize(
    ("line", "found"),
    [(b"{broken", "{broken"), (b"[1, 2]", "list"), (b"7", "int"), (b'"text"', "str"), (b"null", "None")],
)
def test_a_line_that_is_not_a_json_object_is_named(tmp_path: Path, line: bytes, found: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(jsonl(2) + b"\n" + line + b"\n")
    (problem,) = fails(path).problems
    assert problem.row == 4  # blank lines count as lines
    assert found in problem


@pytest.mark.parametrize(
    ("text", "row", "found"),
    [
        ("Hi,a,help,3\n", 2, "4 cells"),
        ('Hi,a,help,3,"[1, 5]",more\n', 2, "6 cells"),
        ('Hi,"a\nb",help,3,"[1, 5]"\nHi,c,help\n', 4, "3 cells"),
        ('Hi,"never closed,help,3\n', 2, "broken CSV"),
    ],
)
def test_broken_csv_rows_are_named_with_the_line_they_start_on(
    tmp_path: Path, text: str, row: int, found: str
) -> None:
    path = tmp_path / "r.csv"
    path.write_text("prompt,response,attribute,ratings,scale\n" + text)
    (problem,) = fails(path).problems
    assert (problem.row, found in problem) == (row, True)


def test_a_csv_column_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("prompt,response,response\nHi,a,b\n")
    assert "['response'] more than once" in str(fails(path))


def test_csv_cells_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(f'prompt,response,attribute,ratings,scale\nHi,{"x" * 200_000},help,3,"[1, 5]"\n')
    assert len(load_ratings(path)[0]["response"]) == 200_000


def test_damaged_parquet_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    path.write_bytes(b"PAR1 and then nothing of use PAR1")
    assert "damaged Parquet file, or not Parquet" in str(fails(path))


@pytest.mark.parametrize("name", ["r.txt", "r.xlsx", "no-ending"])
def test_an_unknown_ending_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(jsonl(1))
    assert ".parquet" in str(fails(path))


@pytest.mark.parametrize(
    "make", [lambda p: p.mkdir(), lambda p: (p.mkdir(), (p / "README.md").write_text("x"))]
)
def test_a_folder_without_data_is_an_error(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "folder")
    with pytest.raises(DataError, match="no data files"):
        load_ratings(tmp_path / "folder")


@pytest.mark.parametrize(("name", "mark"), [("r.csv", ";"), ("r.csv", "\t"), ("r.tsv", "\t"), ("r.csv", ",")])
def test_cells_may_be_separated_by_semicolons_or_tabs(tmp_path: Path, name: str, mark: str) -> None:
    path = tmp_path / name
    lines = [["prompt", "response", "rating"], ["q", '"a; b, c\td"', "3"], ["q", "e", "4"]]
    path.write_text("".join(mark.join(line) + "\n" for line in lines))
    rows, report = read_table(path, "ratings", scale=(1, 5), attribute="h")
    assert list(zip(rows["response"], rows["ratings"], strict=True)) == [("a; b, c\td", [3.0]), ("e", [4.0])]
    assert report.read_as == (() if mark == "," else (f"cells separated by {mark!r}",))


@pytest.mark.parametrize(("mark", "other"), [(";", ","), ("\t", ","), ("\t", ";"), (",", ";")])
def test_names_of_columns_may_hold_another_mark(tmp_path: Path, mark: str, other: str) -> None:
    path = tmp_path / "r.csv"
    name = f"clear{other} polite"
    path.write_text(f"prompt{mark}response{mark}rating{mark}{name}\nq{mark}a{mark}3{mark}4\n")
    rows, _ = read_table(path, "ratings", scale=(1, 5), attribute="h")
    assert (rows["ratings"][:], rows[name][:]) == ([[3.0]], [4])


@pytest.mark.parametrize("name", ["r.jsonl.gz", "r.csv.gz", "r.json.gz", "r.parquet.gz"])
@pytest.mark.parametrize("filling", [b"0", b"\n", b'{"a": 1}\n', b" "])
def test_gzip_that_unpacks_to_more_than_a_table_can_be(
    tmp_path: Path, name: str, filling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzip_files, "ALWAYS_ALLOWED", 1_000_000)
    path = tmp_path / name
    bomb = gzip.compress(filling * (4_000_000 // len(filling)))
    path.write_bytes(bomb)
    message = str(fails(path))
    allowed = max(1_000_000, gzip_files.MOST_RATIO * len(bomb))
    assert f"{len(bomb):,} bytes of gzip that unpack to more than {allowed:,}" in message
    assert "gunzip" in message


def test_small_files_may_unpack_to_anything(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    rows = b'{"a": 1}\n' * 100_000
    packed = gzip.compress(rows)
    assert len(rows) > gzip_files.MOST_RATIO * len(packed)
    path.write_bytes(packed)
    assert sum(1 for _ in read_file(path, "r")) == 100_000
