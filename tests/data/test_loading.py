"""The loaders: every format gives the same table; mapping, filters, defaults, quarantine, hub."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from pluralign.data import detect_shape, load_comparisons, load_pairs, load_ratings, read_table
from pluralign.errors import ArgumentError, DataError

PROMPT = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": 'Hi, "you"\n…'}]
ROWS: dict[str, list[dict[str, Any]]] = {
    "ratings": [
        {
            "id": f"r{i}", "prompt": PROMPT if i else [], "response": f"{i}", "attribute": "help",
            "ratings": [1.0, 2.5 + i], "rater_ids": ["a", "b"] if i else None, "scale": [1.0, 5.0],
            "subset": "s", "group": f"g{i}", "split": "test", "true_mean": 2.5, "true_quantiles": [1.0, 2.0],
            "segment": 7 + i,
        }
        for i in range(3)
    ],
    "pairs": [
        {"id": "p", "prompt": PROMPT, "chosen": "007", "rejected": "[not json", "subset": "", "group": "g",
         "note": "x"},
    ],
    "comparisons": [
        {"id": "c", "prompt": PROMPT, "response_a": "a", "response_b": "b", "votes": [1, 0, -1],
         "rater_ids": ["1", "2", "3"], "subset": "", "group": "g", "gold": None},
        {"id": "d", "prompt": [], "response_a": "", "response_b": "b", "votes": [0], "rater_ids": None,
         "subset": "", "group": "g", "gold": 1},
    ],
}  # fmt: skip
LOAD = {"ratings": load_ratings, "pairs": load_pairs, "comparisons": load_comparisons}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix == ".jsonl":
        plain.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif plain.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(plain)
    else:
        with plain.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            for row in rows:
                cells = {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()}
                writer.writerow(cells)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return path


@pytest.mark.parametrize("shape", ["ratings", "pairs", "comparisons"])
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet", ".parquet.gz"])
def test_every_format_gives_the_rows_that_were_written(tmp_path: Path, shape: str, ending: str) -> None:
    path = write(tmp_path / f"data{ending}", ROWS[shape])
    assert LOAD[shape](path).to_list() == ROWS[shape]
    assert detect_shape(path) == shape


@pytest.mark.parametrize("shape", ["ratings", "pairs", "comparisons"])
def test_rows_in_memory_and_data_sets_load_like_files(shape: str) -> None:
    dataset = LOAD[shape](ROWS[shape])
    assert dataset.to_list() == ROWS[shape]
    again = LOAD[shape](dataset)
    assert again.to_list() == ROWS[shape]
    assert again.features == dataset.features


def test_arrays_and_tuples_in_memory_are_read_as_lists() -> None:
    import numpy as np

    row = {"prompt": "Hi", "response": "x", "attribute": "a", "scale": (1, 5), "e": np.float32(0.5)}
    found = load_ratings([{**row, "ratings": np.array([3, 4])}, {**row, "ratings": (np.int64(3), 4.0)}])
    assert found["ratings"][:] == [[3.0, 4.0], [3.0, 4.0]]
    assert found["e"][:] == [0.5, 0.5]


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROWS["ratings"][:1])
    write(tmp_path / "b.csv.gz", ROWS["ratings"][1:])
    (tmp_path / "LICENSE").write_text("x")
    dataset, report = read_table(tmp_path, "ratings")
    assert dataset.to_list() == ROWS["ratings"]
    assert report.files == ("a.jsonl", "b.csv.gz")


def test_an_id_twice_in_two_files_of_a_folder_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROWS["ratings"])
    write(tmp_path / "b.jsonl", ROWS["ratings"][:1])
    with pytest.raises(
        DataError, match=r"b.jsonl, row 1, column 'id': found 'r0' again \(first in a.jsonl, row 1\)"
    ):
        load_ratings(tmp_path)


def test_types_are_fixed_whatever_the_rows_hold() -> None:
    types = load_ratings(ROWS["ratings"][:1]).features
    assert types["rater_ids"] == datasets.List(datasets.Value("string"))
    assert types["ratings"] == datasets.List(datasets.Value("float64"))
    assert types["prompt"] == datasets.List(
        {"role": datasets.Value("string"), "content": datasets.Value("string")}
    )
    assert load_comparisons(ROWS["comparisons"]).features["votes"] == datasets.List(datasets.Value("int8"))


def test_what_is_missing_is_filled_as_documented(tmp_path: Path) -> None:
    bare = {"response": "Hello", "attribute": "a", "ratings": 3, "scale": [1, 5]}
    path = write(
        tmp_path / "d.jsonl", [{"prompt": "Hi", **bare}, {"prompt": "Hi", **bare}, {"prompt": "Yo", **bare}]
    )
    first, second, third = load_ratings(path)
    assert (first["id"], first["subset"], first["rater_ids"]) == ("d.jsonl:1", "", None)
    assert first["prompt"] == [{"role": "user", "content": "Hi"}]
    assert first["ratings"] == [3.0]
    assert first["group"] == second["group"] != third["group"]
    without = load_ratings([{"prompt": "", **bare}, {"prompt": None, **bare, "response": "Bye"}])
    assert [row["prompt"] for row in without] == [[], []]
    assert without[0]["group"] != without[1]["group"]


def test_columns_scale_and_attribute_come_from_the_call() -> None:
    rows = [{"question": "Hi", "answer": "Hello", "stars": 4}]
    names = {"prompt": "question", "response": "answer", "ratings": "stars"}
    (row,) = load_ratings(rows, columns=names, scale=(1, 5), attribute="quality")
    assert (row["response"], row["ratings"], row["scale"], row["attribute"]) == (
        "Hello",
        [4.0],
        [1.0, 5.0],
        "quality",
    )
    with pytest.raises(DataError) as caught:
        load_ratings(rows, columns={**names, "group": "topic"})
    assert [problem.column for problem in caught.value.problems] == ["attribute", "scale", "group"]


def test_a_prompt_may_be_declared_absent() -> None:
    rows = [{"response": "Hello", "attribute": "a", "ratings": [3], "scale": [1, 5]}]
    assert load_ratings(rows, columns={"prompt": None})[0]["prompt"] == []
    with pytest.raises(DataError, match="columns={'prompt': None}"):
        load_ratings(rows)


def test_a_scale_or_attribute_that_contradicts_the_file_is_an_error() -> None:
    for given, column in (({"scale": (0, 10)}, "scale"), ({"attribute": "other"}, "attribute")):
        with pytest.raises(DataError) as caught:
            load_ratings(ROWS["ratings"], **given)
        assert {problem.column for problem in caught.value.problems} == {column}
        assert len(caught.value.problems) == 3


def test_where_keeps_exact_matches_and_counts_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", ROWS["ratings"])
    dataset, report = read_table(path, "ratings", where={"segment": 8, "subset": "s"})
    assert dataset["id"][:] == ["r1"]
    assert (report.rows_read, report.rows_kept, report.rows_filtered) == (3, 1, 2)
    with pytest.raises(DataError, match="none of 3 rows is left"):
        load_ratings(path, where={"segment": 0})
    with pytest.raises(DataError, match="column 'topic': found no such column"):
        load_ratings(path, where={"topic": "x"})


def test_where_is_applied_before_rows_are_checked() -> None:
    rows = [*ROWS["ratings"], {**ROWS["ratings"][0], "subset": "broken", "ratings": []}]
    assert len(load_ratings(rows, where={"subset": "s"})) == 3


def test_quarantine_sets_bad_rows_aside_with_their_reasons(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    rows = [*ROWS["ratings"], {**ROWS["ratings"][0], "id": "bad", "ratings": [9], "response": ""}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{cut off")
    aside = tmp_path / "run" / "bad.jsonl"
    dataset, report = read_table(path, "ratings", on_bad_row="quarantine", quarantine_path=aside)
    assert dataset.to_list() == ROWS["ratings"]
    assert (report.rows_read, report.rows_kept, report.rows_quarantined) == (5, 3, 2)
    written = [json.loads(line) for line in aside.read_text().splitlines()]
    assert [(row["file"], row["row"]) for row in written] == [("d.jsonl", 4), ("d.jsonl", 5)]
    assert written[0]["data"]["id"] == "bad"
    assert len(written[0]["problems"]) == 2
    assert written[1]["data"] == "{cut off"
    assert len(report.problems) == 3


def test_quarantine_without_bad_rows_writes_nothing(tmp_path: Path) -> None:
    aside = tmp_path / "bad.jsonl"
    assert len(load_ratings(ROWS["ratings"], on_bad_row="quarantine", quarantine_path=aside)) == 3
    assert not aside.exists()


def test_quarantine_of_every_row_and_damage_to_the_file_still_stop(tmp_path: Path) -> None:
    aside = tmp_path / "aside" / "bad.jsonl"
    with pytest.raises(DataError, match="none of 1 rows is left"):
        load_pairs([{"chosen": "a", "rejected": "a"}], on_bad_row="quarantine", quarantine_path=aside)
    assert aside.exists()
    with pytest.raises(DataError, match="column 'rejected'"):
        load_pairs([{"chosen": "a"}], on_bad_row="quarantine", quarantine_path=aside)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_bad_row": "skip"}, "on_bad_row: received 'skip'; allowed: 'error', 'quarantine'"),
        ({"on_bad_row": "quarantine"}, "quarantine_path="),
        ({"columns": {"answer": "response"}}, "the key 'answer'; allowed for ratings"),
        ({"columns": {"response": None}}, "cannot be None"),
        ({"scale": (5, 1)}, "lowest < highest"),
        ({"scale": (1, float("nan"))}, "lowest < highest"),
        ({"split": "train"}, "apply only to a hub data set"),
    ],
)
def test_illegal_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        load_ratings(ROWS["ratings"], **arguments)
    assert message in str(caught.value)


def test_illegal_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="received int"):
        load_ratings(3)
    with pytest.raises(ArgumentError, match="received dict"):
        load_ratings({"a": [1]})
    with pytest.raises(DataError, match="no such file"):
        load_ratings(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="no such file"):
        load_ratings("data/absent.jsonl.gz")
    with pytest.raises(DataError, match="no rows"):
        load_ratings([])
    with pytest.raises(ArgumentError, match="is the source or inside it"):
        load_ratings(tmp_path, on_bad_row="quarantine", quarantine_path=tmp_path / "bad.jsonl")
    with pytest.raises(ArgumentError, match="shape: received 'votes'"):
        read_table(ROWS["ratings"], "votes")  # type: ignore[arg-type]


def test_the_wrong_loader_names_the_right_one() -> None:
    with pytest.raises(DataError, match="load_comparisons and --votes read this file"):
        load_pairs(ROWS["comparisons"])
    with pytest.raises(DataError, match="no shape fits"):
        detect_shape([{"prompt": "Hi", "topic": "x"}])


def test_hub_sets_are_loaded_by_name_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def load_dataset(name: str, config: str | None, split: str | None) -> Any:
        calls.append((name, config, split))
        table = datasets.Dataset.from_list(ROWS["ratings"])
        return table if split else datasets.DatasetDict({"train": table, "test": table})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(load_ratings("someone/ratings", split="test", config="main")) == 3
    assert calls == [("someone/ratings", "main", "test")]
    with pytest.raises(ArgumentError, match=r"one of \['test', 'train'\]"):
        load_ratings("someone/ratings")


def test_a_hub_set_that_cannot_be_reached_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, config: str | None, split: str | None) -> Any:
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match="someone/ratings: not a local file or folder, and not .* offline"):
        load_ratings("someone/ratings")


def test_a_dataset_dict_needs_a_split_unless_it_has_one() -> None:
    table = datasets.Dataset.from_list(ROWS["pairs"])
    assert len(load_pairs(datasets.DatasetDict({"train": table}))) == 1
    both = datasets.DatasetDict({"train": table, "test": table})
    assert len(load_pairs(both, split="test")) == 1
    with pytest.raises(ArgumentError, match="split: received 'dev'"):
        load_pairs(both, split="dev")


def test_trl_unpaired_labels_become_ratings(tmp_path: Path) -> None:
    said = [{"role": "assistant", "content": "Hello"}]
    rows = [{"prompt": "Hi", "completion": "Go", "label": False}]
    talk = [{"prompt": [{"role": "user", "content": "Hi"}], "completion": said, "label": True}]
    csv_path = tmp_path / "d.csv"
    csv_path.write_text("prompt,completion,label\nHi,Go,False\n")
    for source, response, rating in ((rows, "Go", 0.0), (talk, "Hello", 1.0), (csv_path, "Go", 0.0)):
        (row,) = load_ratings(source)
        assert (row["response"], row["ratings"]) == (response, [rating])
        assert (row["scale"], row["attribute"]) == ([0.0, 1.0], "label")
        assert detect_shape(source) == "ratings"


def test_a_mapped_column_that_replaces_another_is_noted() -> None:
    rows = [{**ROWS["pairs"][0], "answer": "better"}]
    dataset, report = read_table(rows, "pairs", columns={"chosen": "answer"})
    assert dataset[0]["chosen"] == "better"
    assert report.notes == {"column 'chosen' replaced by 'answer'": 1}


def test_a_misspelt_mapping_does_not_fall_back_on_the_canonical_column() -> None:
    rows = [
        {
            "prompt": "p",
            "response": "draft",
            "answer": "final",
            "attribute": "q",
            "rating": 3,
            "scale": [1, 5],
        }
    ]
    assert load_ratings(rows, columns={"response": "answer"})[0]["response"] == "final"
    with pytest.raises(DataError, match="no column 'anwser'"):
        load_ratings(rows, columns={"response": "anwser"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": 5}, "columns: received int"),
        ({"where": 5}, "where: received int"),
        ({"scale": 3}, "scale: received 3"),
        ({"scale": ("a", "b")}, "scale: received"),
        ({"scale": (1, float("nan"))}, "scale: received"),
        ({"source": ""}, "empty text"),
    ],
)
def test_arguments_of_the_wrong_kind(arguments, message) -> None:
    rows = [{"prompt": "p", "response": "r", "attribute": "q", "rating": 3}]
    with pytest.raises(ArgumentError, match=message):
        load_ratings(**{"source": rows, **arguments})
