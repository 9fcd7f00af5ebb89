"""Comparisons: pairing, corrections, letters, verdicts; columns, evaluations and files; what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.evaluation import compare, difference_interval, mean_interval


@pytest.fixture
def columns():
    """Two good systems, a bad one, whose rows vary much more than they differ; 30 groups of 5."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 5)
    shared = 3 * generator.normal(size=30)[groups] + generator.normal(size=150)
    return groups, {
        "good": shared + 0.5 + 0.3 * generator.normal(size=150),
        "fine": torch.tensor(shared + 0.5 + 0.3 * generator.normal(size=150)),
        "bad": list(shared),
    }


def test_pairs_are_found_that_means_would_hide(columns):
    groups, systems = columns
    found = compare(systems, groups)
    assert [row["name"] for row in found["table"]][-1] == "bad"
    assert [row["letters"] for row in found["table"]] == ["a", "a", "b"]
    assert "better than bad, and cannot be told apart from" in found["verdict"]
    assert found["table"][2]["verdict"] == "worse than all others"
    ends = [(row["mean"]["low"], row["mean"]["high"]) for row in found["table"]]
    assert max(low for low, _ in ends) < min(high for _, high in ends)  # of the means, all overlap
    json.dumps(found, allow_nan=False)


def test_numbers_are_those_of_the_intervals(columns):
    groups, systems = columns
    found = compare(systems, groups)
    for row in found["table"]:
        own = mean_interval(systems[row["name"]], groups)
        assert [row["mean"][k] for k in ("estimate", "low", "high")] == pytest.approx(
            [own.estimate, own.low, own.high]
        )
    for pair in found["pairs"]:
        own = difference_interval(systems[pair["a"]], systems[pair["b"]], groups)
        assert [pair["difference"][k] for k in ("estimate", "low", "high")] == pytest.approx(
            [own.estimate, own.low, own.high]
        )
    of_two = [pair for pair in found["pairs"] if {pair["a"], pair["b"]} == {"good", "fine"}]
    assert of_two[0]["adjusted_p"] == of_two[0]["p"]  # Shaffer: with the others rejected, one is left


def test_order_of_rows_and_systems_does_not_matter(columns):
    groups, systems = columns
    order = np.random.default_rng(1).permutation(150)
    turned = {name: np.asarray(systems[name])[order] for name in reversed(systems)}
    one, other = compare(systems, groups), compare(turned, groups[order])
    assert [r["name"] for r in one["table"]] == [r["name"] for r in other["table"]]
    for a, b in zip(one["pairs"], other["pairs"], strict=True):
        assert a["p"] == pytest.approx(b["p"], rel=1e-6)


