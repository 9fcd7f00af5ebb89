"""Files as people have them: small ones with the columns of the real sets, read into the shapes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pluralign.data import detect_shape, load_comparisons, load_ratings, load_responses, read_table
from pluralign.errors import ArgumentError, DataError

HELPSTEER = {"helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 2, "verbosity": 1}
ONE_ASKED = [{"role": "user", "content": "Why?"}]


def said(text: str) -> list[dict[str, str]]:
    return [*ONE_ASKED, {"role": "assistant", "content": text}]


def arena(winner: Any, **more: Any) -> dict[str, Any]:
    return {
        "question_id": "q",
        "model_a": "x",
        "model_b": "y",
        "winner": winner,
        "conversation_a": said("A"),
        "conversation_b": said("B"),
        "turn": 1,
        **more,
    }


def csv_file(path: Path, rows: list[dict[str, Any]], mark: str = ",") -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=mark)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


# -- a column per attribute ------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["rows", "csv"])
def test_helpsteer(tmp_path: Path, form: str) -> None:
    source: Any = [{"prompt": "p", "response": f"r{i}", **HELPSTEER} for i in range(2)]
    source = source if form == "rows" else csv_file(tmp_path / "a.csv", source, ";")
    assert detect_shape(source) == "ratings"
    table, report = read_table(source, "ratings")
    found = {(r["response"], r["attribute"]): (r["ratings"], r["scale"]) for r in table}
    assert found == {(f"r{i}", a): ([v], [0, 4]) for i in range(2) for a, v in HELPSTEER.items()}
    assert report.read_as[-1] == f"a column per attribute ({', '.join(HELPSTEER)}) on the scale [0, 4]"
    assert len(set(table["id"])) == 2
    assert load_responses(source).num_rows == 2  # as responses to score they stay two


def test_another_scale_of_helpsteers_attributes_is_reported() -> None:
    rows = [{"prompt": "p", "response": "r", **HELPSTEER, "verbosity": 5}]
    expected = r"'ratings': found 5 in 'verbosity'; allowed: numbers on the scale \[0, 4\]"
    with pytest.raises(DataError, match=expected):
        load_ratings(rows)
    assert load_ratings(rows, scale=(1, 5))["scale"][:] == [[1, 5]] * 5


def test_attributes_of_ones_own() -> None:
    rows = [
        {"prompt": "p", "response": "a", "clarity": 3, "tone": [1, 2], "year": 2020},
        {"prompt": "p", "response": "b", "clarity": None, "tone": "[4, 5]", "year": 2021},
        {"prompt": "p", "response": "c", "clarity": None, "tone": None, "year": 2021},
    ]
    options: dict[str, Any] = {"attribute_columns": ["clarity", "tone"], "scale": (1, 5)}
    with pytest.raises(DataError, match=r"row 3, column 'ratings': found nothing"):
        load_ratings(rows, **options)
    table = load_ratings(rows[:2], **options)
    assert [(r["response"], r["attribute"], r["ratings"]) for r in table] == [
        ("a", "clarity", [3]),
        ("a", "tone", [1, 2]),
        ("b", "tone", [4, 5]),
    ]
    assert table["year"][:] == [2020, 2020, 2021]
    assert load_ratings(rows[:2], **options, where={"attribute": "clarity"}).num_rows == 1


# -- a column per rater, a row per rater -----------------------------------------------------------


def test_a_column_per_rater(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "response": "a", "ann": 3, "bob": "", "cem": 5},
        {"prompt": "p", "response": "b", "ann": 1, "bob": 2, "cem": 3},
    ]
    path = csv_file(tmp_path / "a.csv", rows)
    table, report = read_table(
        path, "ratings", rater_columns=["ann", "bob", "cem"], attribute="tone", scale=(1, 5)
    )
    assert table["ratings"][:] == [[3, 5], [1, 2, 3]]
    assert table["rater_ids"][:] == [["ann", "cem"], ["ann", "bob", "cem"]]
    assert report.read_as == ("a column per rater (ann, bob, cem)",)


@pytest.mark.parametrize("column", ["rater", "annotator_id", "rater_ids"])
def test_a_row_per_rater(column: str) -> None:
    rows = [
        {"prompt": "p" + " " * i, "response": "a", "rating": i, column: name}
        for i, name in enumerate(["ann", "bob", 7], start=1)
    ]
    rows += [{"prompt": "p", "response": "b", "rating": 4, column: "ann"}]
    rows = [{"prompt": r["prompt"].strip(), **{k: v for k, v in r.items() if k != "prompt"}} for r in rows]
    table, report = read_table(rows, "ratings", attribute="h", scale=(1, 5))
    assert [(r["response"], r["ratings"], r["rater_ids"]) for r in table] == [
        ("a", [1, 2, 3], ["ann", "bob", "7"]),
        ("b", [4], ["ann"]),
    ]
    assert report.read_as == (
        f"a row per rater, named by {column}",
        "4 rows with one rater each, for 2 texts",
    )
    assert (report.rows_read, report.rows_kept) == (4, 2)


def test_attributes_and_groups_are_not_merged() -> None:
    base = {"prompt": "p", "response": "a", "scale": [1, 5], "rating": 2}
    rows = [
        {**base, "attribute": attribute, "group": group, "rater": rater}
        for attribute, group in (("h", "g"), ("k", "g"), ("h", "other"))
        for rater in ("ann", "bob")
    ]
    assert load_ratings(rows)["ratings"][:] == [[2, 2]] * 3


def test_ids_of_rows_per_rater() -> None:
    base = {"prompt": "p", "attribute": "h", "scale": [1, 5], "rating": 2}
    rows = [{**base, "id": "x", "response": "a", "rater": rater} for rater in ("ann", "bob")]
    assert load_ratings(rows)["ratings"][:] == [[2, 2]]
    with pytest.raises(DataError, match="'x' again"):
        load_ratings([*rows, rows[0]])
    with pytest.raises(DataError, match="'x' for several texts"):
        load_ratings([*rows, {**rows[0], "response": "b", "rater": "cem"}])


def test_rows_without_named_raters_are_not_merged() -> None:
    """Nothing says that two such rows are two people."""
    base = {"prompt": "p", "response": "a", "attribute": "h", "scale": [1, 5]}
    for more in ({}, {"rater": None}, {"rater_ids": None}):
        assert len(load_ratings([{**base, "rating": r, **more} for r in (1, 2)])) == 2
    several = [{**base, "ratings": [r, r], "rater_ids": ["x", "y"], "rater": "team"} for r in (1, 2)]
    assert load_ratings(several)["rater_ids"][:] == [["x", "y"]] * 2


# -- winners and votes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("winner", "vote"),
    [
        ("model_a", 1),
        ("model_b", -1),
        ("tie", 0),
        ("tie (bothbad)", 0),
        ("both_bad", 0),
        ("A", 1),
        (" b", -1),
    ],
)
def test_arena(winner: str, vote: int) -> None:
    rows = [arena(winner)]
    assert detect_shape(rows) == "comparisons"
    table, report = read_table(rows, "comparisons")
    assert table["prompt"][0] == ONE_ASKED
    assert (table["response_a"][0], table["response_b"][0], table["votes"][0]) == ("A", "B", [vote])
    assert table["winner"][:] == [winner]
    assert report.read_as == (
        "conversation_a and conversation_b, whose common turns are the prompt",
        "winner as the vote",
    )


def test_judges_of_one_arena_question_are_merged() -> None:
    rows = [arena("model_a", judge="j1"), arena("tie", judge="j2"), arena("model_b", judge="j1", turn=2)]
    table = load_comparisons(rows)
    assert (table["votes"][:], table["rater_ids"][:]) == ([[1, 0, -1]], [["j1", "j2", "j1"]])


def test_what_is_not_a_winner_is_reported() -> None:
    with pytest.raises(DataError, match="row 1, column 'votes': found str 'model_c'"):
        load_comparisons([arena("model_c")])


def test_the_arena_of_kaggle(tmp_path: Path) -> None:
    """JSON lists with one text per turn, and three columns for the winner."""
    rows = [
        {
            "id": i,
            "prompt": json.dumps(["Why?", "And?"][:turns]),
            "response_a": json.dumps(["Same.", f"A{i}"][-turns:]),
            "response_b": json.dumps(["Same.", f"B{i}"][-turns:]),
            "winner_model_a": int(i == 0),
            "winner_model_b": int(i == 1),
            "winner_tie": int(i == 2),
        }
        for i, turns in enumerate((1, 1, 2))
    ]
    table, report = read_table(csv_file(tmp_path / "a.csv", rows), "comparisons")
    assert table["votes"][:] == [[1], [-1], [0]]
    assert table["response_a"][:] == ["A0", "A1", "A2"]
    assert [[m["content"] for m in prompt] for prompt in table["prompt"]] == [
        ["Why?"],
        ["Why?"],
        ["Why?", "Same.", "And?"],
    ]
    assert report.read_as == ("winner_model_a, winner_model_b and winner_tie as the vote",)
    rows[1]["winner_tie"] = 1
    with pytest.raises(DataError, match="row 3, column 'votes'"):
        load_comparisons(csv_file(tmp_path / "b.csv", rows))


@pytest.mark.parametrize("votes", [["A", "tie", "B"], '["A", "tie", "b"]', [1, 0, -1], "[1, 0, -1]"])
def test_votes_in_words_or_as_text(votes: Any) -> None:
    rows = [{"prompt": "p", "response_a": "x", "response_b": "y", "votes": votes}]
    table, report = read_table(rows, "comparisons")
    assert table["votes"][:] == [[1, 0, -1]]
    assert report.read_as == (("votes in words (A, B, tie)",) if "tie" in votes else ())


def test_ratings_as_json_text() -> None:
    rows = [{"prompt": "p", "response": "x", "ratings": "[1, 2]"}]
    assert load_ratings(rows, scale=(1, 5), attribute="h")["ratings"][:] == [[1, 2]]


# -- arguments -------------------------------------------------------------------------------------


def test_columns_that_are_not_there() -> None:
    rows = [{"prompt": "p", "response": "x", "tone": 1}]
    with pytest.raises(
        DataError, match="no column 'tune'; allowed: for attribute_columns= and rater_columns="
    ):
        load_ratings(rows, attribute_columns=["tune"], scale=(1, 5))


@pytest.mark.parametrize(
    ("shape", "options", "told"),
    [
        ("ratings", {"attribute_columns": "tone"}, "received 'tone'; allowed: a list"),
        ("ratings", {"rater_columns": []}, r"received \[\]; allowed: a list"),
        ("ratings", {"attribute_columns": ["a"], "rater_columns": ["b"]}, "allowed: one of them"),
        ("pairs", {"rater_columns": ["a"]}, "for pairs; allowed for ratings only"),
    ],
)
def test_illegal_layouts(shape: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        read_table([{"prompt": "p", "response": "x"}], shape, **options)


# -- a conversation per row ------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["rows", "csv", "jsonl"])
def test_messages_end_in_the_response(tmp_path: Path, form: str) -> None:
    rows: Any = [{"messages": said(f"r{i}"), "tone": 0.5, "code": 0.25 if i else None} for i in range(2)]
    source = rows
    if form == "csv":
        cells = [{k: json.dumps(v) if v is not None else "" for k, v in row.items()} for row in rows]
        source = csv_file(tmp_path / "a.csv", cells)
    if form == "jsonl":
        source = tmp_path / "a.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table, report = read_table(source, "ratings", attribute_columns=["tone", "code"], scale=(0, 1))
    assert [(r["response"], r["attribute"], r["ratings"]) for r in table] == [
        ("r0", "tone", [0.5]),
        ("r1", "tone", [0.5]),
        ("r1", "code", [0.25]),
    ]
    assert all(r["prompt"] == ONE_ASKED for r in table)
    assert len(set(table["group"])) == 1  # one prompt
    assert report.read_as[-2] == "messages, of which the last is the response"
    assert detect_shape(source) == "responses"
    assert [r["response"] for r in load_responses(source)] == ["r0", "r1"]
    assert detect_shape([{"messages": said("a"), "ratings": [1]}]) == "ratings"


@pytest.mark.parametrize(
    ("messages", "column", "found"),
    [
        ("Why? So.", "response", ""),  # a text is a response to no prompt
        (None, "response", "found nothing"),
        ([], "response", "empty"),
        (ONE_ASKED, "response", "found the roles ['user']"),
        ([{"role": "oracle", "content": "a"}, *said("b")], "prompt", "role 'oracle'"),
    ],
)
def test_messages_that_do_not_end_in_a_response(messages: Any, column: str, found: str) -> None:
    row = {"messages": messages, "rating": 1, "scale": [0, 1], "attribute": "a"}
    if isinstance(messages, str):
        (read,) = load_ratings([row])
        assert (read["prompt"], read["response"]) == ([], messages)
        return
    with pytest.raises(DataError) as raised:
        load_ratings([row])
    assert [problem.column for problem in raised.value.problems] == [column]
    assert found in str(raised.value)


def test_a_prompt_beside_messages_is_the_prompt() -> None:
    (row,) = load_ratings(
        [
            {
                "prompt": "p",
                "response": "r",
                "messages": said("x"),
                "rating": 1,
                "scale": [0, 1],
                "attribute": "a",
            }
        ]
    )
    assert (row["prompt"][0]["content"], row["response"]) == ("p", "r")
