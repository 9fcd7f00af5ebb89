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
        "grid": {},
        "true": [1.0, 5.0],
        "ratings": [2, 5, 2, 9],
    }
    picture = response_picture(entry)
    assert picture["ends"] == (0.5, 5.5)
    assert picture["dots"] == [(2, 0), (2, 1), (5, 0), (5.5, 0)]
    assert picture["depth"] == 2
    distribution = picture["distributions"]["m"]
    assert distribution["quantiles"] == [2.0, 3.0, 4.0]
    assert np.trapezoid(distribution["y"], distribution["x"]) == pytest.approx(1, abs=1e-3)
    x, y = np.array(picture["truth"]["x"]), np.array(picture["truth"]["y"])
    below = np.trapezoid(np.where(x < 1.5, y, 0), x)  # 1/3 lies at 1, and 1/3 is spread over 1 to 5
    assert below == pytest.approx(1 / 3 + 1 / 3 / 8, abs=0.02)
    assert picture["top"] == max(distribution["top"], picture["truth"]["top"])
    bare = response_picture(entry | {"ratings": None, "true": None})
    assert (bare["dots"], bare["depth"], bare["truth"]) == ([], 0, None)


def test_bars_on_a_grid_have_the_area_of_their_shares():
    shares = [0.1, 0.2, 0.3, 0.4]
    entry = {
        "scale": (0, 6),
        "levels": [0.1, 0.5],
        "predicted": {"m": [0.0, 4.0], "n": [0.0, 6.0]},
        "grid": {name: {"ratings": [0, 2, 4, 6], "shares": shares} for name in ("m", "n")},
        "true": [-1.0, 1.0, 3.0, 7.0],  # at levels .2, .4, .6, .8
        "ratings": None,
    }
    picture = response_picture(entry)
    assert picture["ends"] == (-1, 7)
    assert (picture["distributions"], picture["truth"]) == ({}, None)
    m, n = (picture["bars"][name] for name in ("m", "n"))
    assert [height * 2 for _, _, height in m] == pytest.approx(shares)
    assert [a[1] for a in m] == pytest.approx([b[0] for b in n])  # side by side in a cell
    assert all(left < right for left, right, _ in (*m, *n))
    assert all(b[1] < a[0] for a, b in zip(m[1:], n, strict=False))  # cells are apart
    assert [0.5 * (a[0] + b[1]) for a, b in zip(m, n, strict=True)] == pytest.approx([0, 2, 4, 6])
    # below 1: .4; up to 3: .6; up to 5: half way from .6 to .8; all the rest above
    assert [height * 2 for _, _, height in picture["true_bars"]] == pytest.approx([0.4, 0.2, 0.1, 0.3])
    assert picture["top"] == pytest.approx(0.2)
    mixed = response_picture(entry | {"grid": {"m": entry["grid"]["m"]}})
    assert list(mixed["distributions"]) == ["n"]
    assert mixed["truth"] is not None
    assert mixed["true_bars"] == []


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
