"""The two exact solvers for any cost against POT: shortest paths, and vertices of the dual."""

from __future__ import annotations

from math import comb

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign.losses import _dual_vertices, _exact_transport, transport, two_axis_cost
from property_examples import examples


@st.composite
def problems(draw, most):
    """Four distributions with zeros on either side, and a cost, with ties or without."""
    size = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    sides = []
    for _ in range(2):
        counts = rng.integers(0, 4, (4, size)).astype(float)
        counts[:, 0] += counts.sum(1) == 0
        sides.append(torch.from_numpy(counts / counts.sum(1, keepdims=True)))
    half = rng.integers(0, 3, (size, size)) if draw(st.booleans()) else rng.random((size, size))
    return *sides, torch.from_numpy((half + half.T).astype(float))


def check(plan, supply, demand, cost):
    """The minimum, and potentials that are allowed and reach it: together a proof."""
    for row in range(len(supply)):
        expected = ot.emd2(supply[row].numpy(), demand[row].numpy(), cost.numpy())
        assert plan.value[row].item() == pytest.approx(expected, abs=1e-12)
    reached = (plan.source * supply).sum(1) + (plan.sink * demand).sum(1)
    torch.testing.assert_close(reached, plan.value, atol=1e-12, rtol=0)
    assert float((plan.source[:, :, None] + plan.sink[:, None] - cost).max()) <= 1e-9


@settings(max_examples=examples(50))
@given(problems(9))
def test_shortest_paths(problem):
    check(_exact_transport.solve(*problem), *problem)


@settings(max_examples=examples(40))
@given(problems(5))
def test_vertices_of_the_dual(problem):
    supply, demand, cost = problem
    check(_dual_vertices.solve(supply, demand, _dual_vertices.vertices(cost)), *problem)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_there_are_as_many_vertices_as_there_can_be(size):
    """Generic costs have nearly (2C - 2 over C - 1); Lipschitz functions on a path have 2^(C-1)."""
    rng = np.random.default_rng(size)
    most = comb(2 * size - 2, size - 1)
    assert most / 2 <= len(_dual_vertices.vertices(torch.from_numpy(rng.random((size, size))))) <= most
    path = torch.arange(size, dtype=torch.float64)
    found = _dual_vertices.vertices((path[:, None] - path).abs())
    lipschitz = {
        tuple((f - f[0]).tolist()) for f in found[:, :size] if torch.equal(f.diff().abs(), f.diff() ** 0)
    }
    assert len(lipschitz) == 2 ** (size - 1)


def test_large_batches_are_solved_in_parts(monkeypatch):
    cost = two_axis_cost(torch.tensor([1.0, 0.5, 0.0]), torch.tensor([0.0, 1.0, 0.0])).double()
    p, t = torch.rand(2, 50, 3, dtype=torch.float64).softmax(-1)
    whole = transport(p, t, cost=cost)
    monkeypatch.setattr(_dual_vertices, "_CHUNK_ROWS", 7)
    torch.testing.assert_close(transport(p, t, cost=cost), whole, atol=1e-14, rtol=0)


def test_costs_that_are_nearly_equal_are_left_to_shortest_paths():
    """Differences below the disturbance: its tight constraints need not be those of the cost."""
    rng = np.random.default_rng(0)
    half = 1e-7 * rng.random((5, 5))
    cost = torch.from_numpy(1 + half + half.T)
    assert _dual_vertices.vertices(cost) is None
    p, t = torch.rand(2, 6, 5, dtype=torch.float64).softmax(-1)
    expected = [ot.emd2(a, b, cost.numpy()) for a, b in zip(p.numpy(), t.numpy(), strict=True)]
    np.testing.assert_allclose(transport(p, t, cost=cost).numpy(), expected, atol=1e-12)
