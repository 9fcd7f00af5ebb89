"""Messages about files that fit no shape: they name the columns of the file and what would read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pluralign.cli.argument_words import as_flags
from pluralign.data import detect_shape, load_comparisons, load_ratings
from pluralign.data.guesses import advice_on_columns
from pluralign.errors import ArgumentError, DataError

FLAGS = ("columns", "scale", "attribute", "attribute_columns", "rater_columns")


@pytest.mark.parametrize(
    ("columns", "advice"),
    [
        (
            ["question", "answer", "score"],
            "--columns.prompt question --columns.response answer --columns.ratings score, --attribute NAME, "
            "--scale [LOWEST,HIGHEST]",
        ),
        (["Prompt", "Response", "Ann"], "--columns.prompt Prompt --columns.response Response"),
        (
            ["Winner Response", "loser_response"],
            "--columns.chosen 'Winner Response' --columns.rejected loser_response",
        ),
        (
            ["instruction", "output_1", "output_2", "preference"],
            "--columns.prompt instruction --columns.response_a output_1 --columns.response_b output_2 "
            "--columns.votes preference",
        ),
    ],
)
def test_other_names_are_recognised(columns: list[str], advice: str) -> None:
    with pytest.raises(DataError, match="no shape fits the columns") as caught:
        detect_shape([dict.fromkeys(columns, "x"), dict.fromkeys(columns, "y")])
    assert as_flags(str(caught.value), FLAGS).endswith(f" with {advice}")


def test_nothing_is_advised_where_nothing_is_known() -> None:
    assert advice_on_columns({"why?", "because", "3"}) == ""
    assert advice_on_columns({"prompt", "topic"}) == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"data": [{"prompt": "p", "response": "r"}]}, "write the list under 'data' alone"),
        ({"question": {"0": "p"}, "answer": {"0": "r"}}, "orient='records', lines=True"),
    ],
)
def test_one_object_is_no_table(tmp_path: Path, content: Any, words: str) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="found one JSON object with the keys") as caught:
        detect_shape(file)
    assert words in str(caught.value)


def test_a_broken_line_is_told_before_its_columns_are_missed(tmp_path: Path) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text('{"prompt": "a", "response": "b"\n{"x": 1}\n')
    with pytest.raises(DataError, match=r"row 1: found .*Expecting ',' delimiter"):
        detect_shape(file)


def test_misspelt_mappings() -> None:
    rows = [{"question": "q", "answer": "a", "score": 3}]
    with pytest.raises(
        DataError, match=r"no column 'anwser' \(did you mean 'answer'\?\); allowed: a column of"
    ):
        detect_shape(rows, columns={"prompt": "question", "response": "anwser"})
    with pytest.raises(ArgumentError, match=r"the key 'promt' \(did you mean 'prompt'\?\); allowed: "):
        detect_shape(rows, columns={"promt": "question"})
    with pytest.raises(DataError, match=r"no column 'Answer' \(did you mean 'answer'\?\)"):
        load_ratings([{**rows[0], "response": "r"}], columns={"response": "Answer"})


def test_missing_columns_are_those_of_the_file() -> None:
    rows = [{"Prompt": "p", "Response": "r", "rating": 2, "annotator": "ann"}]
    with pytest.raises(DataError) as caught:
        load_ratings(rows, attribute="a", scale=(1, 5))
    message = as_flags(str(caught.value), FLAGS)
    assert "found only the columns ['Prompt', 'Response', 'annotator', 'rating']" in message
    assert "--columns.prompt Prompt" in message
    assert "--columns.response Response" in message


def test_a_missing_column_may_be_there_under_another_name() -> None:
    rows = [{"prompt": "p", "response_a": "a", "response_b": "b", "preference": "first"}]
    with pytest.raises(DataError) as caught:
        load_comparisons(rows)
    assert "or --columns.votes preference" in as_flags(str(caught.value), FLAGS)
    rows += [{**rows[0], "preference": word, "prompt": word} for word in ("Second", "same")]
    assert load_comparisons(rows, columns={"votes": "preference"})["votes"] == [[1], [-1], [0]]


def test_one_vote_needs_no_list() -> None:
    rows = [{"prompt": str(i), "response_a": "a", "response_b": "b", "vote": v} for i, v in enumerate("AB")]
    assert load_comparisons(rows)["votes"] == [[1], [-1]]
    rows = [{**row, "votes": [0]} for row in rows]
    assert load_comparisons(rows)["votes"] == [[0], [0]]  # the column of that name, where there is one


def test_a_missing_scale_comes_with_what_the_ratings_say_of_it() -> None:
    rows = [{"prompt": "p", "response": f"r{i}", "rating": 1 + i % 7} for i in range(20)]
    with pytest.raises(DataError, match=r"'scale': found only the columns \[.*\], and ratings from 1 to 7;"):
        load_ratings(rows, attribute="a")
    for row in rows:
        row["rating"] = "good"
    with pytest.raises(DataError, match=r"'scale': found only the columns \[[^]]*\]; allowed"):
        load_ratings(rows, attribute="a")


def test_a_fault_names_the_column_of_the_file() -> None:
    names = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    rows = [{"prompt": "p", "response": f"r{i}", **dict.fromkeys(names, 1)} for i in range(3)]
    rows[1]["coherence"] = 7
    rows[2]["response"] = None
    with pytest.raises(DataError) as caught:
        load_ratings(rows)
    assert [(p.row, p.column, p.found) for p in caught.value.problems] == [
        (2, "ratings", "7 in 'coherence'"),
        (3, "response", "nothing"),  # once, although the row became five
    ]
    votes = [{"prompt": "p", "response_a": "a", "response_b": "b", "winner": "model_c"}]
    with pytest.raises(DataError, match="found str 'model_c' in 'winner'; allowed: .* or of A, tie, B"):
        load_comparisons(votes)
    comma = [{"prompt": "p", "response": "r", "score": "1,9"}]
    with pytest.raises(
        DataError, match="found str '1,9' in 'score'; allowed: a number.* decimals have a point"
    ):
        load_ratings(comma, columns={"ratings": "score"}, attribute="a", scale=(1, 5))
