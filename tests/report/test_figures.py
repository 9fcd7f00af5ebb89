"""Pictures: what they hold, that nothing overlaps, that they repeat byte for byte, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from pluralign.errors import ArgumentError, MissingDependencyError
from pluralign.report import figures
from pluralign.report.density import _SMOOTHING, density
from pluralign.report.figures import distributions_figure

matplotlib = pytest.importorskip("matplotlib")

LEVELS = np.arange(1, 20) / 20
LABELS = ["A short answer.", "A long answer " + "with many words in it " * 12, "price: $x$ & <b>"]
TRUE = np.array([np.linspace(-1, 1, 19), np.linspace(-2, 2, 19), 1 + np.linspace(-0.2, 0.2, 19)])
PREDICTED = TRUE + 0.1
OBSERVED = [[0.0, 0.0, 1.0], [2.0], [1.0, 1.0]]


def draw(path, **options):
    arguments = {"true": TRUE, "observed": OBSERVED} | options
    return distributions_figure(path, LEVELS, PREDICTED, LABELS, (-3, 3), **arguments)


def texts(svg):
    root = ElementTree.parse(svg).getroot()
    return [
        "".join(node.itertext()).strip()
        for node in root.iter("{http://www.w3.org/2000/svg}text")
        if node is not root
    ]


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib figures of the calls in a test, which are caught instead of written."""
    caught = []
    monkeypatch.setattr(figures, "save", lambda figure, *rest: caught.append(figure))
    return caught


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_same_input_gives_the_same_bytes_and_nothing_is_left_behind(theme, tmp_path):
    svg, png = draw(tmp_path / "a" / "one.svg", theme=theme)
    again = draw(tmp_path / "a" / "two", theme=theme)
    assert svg.read_bytes() == again[0].read_bytes()
    assert png.read_bytes() == again[1].read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["one.png", "one.svg", "two.png", "two.svg"]
    assert b"dc:date" not in svg.read_bytes()


def test_svg_text_is_text_and_user_text_is_taken_literally(tmp_path):
    svg, _ = draw(tmp_path / "figure", title="Crowd $100$")
    found = texts(svg)
    assert {"Crowd $100$", "A short answer.", "price: $x$ & <b>", "true distribution", "ratings"} <= set(
        found
    )
    assert any(line.endswith("…") for line in found)


def test_legend_names_only_what_is_drawn(tmp_path):
    svg, _ = draw(tmp_path / "figure", true=None, observed=None)
    assert "predicted by the model" in texts(svg)
    assert not {"true distribution", "ratings"} & set(texts(svg))


def test_point_estimates_are_strokes_at_their_place(drawn, tmp_path):
    draw(tmp_path / "figure", points=[-0.5, 0.0, 1.25])
    (figure,) = drawn
    strokes = [c for axes in figure.axes for c in axes.collections if type(c).__name__ == "LineCollection"]
    assert [float(s.get_segments()[0][0, 0]) for s in strokes] == [-0.5, 0.0, 1.25]
    assert "point estimate" in [text.get_text() for text in figure.texts]
    draw(tmp_path / "figure")
    assert "point estimate" not in [text.get_text() for text in drawn[1].texts]


def test_ranges_are_the_quantiles_on_a_level_line(drawn, tmp_path):
    draw(tmp_path / "figure", true=None, observed=None, ranges=True)
    rows = [axes for axes in drawn[0].axes if axes.get_xlim() == (-3, 3) and len(axes.lines) == 3]
    assert len(rows) == len(LABELS)
    for axes, quantiles in zip(rows, PREDICTED, strict=True):
        for line in axes.lines[1:]:
            np.testing.assert_allclose(line.get_xdata(), quantiles)
            assert len(set(line.get_ydata())) == 1


