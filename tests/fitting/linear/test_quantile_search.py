"""The search for penalties: one per attribute, judged on groups that the fit has not seen."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pluralign.errors import DataError
from pluralign.fitting.config import QuantileConfig
from pluralign.fitting.linear import quantile
from pluralign.fitting.tables.inputs import Inputs
from pluralign.fitting.tables.targets import AttributeRows, RatingTargets
from pluralign.fitting.train import search
from pluralign.fitting.train.journal import Journal
from pluralign.heads.base import Attribute

GRID = (0.3, 0.1, 0.03, 0.01, 0.003)


def problem(num_texts=150, width=20, num_groups=30, seed=0):
    """Two attributes of the same texts: one linear in the features, one that has nothing to do with them."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_texts, width, generator=generator)
    noise = torch.randn(2, num_texts, generator=generator, dtype=torch.float64)
    item, weight = torch.arange(num_texts), torch.ones(num_texts, dtype=torch.float64)
    readable = features[:, 0].double() + 0.3 * noise[0]
    rows = tuple(
        AttributeRows(Attribute(name, 0, 1), item, target, weight)
        for name, target in (("readable", readable), ("noise", noise[1]))
    )
    groups = [f"g{i % num_groups}" for i in range(num_texts)]
    return features, RatingTargets([[]] * num_texts, groups, rows)


def searched(features, targets, path=None, **options):
    services = Inputs(None, None, None, embed=lambda c: None, journal=Journal(path), report=lambda line: None)
    return quantile.chosen_penalties(services, QuantileConfig(l1_grid=GRID, **options), targets, features)


def test_every_attribute_gets_its_own_penalty():
    readable, noise = searched(*problem())
    assert readable < 0.1
    assert noise >= 0.1
    assert readable < noise


def test_it_is_the_penalty_with_the_smallest_loss_over_all_folds(tmp_path):
    features, targets = problem()
    chosen = searched(features, targets, tmp_path / "j")
    entries = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
    for penalty, name in zip(chosen, ("readable", "noise"), strict=True):
        losses = {}
        for l1 in GRID:
            values = [e["value"] for e in entries if e["key"].startswith(f"quantile {name} l1={l1!r} ")]
            assert len(values) in (0, search.NUM_FOLDS)
            if values:
                losses[l1] = np.mean(values)  # 30 groups of 5 texts: folds of equal weight
        assert min(losses, key=losses.get) == penalty


def test_many_ratings_are_evaluated_on_one_fold(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "MANY_ROWS", 150)
    searched(*problem(), tmp_path / "j")
    assert {e.split("fold=")[1][0] for e in (tmp_path / "j").read_text().splitlines()} == {"0"}


@pytest.mark.parametrize(
    ("rows", "folds"), [(10, 5), (2_499, 5), (2_500, 4), (5_000, 2), (9_999, 2), (10_000, 1), (10**6, 1)]
)
def test_the_rows_that_are_held_out_are_about_as_many_from_2000_on(rows, folds):
    fold = torch.arange(rows) % search.NUM_FOLDS
    assert search.held_out_folds(fold) == range(folds)
    assert search.held_out_folds(fold % 2) == range(min(folds, 2))
    held_out = int((fold < folds).sum())
    assert held_out == rows or held_out >= 0.99 * search.MANY_ROWS / search.NUM_FOLDS


def test_no_group_is_on_both_sides(monkeypatch):
    features, targets = problem()
    real = quantile.held_out_loss

    def checked(train, test, *rest):
        sides = [{targets.groups[i] for i in rows.item.tolist()} for rows in (train, test)]
        assert sides[0]
        assert sides[1]
        assert not sides[0] & sides[1]
        return real(train, test, *rest)

    monkeypatch.setattr(quantile, "held_out_loss", checked)
    searched(features, targets)


def test_two_groups_are_enough_and_one_is_not():
    features, targets = problem(num_groups=2)
    assert len(searched(features, targets)) == 2
    features, targets = problem(num_groups=1)
    with pytest.raises(DataError, match="only 1 group; set l1 yourself"):
        searched(features, targets)


def test_the_loss_is_the_weighted_pinball_loss_of_sorted_quantiles():
    features, targets = problem(num_texts=40)
    rows = targets.attributes[0]
    mask = torch.arange(40) < 30
    train, test = rows.restricted(mask), rows.restricted(~mask)
    test = AttributeRows(test.attribute, test.item, test.target, torch.arange(1.0, 11.0, dtype=torch.float64))
    from pluralign.solvers import fit_quantiles

    fit = fit_quantiles(
        features[:30], rows.target[:30], quantile.SEARCH_LEVELS, l1=0.05, tol=quantile.SEARCH_TOL
    )
    values = np.sort((features[30:].double() @ fit.coef.T + fit.intercept).numpy(), axis=1)
    error = test.target.numpy()[:, None] - values
    levels = np.array(quantile.SEARCH_LEVELS)
    loss = np.maximum(levels * error, (levels - 1) * error).mean(1)
    expected = np.average(loss, weights=np.arange(1, 11))
    assert quantile.held_out_loss(train, test, features, 0.05) == pytest.approx(expected, rel=1e-9)
