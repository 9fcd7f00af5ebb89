"""What is logged of a batch: a win is a difference beyond rounding."""

from __future__ import annotations

import pytest
import torch

from pluralign.policy.offline.measurements import RunningMeans, batch_values
from pluralign.policy.offline.objectives import Responses, Settings

TOKENS = torch.tensor([50, 50, 50, 5])
REFERENCE = torch.tensor([-120.0, -120.0, -120.0, -0.5])
KEEP = torch.ones(4, dtype=torch.bool)


def sides(difference, reference=REFERENCE):
    """Chosen responses whose log-probability is the rejected one's plus a difference."""
    log_probs = torch.full((4,), -120.0) if reference is None else reference
    return {
        "chosen": Responses(log_probs + torch.as_tensor(difference), TOKENS, reference),
        "rejected": Responses(log_probs, TOKENS, reference),
    }


def measured(sides, **settings):
    return batch_values(sides, torch.zeros(4), torch.zeros(4), Settings(**settings))


@pytest.mark.parametrize("length_normalized", [False, True])
@pytest.mark.parametrize("beta", [0.01, 1.0, 100.0])
def test_only_differences_beyond_rounding_count(beta, length_normalized):
    settings = {"beta": beta, "length_normalized": length_normalized}
    last_place = torch.tensor([1.0, -1.0, 0.0, 1.0]) * REFERENCE.abs() * torch.finfo(torch.float32).eps
    assert measured(sides(last_place), **settings)["rewards/accuracies"].tolist() == [0.5] * 4
    clear = measured(sides([0.01, -0.01, 0.0, 1e-4]), **settings)
    assert clear["rewards/accuracies"].tolist() == [1.0, 0.0, 0.5, 1.0]


def test_without_a_reference_too():
    last_place = measured(sides([1e-5, -1e-5, 0.0, 0.0], None), beta=2.0)
    assert last_place["rewards/accuracies"].tolist() == [0.5] * 4
    clear = measured(sides([0.01, -0.01, 0.0, 0.01], None), beta=2.0)
    assert clear["rewards/accuracies"].tolist() == [1.0, 0.0, 0.5, 1.0]


def test_sides_of_unequal_length_are_compared_by_their_own_rounding():
    rows = sides([0.01, -0.01, 0.0, 0.01], None)
    short = Responses(rows["rejected"].log_probs, torch.tensor([40, 60, 50, 5]))
    assert measured(rows | {"rejected": short}, beta=2.0)["rewards/accuracies"].tolist() == [
        1.0,
        0.0,
        0.5,
        1.0,
    ]


def test_the_mean_counts_a_half_where_nothing_differs():
    means = RunningMeans()
    means.add(measured(sides([0.0, 0.0, 0.1, 0.1]), beta=0.1), KEEP)
    assert means.take()["rewards/accuracies"] == 0.75
