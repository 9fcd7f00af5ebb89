"""Krippendorff's alpha against his worked example and the matrix of coincidences; the grid of ratings."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluralign.data import grid_step, krippendorff_alpha
from pluralign.errors import ArgumentError
from property_examples import examples

# Krippendorff 2011, section C: four observers, twelve units, with missing data ("." there, 0 here).
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]
UNITS = [[value for value in unit if value] for unit in zip(*OBSERVERS, strict=True)]


@pytest.mark.parametrize(("metric", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_the_published_example(metric: str, alpha: float) -> None:
    assert krippendorff_alpha(UNITS, metric) == pytest.approx(alpha, abs=5e-4)


def by_coincidences(units: list[list[float]], metric: str) -> float | None:
    """The paper's way: the matrix of coincidences, its margins n_c, and the metric's difference function."""
    coincidences: Counter[tuple[float, float]] = Counter()
    for unit in units:
        for c, k in itertools.permutations(unit, 2):
            coincidences[c, k] += 1 / (len(unit) - 1)
    margins: Counter[float] = Counter()
    for (c, _), count in coincidences.items():
        margins[c] += count
    values, n = sorted(margins), sum(margins.values())

    def delta(c: float, k: float) -> float:
        if metric == "nominal":
            return float(c != k)
        if metric == "interval":
            return (c - k) ** 2
        between = sum(margins[g] for g in values if min(c, k) <= g <= max(c, k))
        return (between - (margins[c] + margins[k]) / 2) ** 2

    observed = sum(count * delta(c, k) for (c, k), count in coincidences.items())
    expected = (
        sum(margins[c] * margins[k] * delta(c, k) for c in values for k in values) / (n - 1) if n > 1 else 0
    )
    return 1 - observed / expected if expected else None


@settings(max_examples=examples(80), deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([1.0, 2.0, 2.5, 4.0, 7.0]), max_size=5), max_size=8),
    st.sampled_from(["nominal", "ordinal", "interval"]),
)
def test_alpha_equals_the_coincidence_matrix(units: list[list[float]], metric: str) -> None:
    expected = by_coincidences(units, metric)
    found = krippendorff_alpha(units, metric)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-9))


def test_alpha_is_undefined_without_shared_items_or_without_variation() -> None:
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha([[1], [2]]) is None
    assert krippendorff_alpha([[3, 3], [3, 3]]) is None
    assert krippendorff_alpha([[1, 1], [5, 5]]) == pytest.approx(1.0)
    with pytest.raises(ArgumentError, match="metric"):
        krippendorff_alpha([[1, 2]], "ratio")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="not finite"):
        krippendorff_alpha([[1, float("nan")]])


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(1, 100), st.floats(-50, 50), st.floats(0.1, 100), st.data())
def test_the_step_divides_every_true_grid(steps: int, low: float, width: float, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, steps), min_size=2, max_size=20, unique=True))
    values = [min(low + width * i / steps, low + width) for i in places]
    step = grid_step(values, (low, low + width))
    assert step is not None
    # the coarsest grid: at least as coarse as the one the values were drawn from, and all values lie on it
    assert step >= width / steps * (1 - 1e-9)
    assert all(abs((v - low) / step - round((v - low) / step)) < 1e-3 for v in values)


@pytest.mark.parametrize(
    ("values", "scale", "step"),
    [
        ([1, 2, 3, 4, 5], (1, 5), 1.0),
        ([1, 1.5, 5], (1, 5), 0.5),
        ([1 / 3, 2 / 3], (0, 1), 1 / 3),
        ([0, 37, 100], (0, 100), 1.0),
        ([-1, 0, 1], (-1, 1), 1.0),
        ([0.123, 0.4567, 0.9], (0, 1), None),
        ([0.005, 0.5], (0, 1), None),  # 201 points
        ([3, 3, 3], (1, 5), None),
        ([], (1, 5), None),
    ],
)
def test_grid_steps(values: list[float], scale: tuple[float, float], step: float | None) -> None:
    assert grid_step(values, scale) == (None if step is None else pytest.approx(step))


def test_grid_step_refuses_what_is_off_the_scale() -> None:
    with pytest.raises(ArgumentError, match="outside the scale"):
        grid_step([0, 3], (1, 5))
    with pytest.raises(ArgumentError, match="outside the scale"):
        grid_step([2, float("nan")], (1, 5))
    with pytest.raises(ArgumentError, match="lowest < highest"):
        grid_step([1, 2], (5, 1))
