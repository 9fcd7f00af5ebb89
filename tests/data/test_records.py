"""Every kind of bad row is reported with its file, row and column, all in one error."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from pluralign.data import load_comparisons, load_pairs, load_ratings, read_table
from pluralign.data.problems import Problem, raise_problems
from pluralign.errors import DataError

PROMPT = [{"role": "user", "content": "Hi"}]
GOOD: dict[str, dict[str, Any]] = {
    "ratings": {
        "prompt": PROMPT,
        "response": "Hello",
        "attribute": "help",
        "ratings": [3, 4],
        "scale": [1, 5],
    },
    "pairs": {"prompt": PROMPT, "chosen": "Hello", "rejected": "Go away"},
    "comparisons": {"prompt": PROMPT, "response_a": "Hello", "response_b": "Go away", "votes": [1, 0, -1]},
}
LOAD = {"ratings": load_ratings, "pairs": load_pairs, "comparisons": load_comparisons}
NAN, INF = float("nan"), float("inf")

BAD_CELLS = [
    ("ratings", "ratings", [9], "found 9; allowed: numbers on the scale [1, 5]"),
    ("ratings", "ratings", [0.5, 3], "found 0.5"),
    ("ratings", "ratings", [NAN], "found nan"),
    ("ratings", "ratings", [3, INF], "found inf"),
    ("ratings", "ratings", [10**400], "allowed: finite numbers"),
    ("ratings", "ratings", [], "an empty list"),
    ("ratings", "ratings", ["3"], "str '3'"),
    ("ratings", "ratings", [None], "NoneType"),
    ("ratings", "ratings", [True], "bool True"),
    ("ratings", "ratings", {"a": 3}, "dict"),
    ("ratings", "ratings", None, "nothing"),
    ("ratings", "scale", [5, 1], "lowest < highest"),
    ("ratings", "scale", [1, 1], "lowest < highest"),
    ("ratings", "scale", [1], "lowest < highest"),
    ("ratings", "scale", [1, INF], "inf"),
    ("ratings", "scale", "1-5", "'1-5'"),
    ("ratings", "scale", None, "nothing"),
    ("ratings", "attribute", 7, "int 7"),
    ("ratings", "attribute", "", "nothing"),
    ("ratings", "rater_ids", ["a"], "1 names for 2 ratings"),
    ("ratings", "rater_ids", ["a", None], "None"),
    ("ratings", "rater_ids", "a", "str 'a'"),
    ("ratings", "response", "", "an empty text"),
    ("ratings", "response", " \n", "an empty text"),
    ("ratings", "response", None, "nothing"),
    ("ratings", "response", 5, "int 5"),
    ("ratings", "response", "\ud800", "surrogate"),
    ("ratings", "response", [], "an empty list"),
    ("ratings", "response", [{"role": "user", "content": "x"}], "'user'"),
    ("ratings", "prompt", 5, "int 5"),
    ("ratings", "prompt", ["Hi"], "'Hi' as message 1"),
    ("ratings", "prompt", [{"role": "robot", "content": "x"}], "the role 'robot' in message 1"),
    ("ratings", "prompt", [{"speaker": "human", "text": "x"}], "the role None"),
    ("ratings", "prompt", [*PROMPT, {"role": "user"}], "the content None in message 2"),
    ("ratings", "prompt", [{"role": "user", "content": ""}], "no content in message 1"),
    ("ratings", "id", 1.5, "float 1.5"),
    ("ratings", "group", ["g"], "list"),
    ("ratings", "group", "\ud800", "surrogate"),
    ("ratings", "attribute", "\ud800", "surrogate"),
    ("ratings", "subset", True, "bool"),
    ("ratings", "system", 1.5, "float"),
    ("ratings", "true_mean", "high", "'high'"),
    ("ratings", "true_quantiles", [1, NAN], "nan"),
    ("pairs", "chosen", "", "an empty text"),
    ("pairs", "rejected", None, "nothing"),
    ("pairs", "rejected", 3, "int 3"),
    ("comparisons", "votes", [2], "int 2"),
    ("comparisons", "votes", [0.5], "float 0.5"),
    ("comparisons", "votes", ["x"], "str 'x'"),  # "a" is a vote
    ("comparisons", "votes", [True], "bool True"),
    ("comparisons", "votes", [], "an empty list"),
    ("comparisons", "votes", None, "nothing"),
    ("comparisons", "rater_ids", ["x", "y"], "2 names for 3 votes"),
    ("comparisons", "response_a", None, "nothing"),
]


@pytest.mark.parametrize(("shape", "column", "value", "found"), BAD_CELLS)
def test_a_bad_cell_is_named(tmp_path: Path, shape: str, column: str, value: Any, found: str) -> None:
    path = tmp_path / "data.jsonl"
    rows = [GOOD[shape], {**GOOD[shape], column: value}, GOOD[shape]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        LOAD[shape](path)
    (problem,) = caught.value.problems
    assert (problem.file, problem.row, problem.column) == ("data.jsonl", 2, column)
    assert found in problem
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "column"),
    [
        (shape, column)
        for shape, row in GOOD.items()
        for column in row
        if (shape, column) != ("pairs", "prompt")
    ],
)
def test_a_missing_column_is_one_problem_of_the_file(shape: str, column: str) -> None:
    rows = [{name: value for name, value in GOOD[shape].items() if name != column}] * 3
    with pytest.raises(DataError) as caught:
        LOAD[shape](rows)
    (problem,) = caught.value.problems
    assert (problem.row, problem.column) == (None, column)


def test_identical_sides_of_a_pair_are_an_error() -> None:
    with pytest.raises(DataError, match="the same text on both sides"):
        load_pairs([{**GOOD["pairs"], "rejected": "Hello"}])


def test_comparisons_keep_what_raters_were_shown() -> None:
    rows = [{**GOOD["comparisons"], "response_b": "Hello"}, {**GOOD["comparisons"], "response_a": ""}]
    assert len(load_comparisons(rows)) == 2


def test_one_attribute_has_one_scale() -> None:
    rows = [
        GOOD["ratings"],
        {**GOOD["ratings"], "scale": [0, 10]},
        {**GOOD["ratings"], "attribute": "b", "scale": [0, 9]},
    ]
    with pytest.raises(DataError) as caught:
        load_ratings(rows)
    (problem,) = caught.value.problems
    assert (problem.row, problem.column) == (2, "scale")
    assert "[1.0, 5.0] (first in rows, row 1)" in problem


def test_an_id_may_repeat_per_attribute_and_subset_only() -> None:
    row = {**GOOD["ratings"], "id": "x"}
    assert len(load_ratings([row, {**row, "attribute": "b"}, {**row, "subset": "crowd"}])) == 3
    with pytest.raises(DataError) as caught:
        load_ratings([row, {**row, "attribute": "b"}, row])
    (problem,) = caught.value.problems
    assert (problem.row, problem.column) == (3, "id")
    assert "first in rows, row 1" in problem


def test_every_problem_of_every_row_is_collected_and_rows_with_the_same_one_share_a_line() -> None:
    bad = {
        **GOOD["ratings"],
        "response": "",
        "ratings": [9, NAN],
        "prompt": [{"role": "robot", "content": "x"}],
    }
    with pytest.raises(DataError) as caught:
        load_ratings([bad] * 10)
    error = caught.value
    assert len(error.problems) == 40
    assert str(error).count("\n  - ") == 4
    assert str(error).count("10 rows (1, 2, 3, 4, 5, ...), column ") == 4
    with pytest.raises(DataError) as caught:
        load_ratings([bad] * 2)
    assert str(caught.value).count("\n  - ") == 8  # two rows are not many
    assert {problem.row for problem in error.problems} == set(range(1, 11))


def test_the_first_20_kinds_of_problem_are_shown() -> None:
    alike = [Problem("f", row, "c", f"{row % 4}", "others") for row in range(1, 8)]
    with pytest.raises(DataError) as caught:
        raise_problems("f", [*alike, *(Problem("f", row, "c", "x", f"rule {row}") for row in range(8, 33))])
    lines = str(caught.value).splitlines()
    assert lines[0] == "f: 32 problems"
    assert lines[1] == "  - f, 7 rows (1, 2, 3, 4, 5, ...), column 'c': found 1, 2, 3, ...; allowed: others"
    assert lines[2] == "  - f, row 8, column 'c': found x; allowed: rule 8"
    assert lines[20].endswith("rule 26")
    assert lines[21].startswith("  ... and 6 more")
    assert len(caught.value.problems) == 32


def test_messages_repeat_at_most_60_characters_of_a_text() -> None:
    secret = "confidential " * 100
    with pytest.raises(DataError) as caught:
        load_ratings([{**GOOD["ratings"], "ratings": [secret]}])
    assert "confidential" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_problem_survives_pickling() -> None:
    with pytest.raises(DataError) as caught:
        load_ratings([{**GOOD["ratings"], "ratings": [9]}])
    (problem,) = caught.value.problems
    copy = pickle.loads(pickle.dumps(problem))
    assert (copy, copy.row, copy.column) == (problem, 1, "ratings")


def test_rows_that_are_not_dicts_are_errors() -> None:
    with pytest.raises(DataError, match="a dict per row"):
        load_ratings([GOOD["ratings"], "text"])


def test_system_prompts_in_the_column_of_systems_are_reported() -> None:
    rating = {"prompt": "Q", "response": "A", "attribute": "q", "ratings": [3], "scale": [1, 5]}
    prompt = "You are an AI assistant. Provide a detailed answer so that the user need not search outside."
    _, report = read_table([{**rating, "system": prompt}, {**rating, "system": "gpt-4 (0613)"}], "ratings")
    assert [(note[:15], count) for note, count in report.notes.items()] == [("column 'system'", 1)]
