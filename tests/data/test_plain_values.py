"""Cells of files and tables as plain Python: which texts are numbers, and decimal numbers of databases."""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pluralign.data import load_comparisons, load_ratings, read_table, stream_responses
from pluralign.data.plain_values import number_in, plain, value_in
from pluralign.errors import DataError


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3.0), (" 3. ", 3.0), (".5", 0.5), ("+1e3", 1000.0), ("-2.5E-1", -0.25), ("inf", float("inf"))],
)
def test_numbers(text: str, number: float) -> None:
    assert number_in(text) == number


@pytest.mark.parametrize("text", ["1_0", "\uff13", "\u0663", "3,5", "0x10", "", ".", "1e", "three", "1 0"])
def test_what_is_not_a_number_stays_text(text: str) -> None:
    assert number_in(text) is None
    assert value_in(text) == text


def test_values_of_cells() -> None:
    assert [value_in(cell) for cell in ("[1, 2.5]", "True", "NULL", "05", "x")] == [
        [1, 2.5],
        True,
        None,
        5.0,
        "x",
    ]


def test_plain_at_any_depth() -> None:
    given: Any = {"a": (decimal.Decimal("1.5"), np.float32(2), np.arange(2))}
    assert plain(given) == {"a": [1.5, 2.0, [0, 1]]}


@pytest.mark.parametrize("rating", ["1_0", "\uff13", "3,5"])
def test_a_rating_in_another_spelling_is_reported(tmp_path: Path, rating: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'prompt,response,rating\nq,a,"{rating}"\n', encoding="utf-8")
    with pytest.raises(DataError, match=f"row 2, column 'ratings': found str '{rating}'"):
        load_ratings(path, scale=(0, 20), attribute="h")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_decimal_commas_where_commas_separate_nothing(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "a.csv"
    lines = [["prompt", "response", "rating", "tone", "note"], ["7/2?", "3,5", "3,5", "1", "1,5 or 2"]]
    lines += [["q", "4", "4", "0,125", "x"], ["q", "5", "-2,25", "", "x"]]
    path.write_text("".join(mark.join(line) + "\n" for line in lines), encoding="utf-8")
    table, report = read_table(path, "ratings", scale=(-5, 5), attribute="h")
    assert table["ratings"][:] == [[3.5], [4.0], [-2.25]]
    assert table["response"][:] == ["3,5", "4", "5"]  # a text stays as it is
    assert table["tone"][:] == [1.0, 0.125, None]
    assert table["note"][:] == ["1,5 or 2", "x", "x"]
    assert report.read_as == (f"cells separated by {mark!r}", "numbers with decimal commas (rating, tone)")
    assert [row for part in stream_responses(path) for row in part["response"].to_pylist()] == [
        "3,5",
        "4",
        "5",
    ]


@pytest.mark.parametrize("rating", ["1,000", "1,5,5", ",5", "1,"])
def test_what_may_be_no_decimal_comma_is_reported(tmp_path: Path, rating: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"prompt;response;rating\nq;a;{rating}\nq;b;2,5\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"row 2, column 'ratings': found str '{rating}'"):
        load_ratings(path, scale=(0, 2000), attribute="h")


@pytest.mark.parametrize("kind", ["parquet", "dataset", "rows"])
def test_decimal_numbers_are_numbers(tmp_path: Path, kind: str) -> None:
    ratings = [[decimal.Decimal("1.5"), decimal.Decimal("2")], [decimal.Decimal("0.1")]]
    table = pa.table(
        {
            "prompt": ["a", "b"],
            "response": ["x", "y"],
            "ratings": pa.array(ratings, pa.list_(pa.decimal128(10, 2))),
            "scale": pa.array([[decimal.Decimal(0), decimal.Decimal(5)]] * 2, pa.list_(pa.decimal128(10, 2))),
            "price": pa.array([decimal.Decimal("9.99")] * 2),
        }
    )
    source: Any = tmp_path / "a.parquet"
    if kind == "parquet":
        pq.write_table(table, source)
    else:
        source = datasets.Dataset(table) if kind == "dataset" else table.to_pylist()
    loaded = load_ratings(source, attribute="h")
    assert loaded["ratings"][:] == [[1.5, 2.0], [0.1]]
    assert loaded["price"][:] == [9.99, 9.99]


def test_decimal_votes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    votes = pa.array([decimal.Decimal(1), decimal.Decimal(-1)])
    pq.write_table(
        pa.table({"prompt": ["p"] * 2, "response_a": ["x"] * 2, "response_b": ["y"] * 2, "votes": votes}),
        path,
    )
    assert load_comparisons(path)["votes"][:] == [[1], [-1]]
