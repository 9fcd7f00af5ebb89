"""Reading result files: what is there is checked, and damage is named with its place."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pluralign.errors import ArtifactError
from pluralign.report.evaluations import read_evaluation


def test_the_files_of_an_evaluation_are_read(copy):
    folder = copy("two")
    evaluation = read_evaluation(folder)
    assert evaluation.results == json.loads((folder / "results.json").read_text())
    assert set(evaluation.scores["attribute"]) == {"a0", "a1"}
    assert len(evaluation.scores["model_std"]) == 240
    assert evaluation.run["versions"] == {"pluralign": "1.2.3"}
    first = evaluation.examples[0]
    assert first["scales"] == {"a0": [1.0, 5.0], "a1": [1.0, 5.0]}
    assert len(first["ratings"]["a0"]) == 5


def test_only_the_results_have_to_be_there(copy):
    folder = copy("one")
    for name in ("run.json", "scores.parquet", "examples.jsonl"):
        (folder / name).unlink()
    evaluation = read_evaluation(folder)
    assert (evaluation.run, evaluation.scores, evaluation.examples) == (None, None, None)
    (folder / "results.json").unlink()
    with pytest.raises(ArtifactError, match=r"no results\.json; pass the folder of a finished"):
        read_evaluation(folder)


def test_a_model_without_distributions_has_no_scores_of_ratings(copy):
    assert read_evaluation(copy("scores")).scores is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"schema": NaN}', "NaN is not a JSON number"),
        (b"[]", r"results\.json: the file is \[\]; allowed: an object"),
        (b"{}", "schema is missing"),
        (b'{"schema": 2}', "schema is 2; this version of pluralign reads 1"),
        (b'{"schema": "1"}', "schema is '1'"),
    ],
)
def test_damaged_results_are_named(copy, content, message):
    folder = copy("one")
    (folder / "results.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_evaluation(folder)


def change_at(value, place, new):
    *path, last = place
    for key in path:
        value = value[key]
    if new is None:
        del value[last]
    else:
        value[last] = new


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        (["family"], 3, "family is 3; allowed: a text"),
        (["ratings", "a0", "crps", "model", "estimate"], "x", r"ratings\.a0\.crps\.model\.estimate is 'x'"),
        (["ratings", "a0", "crps", "model", "estimate"], True, "is True; allowed: a finite number"),
        (["ratings", "a0", "crps", "model", "estimate"], 10**400, "allowed: a finite number"),
        (["ratings", "a0", "coverage", "nominal"], None, r"coverage\.nominal is missing"),
        (["ratings", "a0", "levels", "below"], [0.1], "one share below per level"),
        (["ratings", "a0", "pit", "share"], [], "one edge more than shares"),
        (["pairs", "pairs_from_ratings", "reliability", "count"], [1], "differ in length"),
        (["pairs", "pairs_from_ratings", "accuracy"], [], r"accuracy is \[\]; allowed: an object"),
        (["gate"], {"ratings": {"weights": {"a": 1}}}, r"gate\.ratings\.subsets is missing"),
        (
            ["gate"],
            {"ratings": {"weights": {"a": 1}, "subsets": {"x": {"b": 1}}, "entropy_share": 1}},
            "have different attributes",
        ),
        (["ratings", "a0", "crps", "others"], {"twin": {}}, r"others\.twin\.value is missing"),
        (["ensemble"], {"pairs": {"heads": 2, "correlation": "high"}}, r"ensemble\.pairs\.correlation is"),
        (["ensemble"], {"ratings": {"a0": {"intervals": {"split": {}}}}}, r"split\.estimate is missing"),
        (["fitted", "warnings"], "few raters", r"fitted\.warnings is 'few raters'; allowed: a list"),
        (["fitted", "split"], {"test_share": "half"}, r"fitted\.split\.test_share"),
    ],
)
def test_every_part_of_the_results_is_checked(copy, change, place, new, message):
    folder = copy("one")
    change(folder / "results.json", lambda results: change_at(results, place, new))
    with pytest.raises(ArtifactError, match=message):
        read_evaluation(folder)


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        (["prompt", 0, "content"], None, r"line 1: prompt\[0\]\.content is missing"),
        (["levels"], [0.5, 0.1], "increasing numbers"),
        (["levels"], [], "increasing numbers"),
        (["reward"], [0.0], "reward has 1 quantiles for 19 levels"),
        (["gate"], [0.5, 0.5], "one weight per attribute"),
        (["scales", "a0"], [5, 1], r"scales\.a0 is \[5, 1\]"),
        (["ratings", "a0"], ["good"], r"ratings\.a0\[0\] is 'good'"),
    ],
)
def test_every_example_is_checked(copy, change, place, new, message):
    folder = copy("one")
    change(folder / "examples.jsonl", lambda example: change_at(example, place, new))
    with pytest.raises(ArtifactError, match=message):
        read_evaluation(folder)


def test_damaged_and_foreign_tables_are_named(copy):
    folder = copy("one")
    file = folder / "scores.parquet"
    table = pq.read_table(file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ArtifactError, match=r"scores\.parquet is damaged"):
        read_evaluation(folder)
    pq.write_table(pa.table({"x": [1]}), file)
    with pytest.raises(ArtifactError, match="the column table is missing"):
        read_evaluation(folder)
    pq.write_table(table.drop_columns(["observed_mean"]), file)
    with pytest.raises(ArtifactError, match="observed_mean is missing"):
        read_evaluation(folder)
    words = pa.array(["x"] * len(table))
    pq.write_table(table.set_column(table.column_names.index("model_std"), "model_std", words), file)
    with pytest.raises(ArtifactError, match="model_std has a value that is not a number"):
        read_evaluation(folder)


def test_what_no_page_can_show_is_replaced(copy, change):
    folder = copy("one")
    change(folder / "examples.jsonl", lambda example: example.update(response="a\ud800\x00\x1b[31m\nb\tc"))
    response = read_evaluation(folder).examples[0]["response"]
    assert response == "a\ufffd\ufffd\ufffd[31m\nb\tc"