def test_equal_systems_are_told_apart_no_more_often_than_promised():
    generator = np.random.default_rng(2)
    wrong = 0
    for _ in range(300):
        systems = {name: generator.normal(size=24) for name in "abcd"}
        found = compare(systems, np.arange(24) // 2, dominance=False)
        wrong += any(pair["adjusted_p"] <= 0.05 for pair in found["pairs"])
    assert wrong / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_dominance_is_part_of_it(columns):
    groups, systems = columns
    spread = np.random.default_rng(3).normal(size=150)
    found = compare({"high": spread + 2, "low": spread}, np.arange(150))
    (pair,) = found["pairs"]
    assert pair["dominance"]["first"]["verdict"] == "dominates"
    assert "high is better than low for everybody" in pair["dominance"]["words"]
    assert "dominance" not in compare(systems, groups, dominance=False)["pairs"][0]
    wins = {"a": [1, 0] * 10, "b": [0, 1] * 10}
    assert "dominance" not in compare(wins)["pairs"][0]  # two numbers: it is the mean again


def test_small_samples():
    too_few = compare({"a": [2.0, 3.0, 4.5], "b": [1.0, 1.0, 1.0]})
    assert too_few["verdict"].startswith("No verdict: there are 3 groups")
    assert {row["letters"] for row in too_few["table"]} == {"a"}
    one = compare({"a": [2.0, 3.0], "b": [1.0, 1.0]}, ["g", "g"])
    assert one["table"][0]["mean"]["low"] is None
    assert "one group" in one["table"][0]["mean"]["reason"]
    assert compare({"a": [1.0] * 8, "b": [0.0] * 8})["verdict"] == "a is better than b."
    same = compare({"a": [1.0] * 8, "b": [1.0] * 8})
    assert (same["verdict"], same["pairs"][0]["p"]) == ("a and b cannot be told apart.", 1.0)


def test_groups_of_very_unequal_size_are_cautioned_against():
    groups = [0] * 90 + list(range(1, 12))
    values = np.random.default_rng(4).normal(size=101)
    found = compare({"a": values, "b": values[::-1]}, groups)
    assert found["effective_groups"] < 2
    assert "vary only as much as 1.3 of equal size" in found["cautions"][0]


@pytest.mark.parametrize("unit", [1e-300, 1e300])
def test_the_unit_of_the_values_does_not_matter(unit):
    values = np.random.default_rng(9).normal(size=(2, 20))
    one, other = (compare(dict(zip("ab", v, strict=True))) for v in (values, values * unit))
    assert one["pairs"][0]["p"] == pytest.approx(other["pairs"][0]["p"])
    for order in ("first", "second"):
        confidences = [f["pairs"][0]["dominance"][order]["confidence"] for f in (one, other)]
        assert confidences[0] == pytest.approx(confidences[1])


def test_any_labels_are_groups():
    values = {"a": np.arange(12.0) ** 1.5, "b": np.arange(12.0)}
    found = [
        compare(values, labels)["pairs"][0]["p"]
        for labels in (
            [f"g{i // 2}" for i in range(12)],
            torch.arange(12) // 2,
            [("p", i // 2) for i in range(12)],
            [i // 2 if i % 4 < 2 else f"g{i // 2}" for i in range(12)],
        )
    ]
    assert found == pytest.approx([found[0]] * 4)


def test_rows_without_a_value_are_left_out_of_all():
    a, b = np.arange(20.0), np.arange(20.0) - 1 + np.arange(20) % 2
    a[3], b[7] = np.nan, np.nan
    found = compare({"a": a, "b": b})
    assert found["dropped"] == 2
    assert found["rows"] == {"a": 18, "b": 18}
    keep = ~(np.isnan(a) | np.isnan(b))
    assert found["pairs"][0]["p"] == compare({"a": a[keep], "b": b[keep]})["pairs"][0]["p"]
    assert "2 rows without a value" in found["cautions"][0]


@pytest.mark.parametrize(
    ("systems", "more", "match"),
    [
        ({"a": [1.0, 2.0]}, {}, "at least two"),
        ([[1.0], [2.0]], {}, "a dictionary from names"),
        ({"a": [1.0, 2.0], "b": [1.0]}, {}, r"same rows.*'a': 2, 'b': 1"),
        ({"a": [1.0, 2.0], "b": [1.0, np.inf]}, {}, r"b\[1\] is inf"),
        ({"a": [1.0, 2.0], "b": ["x", "y"]}, {}, "b: needs numbers"),
        ({"a": [[1.0]], "b": [[2.0]]}, {}, "one value per row"),
        ({"a": [np.nan, 1.0], "b": [1.0, np.nan]}, {}, "no row has a value"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, {"group": ["g"]}, "one label per row"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, {"group": ["g", None]}, r"group\[1\] is None"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, {"level": "high"}, "between 0 and 1"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, {"measure": "accuracy"}, "measure applies to evaluations"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, {"level": 95}, "between 0 and 1"),
        ({"a": [1.0, 2.0], "b": "absent"}, {}, "absent does not exist"),
        ({"a": [1.0, 2.0], "b": {"schema": 1}}, {}, "of one kind"),
        ({"a": {"schema": 1}, "b": {"schema": 1}}, {}, "without the scores of each row"),
        ({"a": [1.0, 2.0], 1: [1.0, 2.0]}, {}, "names that are text"),
    ],
)
def test_what_it_refuses(systems, more, match):
    with pytest.raises(ArgumentError, match=match):
        compare(systems, **more)


def models(name):
    """Two families on the same ratings."""
    family = {"one": "quantile", "two": "regression"}[name]
    config = {"l1": 0.01, "levels": (0.1, 0.5, 0.9)} if family == "quantile" else {}
    ratings = pl.load_ratings(ratings_rows(num_prompts=20))
    return pl.fit(family, ratings=ratings, backbone=FakeBackbone(), config=config, cache=None)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Three evaluations of two models, as returned and as written; the third on other rows."""
    folder = tmp_path_factory.mktemp("evaluated")
    ratings = pl.load_ratings(ratings_rows(num_prompts=20))
    pairs = pl.load_pairs(pairs_rows(40))
    found = {}
    for name in ("one", "two"):
        model = models(name)
        found[name] = pl.evaluation.evaluate(model, ratings=ratings, pairs=pairs, out=folder / name)
    part = pairs.select(range(20))
    pl.evaluation.evaluate(model, ratings=ratings, pairs=part, out=folder / "part")
    return folder, found


def test_evaluations_are_compared_by_their_rows(evaluated):
    folder, results = evaluated
    by_folder = compare({name: folder / name for name in results})
    assert compare(results) == by_folder
    assert by_folder["measure"] == "pairs.accuracy"
    for row in by_folder["table"]:
        told = results[row["name"]]["pairs"]["pairs"]["accuracy"]["model"]
        assert [row["mean"][k] for k in ("estimate", "low", "high")] == pytest.approx(
            [told[k] for k in ("estimate", "low", "high")]
        )
        assert row["mean"]["high"] <= 1
    loss = compare(results, measure="ratings.crps" if "ratings.crps" in _measures(results) else None)
    assert loss["better"] in ("higher", "lower")
    if loss["better"] == "lower":
        means = [row["mean"]["estimate"] for row in loss["table"]]
        assert means == sorted(means)


def _measures(results):
    from pluralign.evaluation.compared_rows import shared_measures

    return shared_measures(results)


def test_evaluations_of_other_rows_are_refused(evaluated):
    folder, _ = evaluated
    with pytest.raises(ArgumentError, match=r"not the same rows.*20 ids are in all"):
        compare({"two": folder / "two", "part": folder / "part"})
    both = compare({"two": folder / "two", "part": folder / "part"}, measure="pairs_from_ratings.accuracy")
    assert both["pairs"][0]["p"] == 1  # the same model on the same ratings
    with pytest.raises(ArgumentError, match="did you mean 'pairs.accuracy'"):
        compare({"one": folder / "one", "two": folder / "two"}, measure="pair.accuracy")
    with pytest.raises(ArgumentError, match=r"no results.json"):
        compare({"one": folder, "two": folder / "two"})


def test_folders_of_suites_are_compared_by_rows_won(evaluated, tmp_path):
    folder, _ = evaluated
    rows = pairs_rows(30, seed=4)
    for name in ("one", "two"):
        model = models(name)
        pl.evaluation.suites.evaluate_suite(
            model, rows, "pairs", risk=["mean", "cvar:0.5"] if name == "one" else "mean", out=tmp_path / name
        )
    found = compare({name: tmp_path / name for name in ("one", "two")})
    assert (found["measure"], found["rows"]) == ("mean.accuracy", {"one": 30, "two": 30})
    results = json.loads((tmp_path / "one" / "results.json").read_text())
    means = {row["name"]: row["mean"]["estimate"] for row in found["table"]}
    assert means["one"] == pytest.approx(results["pairs"]["pairs"]["accuracy"]["model"]["estimate"])
    with pytest.raises(ArgumentError, match="not in all evaluations"):
        compare({name: tmp_path / name for name in ("one", "two")}, measure="cvar:0.5.accuracy")
    with pytest.raises(ArgumentError, match="no measure in common"):
        compare({"suite": tmp_path / "one", "other": folder / "one"})


def test_damaged_and_newer_evaluations_are_refused(evaluated, tmp_path):
    folder, _ = evaluated
    for text, said in (("{", "damaged"), ('{"schema": 99}', "schema is 99"), ("[]", "damaged")):
        broken = tmp_path / "broken"
        shutil.copytree(folder / "two", broken, dirs_exist_ok=True)
        (broken / "results.json").write_text(text)
        with pytest.raises(ArtifactError, match=said):
            compare({"one": folder / "one", "broken": broken})
    shutil.copy(folder / "two" / "results.json", broken / "results.json")
    (broken / "scores.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ArtifactError, match="damaged"):
        compare({"one": folder / "one", "broken": broken})


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_files_of_scores(tmp_path):
    generator = np.random.default_rng(5)
    scores = generator.normal(size=40)
    a = write(tmp_path / "a.jsonl", [{"id": f"r{i}", "utility": s + 1.0} for i, s in enumerate(scores)])
    b = write(
        tmp_path / "b.jsonl", [{"id": f"r{i}", "utility": s} for i, s in reversed(list(enumerate(scores)))]
    )
    found = compare({"a": a, "b": b})
    assert found["paired"] == "by row"
    assert found["pairs"][0]["difference"]["estimate"] == pytest.approx(1.0)
    assert found["pairs"][0]["difference"]["high"] - found["pairs"][0]["difference"]["low"] < 1e-9


def test_samples_of_policies_go_together_by_prompt(tmp_path):
    generator = np.random.default_rng(6)
    shift = 5 * generator.normal(size=25)
    files = {
        name: write(
            tmp_path / f"{name}.jsonl",
            [
                {"id": f"{name}-{i}-{k}", "prompt": f"p{i}", "score": shift[i] + more + generator.normal()}
                for i in range(25)
                for k in range(n)
            ],
        )
        for name, more, n in (("a", 2.0, 3), ("b", 0.0, 2))
    }
    found = compare(files)
    assert (found["paired"], found["groups"], found["rows"]) == ("by group", 25, {"a": 75, "b": 50})
    assert found["verdict"] == "a is better than b."
    other = write(tmp_path / "other.jsonl", [{"id": "x", "prompt": "elsewhere", "score": 1.0}])
    with pytest.raises(ArgumentError, match="not in all files"):
        compare({"a": files["a"], "other": other})


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"id": "r0", "text": "x"}], "no column of scores"),
        ([{"id": "r0", "score": "high"}], "row 1: score is 'high'"),
        ([{"id": "r0", "score": float("nan")}], "row 1: score is nan"),
        ([{"id": "q", "score": 1.0}], "not the same rows"),
    ],
)
def test_files_that_do_not_fit(tmp_path, rows, match):
    good = write(tmp_path / "good.jsonl", [{"id": "r0", "score": 1.0}, {"id": "r1", "score": 2.0}])
    with pytest.raises(ArgumentError, match=match):
        compare({"good": good, "bad": write(tmp_path / "bad.jsonl", rows)})
