"""The leaderboard, responses to one prompt, the most over-confident cases, and results as a model card."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import numpy as np
import pytest
import torch

import pluralign as pl
from fake_backbone import WIDTH, FakeBackbone, pairs_rows, ratings_rows
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.evaluation import evaluate
from pluralign.evaluation.suites import evaluate_suite
from pluralign.heads import BradleyTerryHead, ColumnScaling
from pluralign.report.card import model_card, model_index
from pluralign.report.content import build_content
from pluralign.report.evaluations import read_evaluation
from pluralign.report.mistakes import overconfident
from pluralign.report.page import render_page
from pluralign.report.rivals import rivals


def suite_run(folder, coef=1.0, suite="pairs", rows=None, **extra):
    weight = torch.zeros(WIDTH)
    weight[0] = coef
    model = pl.RewardModel(FakeBackbone(), BradleyTerryHead(ColumnScaling.empty(WIDTH), weight))
    results = evaluate_suite(model, rows or pairs_rows(40), suite, out=folder)
    (folder / "results.json").write_text(json.dumps(results | {"evaluated_on": "some rows"} | extra))
    return folder


def content_of(*folders):
    return build_content([read_evaluation(folder) for folder in folders])


def test_a_leaderboard_is_sorted_and_has_length_once(tmp_path):
    worse, better = suite_run(tmp_path / "worse", -1.0), suite_run(tmp_path / "better")
    (table,) = content_of(worse, better)["suites"]
    assert (table["rows"][0]["run"], table["rows"][0]["own"]) == ("better", True)
    assert [row["who"] for row in table["rows"]].count("the longer response") == 1
    scores = [row["score"]["estimate"] for row in table["rows"]]
    assert scores == sorted(scores, reverse=True)
    page = render_page(content_of(worse, better))
    assert 'id="h-suites"' in page
    assert "Does it choose what people chose?" not in page  # one accuracy for the same pairs, not two


def test_more_than_six_suites_make_a_leaderboard_but_not_more_than_six_evaluations(tmp_path, copy):
    folders = [suite_run(tmp_path / f"m{i}", coef) for i, coef in enumerate(np.linspace(-1, 1, 8))]
    content = content_of(*folders)
    (table,) = content["suites"]
    assert {row["run"] for row in table["rows"] if row["own"]} == {f"m{i}" for i in range(8)}
    assert len(content["runs"]) == 6
    render_page(content)
    several = [copy("one", f"one-{i}") for i in range(7)]
    with pytest.raises(ArgumentError, match="1 to 6 evaluations"):
        content_of(*several)


def test_a_suite_without_an_overall_score_says_what_is_missing(tmp_path):
    rows = [row | {"subset": "alpacaeval-easy", "id": str(i)} for i, row in enumerate(pairs_rows(20))]
    content = content_of(suite_run(tmp_path / "one", suite="rewardbench", rows=rows))
    (table,) = content["suites"]
    assert all(row["score"] is None for row in table["rows"])
    page = render_page(content)
    assert "hep-go" in page
    assert "others are not comparable" in page


def test_results_of_a_newer_schema_are_refused(tmp_path):
    folder = suite_run(tmp_path / "one", schema=2)
    with pytest.raises(ArtifactError, match="schema is 2; this version of pluralign reads 1"):
        read_evaluation(folder)


# -- responses to one prompt ------------------------------------------------------------------------


def line(prompt, response, reward, attributes=None, ratings=None):
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "response": response,
        "levels": [0.05, 0.25, 0.5, 0.75, 0.95],
        "reward": reward,
        "attributes": attributes or {"a": [2, 2.5, 3, 3.5, 4]},
        "gate": [1 / len(attributes or "a")] * len(attributes or "a"),
        **({"ratings": ratings, "scales": {"a": [1, 5], "b": [1, 5]}} if ratings else {}),
    }


class Read:
    """What the sections ask of an evaluation."""

    def __init__(self, *lines):
        self.examples = lines


def test_the_cautious_order_is_that_of_the_worst_tenth():
    safe, risky = line("p", "safe", [0, 0.5, 1, 1.5, 2]), line("p", "risky", [-5, 1, 2, 3, 9])
    alone = line("q", "alone", [0, 1, 2, 3, 4])
    found = rivals({"run": Read(safe, alone, risky)})
    assert (found["moved"], found["of"]) == (1, 1)
    (prompt,) = found["prompts"]
    assert [(e["response"], e["place"], e["cautious"]) for e in prompt["responses"]] == [
        ("risky", 1, 2),
        ("safe", 2, 1),
    ]
    distribution = pl.Quantiles(
        torch.tensor([[-5.0, 1, 2, 3, 9]]), torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    )
    assert prompt["responses"][0]["mean"] == pytest.approx(float(distribution.mean()), abs=0.01)
    assert prompt["responses"][0]["tail"] == pytest.approx(float(distribution.cvar(0.1)), abs=0.01)
    assert "missing" in rivals({"run": Read(alone)})


def test_what_pushes_a_response_is_its_distance_from_the_others_by_weight():
    high, low = {"a": [4] * 5, "b": [3] * 5}, {"a": [2] * 5, "b": [3] * 5}
    rated = {"a": [3.0], "b": [3.0]}
    lines = [
        line("p", name, [0, 1, 2, 3, 4 + i], of, rated)
        for i, (name, of) in enumerate((("x", high), ("y", low)))
    ]
    (prompt,) = rivals({"run": Read(*lines)})["prompts"]
    pushes = {entry["response"]: entry["pushes"] for entry in prompt["responses"]}
    assert pushes["x"] == pytest.approx({"a": 0.5 * 1 / 4, "b": 0})
    assert pushes["y"] == pytest.approx({"a": -0.5 * 1 / 4, "b": 0})


def test_the_most_over_confident_are_farthest_in_predicted_deviations():
    narrow = line("p", "narrow", [0, 1, 2, 3, 4], {"a": [2.9, 2.95, 3, 3.05, 3.1]}, {"a": [5.0, 5.0]})
    wide = line("p", "wide", [0, 1, 2, 3, 4], {"a": [1, 2, 3, 4, 5]}, {"a": [5.0]})
    found = overconfident({"run": Read(wide, narrow)})
    (entry,) = found["entries"]
    assert entry["response"] == "narrow"
    assert entry["distance"] > 20
    assert "deviations off" in overconfident({"run": Read(wide)})["missing"]


def test_the_script_of_the_page_is_the_one_that_its_policy_allows(copy):
    page = render_page(content_of(copy("one")))
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "unsafe-inline'; script-src" in page  # of styles only
    without = render_page(content_of(copy("scores")))
    assert "script-src" not in without
    assert "runs no script." in without


# -- model card -------------------------------------------------------------------------------------


def test_the_card_is_read_by_the_hub_s_own_reader(tmp_path, copy):
    from huggingface_hub import ModelCard

    suite = suite_run(tmp_path / "suite")
    content = content_of(suite, copy("one"))
    text = model_card(content)
    card = ModelCard(text)
    assert card.data["model-index"] if card.data.get("model-index") else card.data.eval_results
    assert {entry["name"] for entry in model_index(content)} == {run["name"] for run in content["runs"]}
    single = ModelCard(model_card(content_of(suite)))
    (result,) = single.data.eval_results
    assert result.dataset_name == "pairs"
    expected = json.loads((suite / "results.json").read_text())["suite"]["scores"]["mean"]["overall"]
    assert result.metric_value == pytest.approx(expected, abs=1e-4)
    assert "| the longer response |" in text or "| suite | the longer response |" in text


# -- calibration and raters -------------------------------------------------------------------------


def test_reliability_before_and_after_calibration(tmp_path):
    table = pl.load_ratings(ratings_rows(40))
    config = {"l1": 0.01, "baselines": False}
    fit = pl.fit("quantile", ratings=table, backbone=FakeBackbone(), cache=None, config=config)
    model = fit.calibrate(pl.load_ratings(ratings_rows(60, seed=5)))
    results = evaluate(model, ratings=pl.load_ratings(ratings_rows(30, seed=9)), out=tmp_path)
    (part,) = results["ratings"].values()
    plain = evaluate(fit, ratings=pl.load_ratings(ratings_rows(30, seed=9)))["ratings"]
    assert part["levels_uncalibrated"] == next(iter(plain.values()))["levels"]
    assert part["levels_uncalibrated"] != part["levels"]
    page = render_page(content_of(tmp_path))
    assert "before calibration" in page
    assert "How near to the people who rated?" in page


def test_pages_of_results_without_raters_have_no_section_about_them(copy, change):
    folder = copy("one")
    change(folder / "results.json", lambda r: (r.pop("crowd"), r.pop("pairwise")))
    assert "How near to the people who rated?" not in render_page(content_of(folder))
