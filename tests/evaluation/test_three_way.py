"""Losses of votes with ties against scikit-learn, single votes, and true probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import pluralign as pl
from pluralign.errors import ArgumentError
from pluralign.evaluation.three_way import three_way_brier, three_way_log_loss


def vote_shares(cast):
    """Shares of 1 (a), 0 (tie) and -1 (b) in each list of votes."""
    return np.array([[np.mean(np.equal(votes, v)) for v in (1, 0, -1)] for votes in cast])


@pytest.fixture
def draws():
    generator = np.random.default_rng(0)
    probs = generator.dirichlet((1.0, 0.7, 1.3), size=4000)
    outcome = (generator.uniform(size=(4000, 1)) > probs.cumsum(1)).sum(1)
    return probs, outcome, np.eye(3)[outcome]


def test_losses_match_scikit_learn(draws):
    metrics = pytest.importorskip("sklearn.metrics")
    probs, outcome, votes = draws
    found = pl.evaluation.three_way(probs, votes)
    assert found["rows"] == 4000
    assert found["log_loss"] == pytest.approx(metrics.log_loss(outcome, probs, labels=[0, 1, 2]))
    each = [metrics.brier_score_loss(votes[:, c], probs[:, c]) for c in range(3)]
    assert found["brier"] == pytest.approx(sum(each))


def test_shares_count_every_vote_of_a_row():
    """The loss of shares is the mean over single votes; the Brier score leaves out how these differ."""
    cast = [[1, 1, 0, -1, 1], [0], [-1, 0]]
    probs = np.array([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5]])
    votes = vote_shares(cast)
    np.testing.assert_allclose(votes[0], [0.6, 0.2, 0.2])
    differ = 1 - np.square(votes).sum(1)
    for loss, own in ((three_way_log_loss, 0), (three_way_brier, differ)):
        single = [
            np.mean([loss(p[None], vote_shares([[v]]))[0] for v in row])
            for p, row in zip(probs, cast, strict=True)
        ]
        np.testing.assert_allclose(loss(probs, votes) + own, single)


def test_true_probabilities_are_calibrated_and_beat_what_knows_nothing(draws):
    probs, _, votes = draws
    found = pl.evaluation.three_way(torch.from_numpy(probs), votes)
    for loss in ("log_loss", "brier"):
        assert found["floor"][loss] <= found[loss] < found["base_rates"][loss] < found["uniform"][loss]
    assert found["uniform"]["log_loss"] == pytest.approx(math.log(3))
    assert found["uniform"]["brier"] == pytest.approx(2 / 3)
    assert found["expected_calibration_error"] < 0.02
    for name, share in found["mean"]["observed"].items():
        assert found["mean"]["predicted"][name] == pytest.approx(share, abs=0.02)
        assert sum(found["calibration"][name]["reliability"]["count"]) == 4000


def test_too_many_ties_show_in_the_calibration(draws):
    """Ties at twice their share: worse than the base rates, and the error is the difference."""
    _, _, votes = draws
    shifted = np.tile([0.3, 0.47, 0.23], (len(votes), 1))
    found = pl.evaluation.three_way(shifted, votes)
    assert found["log_loss"] > found["base_rates"]["log_loss"]
    error = found["calibration"]["tie"]["expected_calibration_error"]
    assert error == pytest.approx(0.47 - votes[:, 1].mean())


def test_base_rates_can_be_those_of_the_fit(draws):
    probs, _, votes = draws
    rates = votes.mean(0)
    own = pl.evaluation.three_way(probs, votes)["base_rates"]["log_loss"]
    assert own == pytest.approx(-(rates * np.log(rates)).sum())
    other = pl.evaluation.three_way(probs, votes, base_rates=[0.2, 0.5, 0.3])["base_rates"]["log_loss"]
    assert other == pytest.approx(-(rates * np.log([0.2, 0.5, 0.3])).sum())
    assert other > own


def test_a_vote_that_was_called_impossible_costs_infinity_and_one_that_was_certain_nothing():
    assert pl.evaluation.three_way([[1, 0, 0]], [[0, 0, 1]])["log_loss"] == math.inf
    certain = pl.evaluation.three_way([[1, 0, 0]], [[1, 0, 0]])
    assert (certain["log_loss"], certain["brier"]) == (0, 0)


@pytest.mark.parametrize(
    ("probs", "votes", "message"),
    [
        ([[0.5, 0.5]], [[1, 0, 0]], "a row"),
        ([[0.5, 0.2, 0.2]], [[1, 0, 0]], "sum to 1"),
        ([[0.5, 0.7, -0.2]], [[1, 0, 0]], "at least 0"),
        ([[math.nan, 0.5, 0.5]], [[1, 0, 0]], "probs\\[0\\]"),
        ([[0.5, 0.3, 0.2]], [[3, 1, 1]], "Divide counts"),
        ([[0.5, 0.3, 0.2]], [[1, 0, 0], [0, 1, 0]], "one row per comparison"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "at least one"),
    ],
)
def test_what_is_not_a_share_is_refused(probs, votes, message):
    with pytest.raises(ArgumentError, match=message):
        pl.evaluation.three_way(probs, votes)
