"""Proper scores and smoothing of categories, against torch, distributions and derived values."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from pluralign.distributions import Categorical
from pluralign.errors import ArgumentError
from pluralign.losses import cross_entropy, ranked_probability_score, smooth_neighbours, transport

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 4, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randn(6, 4, generator=GENERATOR, dtype=torch.float64).softmax(-1)
ATOMS = torch.tensor([2.0, 0.0, 5.0, 0.5], dtype=torch.float64)


def test_cross_entropy_is_torchs():
    expected = torch.nn.functional.cross_entropy(LOGITS, TARGET, reduction="none")
    torch.testing.assert_close(cross_entropy(LOGITS, TARGET), expected)
    far = torch.tensor([[0.0, -1000.0]])
    assert cross_entropy(far, torch.tensor([[0.0, 1.0]])).item() == 1000
    assert cross_entropy(LOGITS.half(), TARGET.half()).dtype == torch.float32


def test_rps_of_one_vote_is_the_crps():
    votes = torch.arange(6) % 4
    expected = Categorical(LOGITS.softmax(-1), ATOMS).crps(ATOMS[votes])
    ours = ranked_probability_score(LOGITS.softmax(-1), torch.eye(4, dtype=torch.float64)[votes], ATOMS)
    torch.testing.assert_close(ours, expected)


def test_rps_without_atoms_is_epsteins():
    probs, target = torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([[0.0, 1.0, 0.0]])
    assert ranked_probability_score(probs, target).item() == pytest.approx(0.2**2 + 0.3**2)


def minimiser(loss, raters, truth=0.4):
    """Which share of the second category is best in expectation over votes of so many raters."""
    grid = torch.linspace(0, 1, 301, dtype=torch.float64)
    probs = torch.stack([1 - grid, grid], 1)
    total = torch.zeros(301, dtype=torch.float64)
    for votes in range(raters + 1):
        chance = torch.distributions.Binomial(raters, torch.tensor(truth)).log_prob(
            torch.tensor(float(votes))
        )
        target = torch.tensor([1 - votes / raters, votes / raters], dtype=torch.float64).expand(301, 2)
        total += chance.exp() * loss(probs, target)
    return grid[total.argmin()].item()


@pytest.mark.parametrize(("raters", "share"), [(1, 0.0), (3, 1 / 3), (5, 0.4)])
def test_transport_is_not_a_proper_score_for_few_raters_and_rps_is(raters, share):
    atoms = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert minimiser(lambda p, t: transport(p, t, atoms=atoms), raters) == pytest.approx(share, abs=0.002)
    assert minimiser(lambda p, t: ranked_probability_score(p, t, atoms), raters) == pytest.approx(
        0.4, abs=0.002
    )


def test_smoothing_moves_mass_to_neighbours_and_loses_none():
    target = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0.5, 0.5]], dtype=torch.float64)
    expected = torch.tensor([[0.8, 0.2, 0, 0], [0, 0.05, 0.5, 0.45]], dtype=torch.float64)
    torch.testing.assert_close(smooth_neighbours(target, 0.2), expected)
    torch.testing.assert_close(smooth_neighbours(TARGET, 0.3).sum(-1), torch.ones(6, dtype=torch.float64))
    assert torch.equal(smooth_neighbours(TARGET, 0.0), TARGET)
    lonely = torch.zeros(4, 4, dtype=torch.bool)
    lonely[0, 1] = lonely[1, 0] = True
    torch.testing.assert_close(smooth_neighbours(target[1:], 0.2, lonely), target[1:])


def test_gradients():
    logits = LOGITS.clone().requires_grad_()
    assert gradcheck(lambda x: cross_entropy(x, TARGET), logits)
    assert gradcheck(lambda x: ranked_probability_score(x.softmax(-1), TARGET, ATOMS), logits)


def test_bad_input_is_named():
    for call, message in (
        (lambda: cross_entropy(LOGITS[:2], TARGET), "needs logits"),
        (lambda: cross_entropy(LOGITS * float("nan"), TARGET), "logits must be finite"),
        (lambda: cross_entropy(LOGITS, 2 * TARGET), "sum to 1"),
        (lambda: ranked_probability_score(TARGET, TARGET[:2]), "one shape"),
        (lambda: ranked_probability_score(TARGET, TARGET, ATOMS[:2]), r"needs atoms \[4\]"),
        (lambda: smooth_neighbours(TARGET, 1.0), r"\[0, 1\)"),
        (lambda: smooth_neighbours(TARGET, 0.1, torch.zeros(2, 2)), "neighbours must have"),
        (lambda: smooth_neighbours(-TARGET, 0.1), "negative"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
