"""What a report says: the numbers are those of the files, and the sentences say what they mean."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import pluralign as pl
from pluralign.errors import ArgumentError
from pluralign.report.content import build_content
from pluralign.report.evaluations import read_evaluation


def content_of(*folders):
    content = build_content([read_evaluation(folder) for folder in folders])
    json.dumps(content, allow_nan=False)
    return content


def interval(estimate, low, high):
    return {"estimate": estimate, "low": low, "high": high, "reason": ""}


def test_headlines_are_the_numbers_of_the_results(copy):
    folder = copy("one")
    results = json.loads((folder / "results.json").read_text())
    lines = {line["title"]: line for line in content_of(folder)["headlines"]}
    assert list(lines) == [
        "Accuracy on pairs from ratings",
        "Distance to the truth",
        "CRPS",
        "Ratings inside 90 % intervals",
    ]
    accuracy = results["pairs"]["pairs_from_ratings"]["accuracy"]
    assert lines["Accuracy on pairs from ratings"]["interval"] == accuracy["model"]
    assert lines["CRPS"]["interval"] == results["ratings"]["a0"]["crps"]["model"]
    lengths = f"The longer response: {100 * accuracy['length']['estimate']:.1f} %"
    assert any(s.startswith(lengths) for s in lines["Accuracy on pairs from ratings"]["sentences"])


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.03, "; the model is better."),
        (-0.03, -0.01, "; the model is worse."),
        (-0.01, 0.02, "; no difference: the interval contains 0."),
        (None, None, "; no interval: one group."),
    ],
)
def test_a_difference_is_put_into_words(copy, change, low, high, words):
    folder = copy("one")
    difference = interval(0.02, low, high) | {"reason": "one group" if low is None else ""}
    change(
        folder / "results.json",
        lambda r: r["pairs"]["pairs_from_ratings"]["difference"].update(length=difference),
    )
    sentences = content_of(folder)["headlines"][0]["sentences"]
    assert any(s.startswith("The longer response") and words in s for s in sentences)


def test_skill_within_a_prompt_stands_beside_the_losses(copy, change):
    folder = copy("one")
    found = json.loads((folder / "results.json").read_text())["ratings"]["a0"]["within_prompt"]
    told = f"Within a prompt it wins {100 * found['model']['estimate']:.1f} % ["
    for title in ("CRPS", "Distance to the truth"):
        (line,) = (line for line in content_of(folder)["headlines"] if line["title"] == title)
        assert line["sentences"][-1].startswith(told)
        assert found["verdict"] in line["sentences"][-1]

    def told_of(value):
        change(folder / "results.json", lambda r: r["ratings"]["a0"].update(within_prompt=value))
        lines = {line["title"]: line["sentences"][-1] for line in content_of(folder)["headlines"]}
        return lines["CRPS"]

    below = {"model": interval(0.46, 0.447, 0.473), "chance": 0.5, "verdict": "below chance"}
    below["length"] = interval(0.563, 0.55, 0.576)
    assert told_of(below) == (
        "Within a prompt it wins 46.0 % [44.7, 47.3] of pairs: below chance; the longer response wins 56.3 %."
    )
    tied = {"model": interval(0.2, 0.17, 0.23), "chance": 0.2, "verdict": "at chance"}
    assert "at chance, which with its ties is 20.0 %." in told_of(tied)
    assert told_of({"verdict": "not known: one each"}) == "Within a prompt: not known: one each."
    change(folder / "results.json", lambda r: r["ratings"]["a0"].pop("within_prompt"))
    assert not any("Within" in s for line in content_of(folder)["headlines"] for s in line["sentences"])


@pytest.mark.parametrize(
    ("ends", "words"),
    [((0.88, 0.92), "As wide"), ((0.7, 0.8), "Too narrow"), ((0.95, 0.99), "Too wide")],
)
def test_coverage_is_put_into_words(copy, change, ends, words):
    folder = copy("one")
    change(
        folder / "results.json",
        lambda r: r["ratings"]["a0"]["coverage"].update(model=interval(sum(ends) / 2, *ends)),
    )
    assert content_of(folder)["headlines"][-1]["sentences"][1].startswith(words)


def test_a_run_says_what_was_run(copy):
    (run,) = content_of(copy("two"))["runs"]
    assert run["command"] == "pluralign evaluate --model runs/one --ratings data/ratings.jsonl"
    assert run["inputs"]["ratings"] == "ab" * 32
    assert run["sizes"]["ratings"] == {"rows": 240, "groups": 30, "attributes": ["a0", "a1"]}
    assert run["name"] == "quantile"


@pytest.mark.parametrize(
    ("key", "label"),
    [("evaluated_on", ""), ("judged", ""), ("judged", "judged: "), ("judged", "evaluated on: ")],
)
def test_what_was_evaluated_is_read_under_the_name_and_with_the_label_of_older_files(
    copy, change, key, label
):
    folder = copy("one")
    change(folder / "results.json", lambda r: r.update({key: f"{label}every row; 3 groups"}))
    (run,) = content_of(folder)["runs"]
    assert run["evaluated_on"] == "every row; 3 groups"


def test_coverage_by_predicted_disagreement_is_the_mean_of_its_rows(copy):
    folder = copy("one")
    table = pq.read_table(folder / "scores.parquet").to_pandas()
    rows = table[table["table"] == "ratings"].sort_values("model_std", kind="stable")
    (bins,) = content_of(folder)["ratings"]["by_spread"].values()
    expected = [part.mean() for part in np.array_split(rows["model_coverage"].to_numpy(), 5)]
    assert [b["model"] for b in bins] == pytest.approx(expected)
    assert sum(b["rows"] for b in bins) == len(rows) == 120


def test_truth_is_a_histogram_of_rows(copy):
    folder = copy("one")
    table = pq.read_table(folder / "scores.parquet").to_pandas()
    errors = table["model_quantile_error"].dropna()
    (found,) = content_of(folder)["truth"]["runs"].values()
    assert sum(found["share"]["model"]) == pytest.approx(1)
    assert found["median"]["model"] == pytest.approx(errors.median())
    below = (errors < found["edges"][3]).mean()
    assert sum(found["share"]["model"][:3]) == pytest.approx(below)


def test_true_and_predicted_quantiles_of_the_examples(copy, change):
    folder = copy("one")
    change(folder / "examples.jsonl", lambda e: e.update(true_quantiles={"a0": [1, 2, 3, 4]}))
    lines = [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]
    (clouds,) = content_of(folder)["truth"]["quantiles"].values()
    assert [cloud["level"] for cloud in clouds] == [0.1, 0.5, 0.9]
    assert [set(cloud["true"]) for cloud in clouds] == [{1.0}, {2.5}, {4.0}]  # levels 0.2, 0.4, 0.6, 0.8
    assert clouds[1]["predicted"] == [line["attributes"]["a0"][9] for line in lines]


def test_responses_are_picked_by_prediction_alone(copy, change):
    folder = copy("two")
    chosen = content_of(folder)["responses"]
    widths = [entry["width"] for entry in chosen["all"]]
    assert widths == sorted(widths, reverse=True)
    assert [e["width"] for e in chosen["contested"]] == widths[:6]
    assert [e["width"] for e in chosen["agreed"]] == widths[-1:-7:-1]
    entry = chosen["contested"][0]
    predicted = entry["predicted"]["quantile"]
    lines = [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]
    line = next(line for line in lines if line["response"] == entry["response"])
    fitted = line["attributes"][entry["attribute"]]
    assert entry["width"] == pytest.approx((fitted[-1] - fitted[0]) / 4)
    assert set(predicted) <= {1, 2, 3, 4, 5}  # shown on the grid of the ratings
    assert entry["true"] == [2.0, 3.0, 4.0]
    change(folder / "examples.jsonl", lambda e: e.update(ratings={a: [1] * 9 for a in e["ratings"]}))
    again = content_of(folder)["responses"]["contested"]
    assert [e["response"] for e in again] == [e["response"] for e in chosen["contested"]]


def test_gate_weights_are_those_of_the_results(copy, change):
    folder = copy("two")
    assert "No gate: each of the 2" in content_of(folder)["prompts"]["gates"]["quantile"]["missing"]
    part = {
        "rows": 7,
        "weights": {"a0": 0.3, "a1": 0.7},
        "subsets": {"craft": {"a0": 0.5, "a1": 0.5}, "care": {"a0": 0.1, "a1": 0.9}},
        "subset_rows": {"craft": 4, "care": 3},
        "entropy": 0.5,
        "entropy_share": 0.8,
    }
    gates = dict.fromkeys(("ratings", "pairs_from_ratings", "pairs"), part)
    change(folder / "results.json", lambda r: r.update(gate=gates))
    gate = content_of(folder)["prompts"]["gates"]["quantile"]
    assert gate["attributes"] == ["a0", "a1"]
    assert [table["table"] for table in gate["tables"]] == ["ratings", "pairs"]
    assert gate["tables"][0] == {
        "table": "ratings",
        "rows": [
            {"subset": "all", "rows": 7, "weights": [0.3, 0.7]},
            {"subset": "care", "rows": 3, "weights": [0.1, 0.9]},
            {"subset": "craft", "rows": 4, "weights": [0.5, 0.5]},
        ],
        "entropy": 0.8,
    }


def test_gate_weights_that_the_results_do_not_hold_are_averaged_over_examples(copy, change):
    folder = copy("two")
    change(folder / "results.json", lambda r: r.pop("gate"))
    assert "No gate" in content_of(folder)["prompts"]["gates"]["quantile"]["missing"]
    change(
        folder / "examples.jsonl",
        lambda e: e.update(gate=[0.9, 0.1] if e["subset"] == "craft" else [0.4, 0.6]),
    )
    (table,) = content_of(folder)["prompts"]["gates"]["quantile"]["tables"]
    rows = {row["subset"]: row for row in table["rows"]}
    assert rows["craft"]["weights"] == pytest.approx([0.9, 0.1])
    assert rows["care"]["weights"] == pytest.approx([0.4, 0.6])
    share = rows["craft"]["rows"] / rows["all"]["rows"]
    assert rows["all"]["weights"][0] == pytest.approx(0.9 * share + 0.4 * (1 - share))
    entropies = [-sum(w * np.log2(w) for w in pair) for pair in ([0.9, 0.1], [0.4, 0.6])]
    assert table["entropy"] == pytest.approx(entropies[0] * share + entropies[1] * (1 - share))
    (folder / "examples.jsonl").unlink()
    assert "not known" in content_of(folder)["prompts"]["gates"]["quantile"]["missing"]


def test_ratings_by_kind_of_prompt_are_means_of_rows(copy):
    folder = copy("two")
    table = pq.read_table(folder / "scores.parquet").to_pandas()
    table = table[table["table"] == "ratings"]
    cells = content_of(folder)["prompts"]["attributes"]["quantile"]
    assert len(cells) == 4
    for cell in cells:
        rows = table[(table["attribute"] == cell["attribute"]) & (table["subset"] == cell["subset"])]
        assert cell["rows"] == len(rows)
        assert cell["predicted"] == pytest.approx(rows["model_mean_on_grid"].mean())
        assert cell["spread"] == pytest.approx(rows["model_std_on_grid"].mean())
        assert cell["observed"] == pytest.approx(rows["observed_mean"].mean())


def test_predictions_are_shown_on_the_grid_of_the_ratings(copy, change):
    folder = copy("one")
    entries = content_of(folder)["responses"]["all"]
    lines = {
        line["response"]: line
        for line in map(json.loads, (folder / "examples.jsonl").read_text().splitlines())
    }
    for entry in entries:
        grid = entry["grid"]["quantile"]
        assert grid == lines[entry["response"]]["grid"]["a0"]
        distribution = pl.Categorical(
            torch.tensor([grid["shares"]]).double(), torch.tensor(grid["ratings"]).double()
        )
        expected = distribution.quantile(torch.tensor(entry["levels"]))[0].tolist()
        assert entry["predicted"]["quantile"] == pytest.approx(expected)

    def continuous(line):
        del line["grid"]

    change(folder / "examples.jsonl", continuous)  # as earlier versions wrote it, or ratings on no grid
    entry = content_of(folder)["responses"]["all"][0]
    assert entry["grid"] == {}
    assert entry["predicted"]["quantile"] == lines[entry["response"]]["attributes"]["a0"]


def test_what_is_missing_has_a_reason(copy):
    content = content_of(copy("scores"))
    for section in ("ratings", "truth", "responses"):
        assert content[section]["missing"].endswith(".")
    assert content["prompts"]["gates"]["Bradley-Terry"]["missing"]
    folder = copy("one")
    (folder / "examples.jsonl").unlink()
    (folder / "scores.parquet").unlink()
    content = content_of(folder)
    assert "no texts can be shown" in content["responses"]["missing"]
    assert content["ratings"]["by_spread"] == {}
    assert "attributes" in content["ratings"]


def test_a_model_evaluated_on_pairs_only_still_shows_its_predictions(copy, change):
    folder = copy("one")
    change(folder / "results.json", lambda r: r.update(ratings={}))
    assert content_of(folder)["responses"]["contested"]


def test_several_runs_stand_side_by_side(copy, change):
    one, other = copy("one"), copy("one", "other")
    content = content_of(one, other)
    assert [run["name"] for run in content["runs"]] == ["one", "other"]
    assert list(content["ratings"]["attributes"]["a0"]) == ["one", "other"]
    assert list(content["responses"]["contested"][0]["predicted"]) == ["one", "other"]
    names = [run["name"] for run in content_of(one, copy("scores"))["runs"]]
    assert names == ["quantile", "Bradley-Terry"]


def test_runs_on_different_rows_are_told_apart_by_the_rows_alone(copy, change):
    one, other = copy("one"), copy("one", "other")

    def notes():
        return " ".join(content_of(one, other)["notes"])

    change(other / "run.json", lambda r: r["inputs"].update(ratings="ef" * 32))  # the same rows, another file
    assert "different" not in notes()
    (other / "run.json").unlink()
    assert "not known" not in notes()
    change(other / "results.json", lambda r: r["row_digests"].update(pairs="0" * 32))  # only one has pairs
    assert "different" not in notes()
    change(other / "results.json", lambda r: r["row_digests"].update(ratings="0" * 32))
    assert "evaluated on different ratings: " in notes()


def test_results_without_digests_are_compared_by_their_files(copy, change):
    one, other = copy("one"), copy("one", "other")

    def notes():
        return " ".join(content_of(one, other)["notes"])

    for folder in (one, other):
        change(folder / "results.json", lambda r: r.pop("row_digests"))
    assert "different" not in notes()
    change(other / "run.json", lambda r: r["inputs"].update(votes="ef" * 32))  # of no table that both have
    assert "different" not in notes()
    change(other / "run.json", lambda r: r["inputs"].update(ratings="ef" * 32))
    assert "evaluated on different ratings: " in notes()
    change(other / "run.json", lambda r: r["inputs"].update(ratings="ab" * 32))
    change(other / "results.json", lambda r: r.update(evaluated_on="every row"))
    assert "evaluated on different ratings: " in notes()
    (other / "run.json").unlink()
    assert "not known" in notes()


def test_few_pairs_have_no_accuracy(copy, change):
    folder = copy("one")

    def size(rows, groups):
        change(
            folder / "results.json",
            lambda r: r["pairs"]["pairs_from_ratings"].update(rows=rows, groups=groups),
        )
        content = content_of(folder)
        titles = {line["title"] for line in content["headlines"]}
        assert ("missing" in content["pairs"]) == ("Accuracy on pairs from ratings" not in titles)
        return content["too_few"]

    assert size(10, 2) == []
    assert size(1, 1) == [
        "Pairs from ratings: 1 pair in 1 group, too few for an accuracy, which needs 10 in 2 groups."
    ]
    assert size(9, 9)[0].startswith("Pairs from ratings: 9 pairs in 9 groups, too few")
    assert size(40, 1)[0].startswith("Pairs from ratings: 40 pairs in 1 group, too few")


def test_few_ratings_have_no_headlines(copy, change):
    folder = copy("one")
    change(folder / "results.json", lambda r: r["ratings"]["a0"].update(rows=3, groups=3))
    content = content_of(folder)
    assert [line["title"] for line in content["headlines"]] == ["Accuracy on pairs from ratings"]
    assert content["too_few"] == [
        "Ratings: 3 rows in 3 groups, too few for calibration, which needs 10 in 2 groups."
    ]


def test_a_rule_that_ties_nearly_all_pairs_is_not_compared(copy, change):
    folder = copy("one")
    rows = json.loads((folder / "results.json").read_text())["pairs"]["pairs_from_ratings"]["rows"]

    def tie(rule):
        def tied(results):
            part = results["pairs"]["pairs_from_ratings"]
            part["tied_rules"], part["ties"][rule] = [rule], rows
            part["accuracy"][rule] = interval(0.0, 0.0, 0.0)

        change(folder / "results.json", tied)
        return content_of(folder)["headlines"][0]["sentences"]

    sentences = tie("length")
    assert "The longer response: no comparison, since it ties 100 % of pairs." in sentences
    assert not any("0.0 %" in sentence for sentence in sentences)
    assert "The model ties 100 % of the pairs, and a tie counts as a miss." in tie("model")


def test_too_many_and_the_same_twice_are_refused(copy):
    evaluation = read_evaluation(copy("one"))
    with pytest.raises(ArgumentError, match="1 to 6 evaluations"):
        build_content([evaluation] * 7)
    with pytest.raises(ArgumentError, match="is given twice"):
        build_content([evaluation] * 2)