def test_png_is_800_pixels_wide_at_twice_the_density(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    assert image.imread(draw(tmp_path / "figure")[1]).shape[1] == 1600


@pytest.mark.parametrize("letters", ["W" * 200, "wide words " * 30, "MMMM " * 40])
def test_labels_stay_in_their_column_and_rows_do_not_touch(letters, drawn):
    labels = [letters] * 4
    distributions_figure("unused", LEVELS, np.tile(TRUE[0], (4, 1)), labels, (-3, 3))
    figure = drawn[0]
    column = min(axes.get_window_extent().x0 for axes in figure.axes if axes.get_xlim() == (-3, 3))
    boxes = [text.get_window_extent() for text in figure.texts]
    labelled = [
        box for text, box in zip(figure.texts, boxes, strict=True) if text.get_text().startswith(letters[:4])
    ]
    assert len(labelled) == 4
    assert all(box.x1 < column for box in labelled)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_curve_is_the_distribution_smoothed():
    stats = pytest.importorskip("scipy.stats")
    x = np.linspace(-6, 6, 401)
    levels = np.arange(1, 1000) / 1000
    smooth = density(stats.norm.ppf(levels), levels, x)
    kernel = _SMOOTHING * 12
    np.testing.assert_allclose(smooth, stats.norm.pdf(x, scale=np.hypot(1, kernel)), atol=2e-3)
    coarse = density(np.array([-1.0, 2.0]), np.array([0.25, 0.75]), x)
    step = x[1] - x[0]
    assert coarse.sum() * step == pytest.approx(1, abs=1e-6)
    # atoms of 1/4 at both ends and the rest uniform between them: mean 1/2
    assert (coarse * x).sum() * step == pytest.approx(0.5, abs=step)


def test_crossing_quantiles_are_drawn_sorted(tmp_path):
    crossed = PREDICTED[:, ::-1]
    a = distributions_figure(tmp_path / "a", LEVELS, PREDICTED, LABELS, (-3, 3))
    b = distributions_figure(tmp_path / "b", LEVELS, crossed, LABELS, (-3, 3))
    assert a[0].read_bytes() == b[0].read_bytes()


def test_settings_of_the_user_neither_matter_nor_change(tmp_path):
    plain = draw(tmp_path / "plain")[0].read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        assert draw(tmp_path / "loud")[0].read_bytes() == plain
        assert dict(matplotlib.rcParams) == before


def test_a_failed_write_keeps_the_old_picture(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    svg, _ = draw(tmp_path / "figure")
    old = svg.read_bytes()

    def broken(self, target, **options):
        target.write_text("half a pic")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        draw(tmp_path / "figure", title="new")
    assert svg.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 2


def test_names_with_dots_keep_them(tmp_path):
    assert [p.name for p in draw(tmp_path / "run.v1.2")] == ["run.v1.2.svg", "run.v1.2.png"]


def test_without_matplotlib_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'pluralign\[report\]'"):
        draw(tmp_path / "figure")


def test_import_is_lazy():
    code = "import sys, pluralign.report.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda p: draw(p, true=TRUE[:2]), "shape"),
        (lambda p: draw(p, true=np.full_like(TRUE, np.nan)), "finite"),
        (lambda p: draw(p, observed=[[1.0]]), "one list per label"),
        (lambda p: draw(p, ranges=True), "pass only one of them"),
        (lambda p: draw(p, points=[1.0]), r"points must have shape \[3 labels\]"),
        (lambda p: draw(p, points=[1.0, 2.0, np.inf]), "points has a value that is not finite"),
        (lambda p: draw(p, theme="blue"), "light, dark"),
        (lambda p: distributions_figure(p, LEVELS[::-1], PREDICTED, LABELS, (-3, 3)), "increasing"),
        (lambda p: distributions_figure(p, LEVELS, PREDICTED, LABELS, (3, 3)), "scale"),
        (lambda p: distributions_figure(p, LEVELS, PREDICTED[:0], [], (-3, 3)), "at least one"),
    ],
)
def test_illegal_arguments(call, match, tmp_path):
    with pytest.raises(ArgumentError, match=match):
        call(tmp_path / "figure")
    assert list(tmp_path.iterdir()) == []
