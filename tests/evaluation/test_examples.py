"""The sample with texts: which responses it holds, and that it says what people and the model said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import pluralign as pl
from fake_backbone import WIDTH, FakeBackbone, pairs_rows, ratings_rows
from pluralign.evaluation import cross_fit
from pluralign.evaluation.examples import example_lines
from pluralign.evaluation.rows import LEVELS, rating_rows
from pluralign.heads import Attribute, ColumnScaling, QuantileHead

FIVE = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)


@pytest.fixture(scope="module")
def model():
    """Two attributes on the scale 1 to 5; the second number of a response widens its distributions."""
    weight = torch.zeros(2, 5, WIDTH)
    weight[:, :, 1] = torch.tensor([-0.3, -0.1, 0.0, 0.1, 0.3])
    names = tuple(Attribute(name, 1.0, 5.0) for name in ("a0", "a1"))
    intercept = (0.3 + 0.4 * FIVE.float()).expand(2, 5).clone()
    return pl.RewardModel(
        FakeBackbone(), QuantileHead(ColumnScaling.empty(WIDTH), weight, intercept, FIVE, names)
    )


def table_of(attributes=2, **facts):
    return pl.load_ratings([row | facts for row in ratings_rows(100, attributes=attributes)])


def spread(line):
    return float(line["response"].split()[1])


def test_a_line_shows_votes_and_predictions(model):
    table = table_of(true_quantiles=[2.0, 3.0])
    line = example_lines(model, {"ratings": table})[0]
    rows = [row for row in table if row["response"] == line["response"]]
    assert line["ratings"] == {row["attribute"]: row["ratings"] for row in rows}
    assert line["scales"] == {"a0": [1, 5], "a1": [1, 5]}
    assert line["true_quantiles"] == {"a0": [2.0, 3.0], "a1": [2.0, 3.0]}
    assert line["levels"] == list(LEVELS)
    talk = [[*line["prompt"], {"role": "assistant", "content": line["response"]}]]
    distribution = model.attribute_distributions(talk)["a1"]
    expected = distribution.quantile(torch.tensor(LEVELS, dtype=distribution.mean().dtype))[0].numpy()
    np.testing.assert_allclose(line["attributes"]["a1"], expected, atol=1e-5)
    assert line["gate"] == pytest.approx([0.5, 0.5])
    json.dumps(line, allow_nan=False)


def test_the_sample_holds_both_ends_of_the_predicted_spread(model):
    table = table_of(attributes=1)
    lines = example_lines(model, {"ratings": table}, rating_rows(model, table), limit=100)
    assert len(lines) == 100 == len({line["response"] for line in lines})
    ranked = sorted(float(text.split()[1]) for text in table["response"])
    found = {spread(line) for line in lines}
    assert set(ranked[:15]) | set(ranked[-15:]) <= found
    assert example_lines(model, {"ratings": table}, rating_rows(model, table), limit=100) == lines
    assert len(example_lines(model, {"ratings": table}, limit=50)) == 50


def test_pools_of_raters_and_kinds_of_one_text_come_together(model):
    row = ratings_rows(1)[0] | {"attribute": "a0"}
    pools = [row | {"ratings": [1, 2], "subset": "expert"}, row | {"ratings": [5], "subset": "crowd"}]
    (line,) = example_lines(model, {"ratings": pl.load_ratings(pools)})
    assert line["ratings"] == {"a0": [1, 2, 5]}
    assert line["subset"] == "crowd, expert"


def test_tables_share_the_room(model):
    tables = {"ratings": table_of(), "pairs": pl.load_pairs(pairs_rows(100))}
    lines = example_lines(model, tables, limit=40)
    assert len(lines) == 40
    assert sum("ratings" in line for line in lines) == 20


def test_cross_fitting_takes_examples_from_every_fold(tmp_path):
    table = pl.load_ratings(ratings_rows(12))
    config = {"l1": 0.01, "levels": [0.1, 0.5, 0.9]}
    cross_fit(
        "quantile",
        ratings=table,
        num_folds=3,
        backbone=FakeBackbone(),
        config=config,
        cache=None,
        out=tmp_path,
    )
    lines = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    assert sorted(line["response"] for line in lines) == sorted(table["response"])
