"""The numbers behind the page's pictures, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralign.report.frame import Frame, ticks
from pluralign.report.pictures import accuracy_ends, lowest_coverage, quantile, response_picture, steps


def test_a_frame_maps_its_corners():
    frame = Frame(340, 200, (1, 5), (0, 2), left=40, right=10, top=5, bottom=20)
    assert (frame.px(1), frame.px(5), frame.py(0), frame.py(2)) == (40, 330, 180, 5)
    assert frame.points([1, 3], [0, 1]) == "40,180 185,92.5"
    assert (frame.px(-9), frame.py(9)) == (40, 5)  # what lies outside is drawn on the border


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1, 5, [1, 2, 3, 4, 5]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.48, 0.72, [0.5, 0.55, 0.6, 0.65, 0.7]),
        (-3, 120, [0, 50, 100]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == expected


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(1, 9))
def test_ticks_lie_inside_and_are_few(low, width, about):
    found = ticks(low, low + width, about)
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in found)
    assert len(found) <= about + 1


def test_outline_of_a_histogram():
    assert steps([0, 1, 2], [0.3, 0.7]) == ([0, 0, 1, 1, 2, 2], [0.0, 0.3, 0.3, 0.7, 0.7, 0.0])


def test_a_picture_of_a_response():
    entry = {
        "scale": (1, 5),
        "levels": [0.25, 0.5, 0.75],
        "predicted": {"m": [4.0, 3.0, 2.0]},
        "true": [1.0, 5.0],
        "ratings": [2, 5, 2, 9],
    }
    picture = response_picture(entry)
    assert picture["ends"] == (0.5, 5.5)
    assert picture["dots"] == [(2, 0), (2, 1), (5, 0), (5.5, 0)]
    assert picture["depth"] == 2
    law = picture["distributions"]["m"]
    assert law["quantiles"] == [2.0, 3.0, 4.0]
    assert np.trapezoid(law["y"], law["x"]) == pytest.approx(1, abs=1e-3)
    x, y = np.array(picture["truth"]["x"]), np.array(picture["truth"]["y"])
    below = np.trapezoid(np.where(x < 1.5, y, 0), x)  # 1/3 lies at 1, and 1/3 is spread over 1 to 5
    assert below == pytest.approx(1 / 3 + 1 / 3 / 8, abs=0.02)
    assert picture["top"] == max(law["top"], picture["truth"]["top"])
    bare = response_picture(entry | {"ratings": None, "true": None})
    assert (bare["dots"], bare["depth"], bare["truth"]) == ([], 0, None)


def test_ends_of_axes():
    assert lowest_coverage([{"model": 0.9}, {"model": 0.95, "constant": 0.85}]) == 0.8
    assert lowest_coverage([{"model": 0.5, "constant": 0.9}]) == pytest.approx(0.48)
    assert lowest_coverage([{"model": 0.0}]) == 0.0
    sure = {"accuracy": {"model": {"estimate": 1.0, "low": None, "high": None}}}
    low, high = accuracy_ends({"m": sure})
    assert low < 0.5 < high == 1.0


def test_quantiles_between_levels():
    assert quantile([3.0, 1.0], [0.25, 0.75], 0.5) == 2.0
    assert quantile([1.0, 3.0], [0.25, 0.75], 0.1) == 1.0
