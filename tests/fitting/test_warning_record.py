"""What a fit warned of stays with its model, and warnings are shown as ever."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, votes_rows
from pluralign.errors import CategoryWarning, ConstantHeadWarning, PluralignWarning
from pluralign.fitting.warning_record import recorded_warnings

OPTIONS = {"backbone": FakeBackbone(), "cache": None, "config": {"l2": 0.1, "steps": 5}}
FEW = OPTIONS | {"config": OPTIONS["config"] | {"loss": "transport"}}  # too few raters for it


@pytest.mark.filterwarnings("default")
def test_our_warnings_are_kept_once_and_shown_as_ever(recwarn):
    with recorded_warnings() as texts:
        for _ in range(2):
            warnings.warn("few raters", CategoryWarning, stacklevel=1)
        warnings.warn("of another package", DeprecationWarning, stacklevel=1)
    assert texts == ["few raters"]
    assert {str(w.message) for w in recwarn} == {"few raters", "of another package"}


def test_who_reads_the_evaluation_learns_what_the_fit_warned_of(tmp_path):
    ratings = pl.load_ratings(ratings_rows(20, raters=1))
    with pytest.warns(CategoryWarning, match="raters per response"):
        model = pl.fit("categorical", ratings=ratings, **FEW)
    assert any("a0 has 1 raters per response" in text for text in model.fitted["warnings"])
    stored = pl.RewardModel.from_pretrained(model.save_pretrained(tmp_path / "m"), backbone=model.backbone)
    assert pl.evaluation.evaluate(stored, ratings=ratings)["fitted"]["warnings"] == model.fitted["warnings"]
    assert "warnings" not in pl.fit("categorical", ratings=ratings, **OPTIONS).fitted
    with pytest.warns(CategoryWarning):
        crossed = pl.evaluation.cross_fit(
            "categorical", ratings=ratings, num_folds=2, out=tmp_path / "out", **FEW
        )
    told = json.loads((tmp_path / "out" / "results.json").read_text())["fitted"]["warnings"]
    assert told == crossed["fitted"]["warnings"]
    assert {text.partition(":")[0] for text in told} == {"fold 1", "fold 2"}


def tied(rows):
    return pl.load_comparisons([row | {"votes": [0] * len(row["votes"])} for row in rows])


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("bradley_terry", {"l2": 0.1}),
        ("gaussian_ensemble", {"l2": 0.1, "steps": 5}),
        ("gaussian_ensemble", {"l2": 0.1, "steps": 5, "loss": "bradley_terry"}),
        ("categorical", {"l2": 0.1, "steps": 5}),
    ],
)
def test_ties_alone_teach_nothing_and_every_family_says_so(family, config):
    options = {"backbone": FakeBackbone(), "cache": None, "config": config}
    with pytest.warns(
        ConstantHeadWarning, match="nothing can be learned from these pairs: all of them are tied"
    ):
        pl.fit(family, votes=tied(votes_rows(20)), **options)
    pl.fit(family, votes=pl.load_comparisons(votes_rows(20)), **options)  # a warning would be an error


def test_one_rating_for_all_is_named():
    rows = [row | {"ratings": [3, 3, 3]} for row in ratings_rows(8)]
    config = {"l2": 0.1, "steps": 5, "loss": "cross_entropy"}
    with pytest.warns(ConstantHeadWarning, match="every rating of a0 is '3 to 5'"):
        pl.fit(
            "categorical", ratings=pl.load_ratings(rows), backbone=FakeBackbone(), cache=None, config=config
        )


def test_votes_that_pairs_push_aside_are_not_dropped_silently():
    tables = {"pairs": pl.load_pairs(pairs_rows(20)), "votes": pl.load_comparisons(votes_rows(20))}
    options = {"backbone": FakeBackbone(), "cache": None, "config": {"l2": 0.1}}
    with pytest.warns(PluralignWarning, match="learned from the pairs alone"):
        both = pl.fit("bradley_terry", **tables, **options)
    alone = pl.fit("bradley_terry", pairs=tables["pairs"], **options)
    assert torch.equal(both.head.weight, alone.head.weight)
    assert any("learned from the pairs alone" in text for text in both.fitted["warnings"])


@pytest.mark.filterwarnings("ignore:nobody chose")
@pytest.mark.parametrize(
    ("family", "scale", "message"),
    [
        ("quantile", [0, 5], "0 the best; quantile treats them as ratings, where more is better"),
        ("bradley_terry", [0, 5], "0 the best; bradley_terry treats them"),
        ("categorical", [1, 6], "rated from 1 to 6: treated as ratings, where more is better"),
    ],
)
def test_categories_that_would_be_read_upside_down_are_named(family, scale, message):
    rows = [row | {"attribute": "category", "scale": scale} for row in ratings_rows(8)]
    config = {"quantile": {"l1": 0.01, "levels": [0.5]}, "bradley_terry": {"l2": 0.1}}.get(
        family, {"l2": 0.1, "steps": 2, "loss": "rps"}
    )
    with pytest.warns(CategoryWarning, match=message):
        pl.fit(family, ratings=pl.load_ratings(rows), backbone=FakeBackbone(), cache=None, config=config)


def test_nothing_copies_a_selection_of_rows_one_by_one(monkeypatch):
    """`datasets` gathers the rows of a split a thousand a second where it is asked for a copy of them."""
    ratings = pl.load_ratings(ratings_rows(20))
    some = ratings.select(range(0, len(ratings), 2))
    monkeypatch.setattr(type(some), "flatten_indices", None)
    train, test = pl.split(some)
    model = pl.fit("quantile", ratings=train, backbone=FakeBackbone(), cache=None, config={"l1": 0.01})
    found = pl.evaluation.evaluate(model, ratings=test)["ratings"]
    assert sum(attribute["rows"] for attribute in found.values()) == len(test)
