"""`load_responses`: what nobody has judged yet, and the other shapes as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pluralign.data import (
    detect_shape,
    load_comparisons,
    load_pairs,
    load_ratings,
    load_responses,
    read_table,
    summarise,
)
from pluralign.errors import DataError

USER = [{"role": "user", "content": "p"}]


def test_plain_rows_need_nothing_but_a_response() -> None:
    table = load_responses([{"prompt": "p", "response": "a", "model": "m"}, {"prompt": "p", "response": "b"}])
    assert table.column_names == ["id", "prompt", "response", "subset", "group", "model"]
    assert table["prompt"][:] == [USER, USER]
    assert table["id"][:] == ["rows:1", "rows:2"]
    assert len(set(table["group"])) == 1
    alone = load_responses([{"response": "a"}, {"response": "b"}])
    assert alone["prompt"][:] == [[], []]
    assert len(set(alone["group"])) == 2


def test_trl_prompt_and_completion_as_text_and_as_messages() -> None:
    text = load_responses([{"prompt": "p", "completion": "a"}])
    said = load_responses([{"prompt": USER, "completion": [{"role": "assistant", "content": "a"}]}])
    for table in (text, said):
        assert (table["prompt"][0], table["response"][0]) == (USER, "a")


def test_the_three_shapes_come_back_as_their_own_loaders_read_them() -> None:
    ratings = [{"prompt": "p", "response": "a", "attribute": "x", "ratings": [1, 2], "scale": [1, 5]}]
    label = [{"prompt": "p", "completion": "a", "label": True}]
    pairs = [{"prompt": "p", "chosen": "a", "rejected": "b"}]
    votes = [{"prompt": "p", "response_a": "a", "response_b": "b", "votes": [1]}]
    for rows, load in (
        (ratings, load_ratings),
        (label, load_ratings),
        (pairs, load_pairs),
        (votes, load_comparisons),
    ):
        assert load_responses(rows).to_list() == load(rows).to_list()


def test_a_file_of_bad_rows_is_not_an_unknown_shape(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes('{"response": "é"}\n'.encode("latin-1"))
    for read in (detect_shape, load_responses):
        with pytest.raises(DataError, match="not UTF-8"):
            read(file)


def test_rated_rows_without_their_ratings_are_still_ratings() -> None:
    rows = [{"prompt": "p", "response": "a", "attribute": "x", "scale": [1, 5]}]
    assert detect_shape(rows) == "ratings"
    assert load_responses(rows)["response"][:] == ["a"]


def test_ratings_without_a_scale_are_plain_responses() -> None:
    table = load_responses([{"prompt": "p", "response": "a", "rating": 3}])
    assert "scale" not in table.column_names
    assert table["rating"][:] == [3]


def test_names_are_mapped_and_the_shape_is_found_through_them() -> None:
    rows = [{"question": "p", "answer": "a"}]
    mapping = {"prompt": "question", "response": "answer"}
    assert detect_shape(rows, columns=mapping) == "responses"
    assert load_responses(rows, columns=mapping)["response"][:] == ["a"]


def test_empty_responses_are_kept_and_counted() -> None:
    _, report = read_table([{"prompt": "p", "response": ""}], "responses")
    assert report.notes == {"empty response": 1}


def test_problems_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({"prompt": "p", "response": 3}) + "\n" + json.dumps({"text": "a"}) + "\n")
    with pytest.raises(DataError, match="row 1, column 'response'") as caught:
        load_responses(file)
    assert len(caught.value.problems) == 2
    with pytest.raises(DataError, match="column 'response'"):
        load_responses([{"text": "a"}])


def test_summary_of_responses() -> None:
    summary = summarise([{"prompt": "p", "response": "a"}, {"prompt": "p", "response": "a"}])
    assert (summary.shape, summary.rows, summary.distinct_texts, summary.groups) == ("responses", 2, 1, 1)
    assert summary.length is None
