"""Novelty: against scikit-learn's neighbours, and what each source sees and does not see."""

from __future__ import annotations

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

import pluralign as pl
from fake_backbone import FakeBackbone, ratings_rows, vector
from pluralign.errors import ArgumentError
from pluralign.policy import Disagreement, TrainingDistance
from pluralign.policy.selection.novelty import neighbour_distances


def talk(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "p"}, {"role": "assistant", "content": text}]


def columns(texts: list[str]) -> dict[str, list]:
    return {"prompt": [talk("")[:1]] * len(texts), "completion": texts}


TRAINING = [f"{(i % 7) / 7:.3f} {(i % 5) / 5:.3f} t{i}" for i in range(60)]


@pytest.fixture(scope="module")
def model() -> pl.RewardModel:
    ratings = pl.load_ratings(ratings_rows(12))
    return pl.fit("regression", ratings=ratings, backbone=FakeBackbone())


def test_distances_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    training, points = (torch.randn(n, 4, generator=generator) for n in (300, 50))
    searched = NearestNeighbors(n_neighbors=5).fit(training.numpy())
    expected = searched.kneighbors(points.numpy())[0].mean(1)
    torch.testing.assert_close(neighbour_distances(points, training, 5), torch.tensor(expected))
    own = torch.arange(0, 300, 3)
    without_itself = torch.tensor(searched.kneighbors()[0].mean(1))[own]
    found = neighbour_distances(training[own], training, 5, own=own)
    torch.testing.assert_close(found, without_itself)


def test_what_lies_far_is_novel_and_what_lies_among_the_training_data_is_not(model):
    source = TrainingDistance(model, [talk(text) for text in TRAINING], neighbours=5)
    near, far, further = source(columns([TRAINING[3], "9 9 far", "90 90 further"]))
    assert near == 0.0
    assert 0 < far < further
    # equal texts have equal novelty, whatever stands beside them
    again = source(columns(["9 9 far", TRAINING[5], "9 9 far"]))
    assert again[0] == again[2] == pytest.approx(far)


def test_novelty_is_in_standard_deviations_of_the_training_datas_own(model):
    source = TrainingDistance(model, [talk(text) for text in TRAINING], neighbours=5)
    rows = torch.tensor([vector(text) for text in TRAINING], dtype=torch.float64)
    scale = rows.std(0, correction=0)
    searched = NearestNeighbors(n_neighbors=5).fit((rows / scale).numpy())
    own = searched.kneighbors()[0].mean(1)
    point = torch.tensor([vector("9 9 far")], dtype=torch.float64) / scale
    distance = searched.kneighbors(point.numpy())[0].mean()
    (found,) = source(columns(["9 9 far"]))
    assert found == pytest.approx((distance - own.mean()) / own.std(), rel=1e-4)


def test_the_description_changes_with_the_training_data(model):
    one = TrainingDistance(model, [talk(text) for text in TRAINING])
    other = TrainingDistance(model, [talk(text) for text in TRAINING[1:]])
    assert one.describe() == TrainingDistance(model, [talk(text) for text in TRAINING]).describe()
    assert one.describe() != other.describe()


def test_disagreement_is_the_spread_between_members():
    ratings = pl.load_ratings(ratings_rows(20))
    model = pl.fit("regression", ratings=ratings, backbone=FakeBackbone(), ensemble=3)
    texts = ["0 1 a", "40 1 b", "0 1 a"]
    found = Disagreement(model)(columns(texts))
    members = model.distribution([talk(text) for text in texts]).members()
    means = torch.stack([member.mean() for member in members], 1).double()
    torch.testing.assert_close(
        torch.tensor(found), means.std(1, correction=0), rtol=1e-4, atol=1e-6, check_dtype=False
    )
    assert found[0] == found[2] < found[1]


def test_what_has_no_novelty_is_refused(model):
    with pytest.raises(ArgumentError, match=r"needs several heads.*--ensemble 5"):
        Disagreement(model)(columns(["0 1 a"]))
    with pytest.raises(ArgumentError, match="at least 20 distinct training responses, received 3"):
        TrainingDistance(model, [talk(text) for text in TRAINING[:3]])
    with pytest.raises(ArgumentError, match="neighbours must be at least 1"):
        TrainingDistance(model, [talk(text) for text in TRAINING], neighbours=0)
    with pytest.raises(ArgumentError, match="same embedding"):
        TrainingDistance(model, [talk("1 1 same")] * 30)
