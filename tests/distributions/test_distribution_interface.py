"""What holds for every representation: shapes, dtypes, slicing, moving, no reading of values, compilation."""

from __future__ import annotations

import copy
import functools
import pickle

import numpy as np
import pytest
import torch
from packaging.version import Version

from pluralign.distributions import (
    Categorical,
    Empirical,
    Ensemble,
    GaussianEnsemble,
    Point,
    Quantiles,
    gaussian,
    mixture,
    quadrature,
    vincentize,
)
from pluralign.errors import ArgumentError
from pluralign.risk import parse


def build(rows=4, dtype=torch.float32, device="cpu", validate=True):
    """One batch of each class."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(rows, 5, generator=generator).to(dtype).to(device)
    positive = values.abs().float() + 0.1
    keep = torch.tensor([True, True, False, True, False], device=device).expand(rows, 5)
    levels = torch.tensor([0.1, 0.2, 0.5, 0.7, 0.9], device=device)
    return {
        "point": Point(values[:, 0], validate=validate),
        "quantiles": Quantiles(values, levels, validate=validate),
        "ensemble": GaussianEnsemble(values, positive.to(dtype), validate=validate),
        "categorical": Categorical(positive / positive.sum(-1, keepdim=True), levels, validate=validate),
        "empirical": Empirical(values, keep, validate=validate),
        "members": Ensemble(
            [
                Quantiles(values, levels, validate=validate),
                Quantiles(values + 0.3 * positive.to(dtype), levels, validate=validate),
            ],
            validate=validate,
        ),
    }


MEASURES = [parse(m) for m in ("mean", "median", "cvar:0.4", "entropic:1", "exponential:0.5", "mean_std:1")]


def everything(distribution, other, target):
    """Every number that a distribution can give."""
    rows = target.shape[0]
    x = target.unsqueeze(-1).expand(rows, 3)
    return [
        *(measure(distribution) for measure in MEASURES),
        distribution.quantile(0.3),
        distribution.quantile(torch.tensor([0.3, 0.6], device=target.device)),
        distribution.cdf(target),
        distribution.cdf_left(x),
        distribution.crps(target),
        distribution.crps(x),
        distribution.prob_greater(other),
        distribution.wasserstein(other),
        distribution.scale_shift(2.0, target).mean(),
        distribution[1:3].mean(),
    ]


NAMES = sorted(build())
TARGET = torch.linspace(-1, 1, 4)


@functools.cache
def of_all_rows(name):
    """Every number that does not depend on how many rows there are."""
    return everything(build()[name], build()["ensemble"], TARGET)[:-1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_shapes(name, rows):
    distribution = build(rows)[name]
    assert distribution.batch_shape == (rows,)
    assert len(distribution) == rows
    for method in (
        distribution.mean,
        distribution.std,
        lambda: distribution.cvar(0.4),
        lambda: distribution.entropic(1.0),
        lambda: distribution.exponential(1.0),
    ):
        assert method().shape == (rows,)
    assert distribution.quantile(0.5).shape == (rows,)
    assert distribution.quantile(torch.tensor(0.5)).shape == (rows,)
    assert distribution.quantile(torch.tensor([0.1, 0.5, 0.9])).shape == (rows, 3)
    assert distribution.quantile([0.1, 0.5]).shape == (rows, 2)
    assert (
        distribution.cdf(0.0).shape
        == distribution.cdf(torch.zeros(())).shape
        == distribution.cdf(torch.zeros(rows)).shape
        == (rows,)
    )
    assert (
        distribution.cdf(torch.zeros(rows, 7)).shape
        == distribution.cdf_left(torch.zeros(rows, 7)).shape
        == (rows, 7)
    )
    assert distribution.sample(6).shape == (rows, 6)
    assert (
        distribution.crps(torch.zeros(rows)).shape == distribution.crps(torch.zeros(rows, 3)).shape == (rows,)
    )
    for other in build(rows).values():
        assert distribution.prob_greater(other).shape == distribution.wasserstein(other).shape == (rows,)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_follow_the_dtype_of_the_parameters(name, dtype):
    distribution = build(dtype=dtype)[name].to(dtype=dtype)
    target = torch.zeros(4, dtype=torch.float64)
    assert {result.dtype for result in everything(distribution, distribution, target)} == {dtype}
    assert distribution.sample(3).dtype == distribution.dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_widened_on_entry(name):
    distribution = build(dtype=torch.bfloat16)[name]
    assert distribution.dtype == torch.float32
    assert distribution.mean().isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "index",
    [
        slice(1, 3),
        slice(None, None, 2),
        torch.tensor([3, 0]),
        torch.tensor([True, False, True, True]),
        [False, True, True, False],
        np.array([2, -1]),
        2,
        -1,
        np.int64(-1),
        [],
    ],
)
def test_rows_are_independent_of_the_batch(name, index):
    distribution, target = build()[name], TARGET
    rows = slice(index, index + 1 or None) if isinstance(index, int | np.integer) else index
    part = everything(distribution[index], build()["ensemble"][index], target[rows])[:-1]
    for got, whole in zip(part, of_all_rows(name), strict=True):
        torch.testing.assert_close(got, whole[rows], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_an_argmax_picks_one_row(name):
    distribution = build()[name]
    best = distribution.mean().argmax()
    assert distribution[best].mean().tolist() == pytest.approx([distribution.mean().max().item()])


@pytest.mark.parametrize("name", NAMES)
def test_an_integer_out_of_range_ends_an_iteration(name):
    distribution = build()[name]
    with pytest.raises(IndexError, match="row 4 of a batch of 4"):
        distribution[4]
    assert [row.batch_shape for row in distribution] == [(1,)] * 4


@pytest.mark.parametrize("name", NAMES)
def test_copies_and_pickles(name):
    distribution = build()[name]
    for twin in (
        copy.deepcopy(distribution),
        pickle.loads(pickle.dumps(distribution)),
        distribution.to("cpu"),
        distribution.to(torch.float32),
    ):
        assert torch.equal(twin.quantile(0.4), distribution.quantile(0.4))


@pytest.mark.parametrize("name", NAMES)
def test_repr_shows_class_and_shapes(name):
    distribution = build()[name]
    assert repr(distribution).startswith(f"{type(distribution).__name__}(")
    assert "[4" in repr(distribution)
    assert "float32" in repr(distribution)


@pytest.mark.parametrize("name", NAMES)
def test_no_method_reads_values_without_validation(name, monkeypatch):
    """On the meta device there are no values: whatever would make the host wait for a GPU raises here."""
    for module, halvings in ((gaussian, "_BISECTIONS"), (quadrature, "_EXTREMUM"), (quadrature, "_ZERO")):
        assert getattr(module, halvings) > 2  # each does what the first does
        monkeypatch.setattr(module, halvings, 2)
    distributions = build(device="meta", validate=False)
    distribution = distributions[name]
    results = everything(distribution, distribution, torch.empty(4, device="meta"))
    results += [distribution.prob_greater(other) for other in distributions.values()]
    others = {"point", "ensemble"} - {name}  # one of its own kind is in `everything`
    results += [distribution.wasserstein(distributions[other]) for other in others]
    assert {result.device.type for result in results} == {"meta"}


def test_combining_reads_no_values_without_validation():
    values, gate = torch.empty(2, 3, 5, device="meta"), torch.empty(2, 3, device="meta")
    for combine in (vincentize, mixture):
        assert combine(values, gate, torch.empty(5, device="meta"), validate=False).mean().shape == (2,)


@pytest.fixture
def compiler(request: pytest.FixtureRequest) -> None:
    if Version(torch.__version__) < Version("2.13"):
        pytest.skip("torch.compile before 2.13 cannot read NamedTuples")
    if request.config.getoption("--jaxtyping-packages"):
        pytest.skip("torch.compile cannot read functions whose shapes are checked")


COMPILES = pytest.mark.usefixtures("compiler")
# The others take seconds each; `test_everything_compiles_without_graph_breaks` has them.
QUICK_TO_COMPILE = ("quantiles",)


def utilities(distribution):
    """What a training step asks for."""
    return [
        *(measure(distribution) for measure in MEASURES),
        distribution.prob_greater(distribution),
        distribution.crps(distribution.mean().detach()),
    ]


@COMPILES
@pytest.mark.parametrize("name", QUICK_TO_COMPILE)
def test_utilities_compile_without_graph_breaks(name):
    distribution = build(validate=False)[name]
    compiled = torch.compile(utilities, backend="eager", fullgraph=True)
    for got, want in zip(compiled(distribution), utilities(distribution), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.slow
@COMPILES
@pytest.mark.parametrize("name", NAMES)
def test_everything_compiles_without_graph_breaks(name):
    distribution, target = build(validate=False)[name], torch.linspace(-1, 1, 4)
    other = build(validate=False)["ensemble" if name != "ensemble" else "quantiles"]
    compiled = torch.compile(everything, backend="eager", fullgraph=True)
    for got, want in zip(
        compiled(distribution, other, target), everything(distribution, other, target), strict=True
    ):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.cvar(0.0), r"cvar must lie in \(0, 1\], received 0"),
        (lambda d: d.cvar(1.5), r"\(0, 1\]"),
        (lambda d: d.quantile(-0.1), r"\[0, 1\], received -0.1"),
        (lambda d: d.quantile(torch.tensor([0.5, 1.1])), r"\[0, 1\]"),
        (lambda d: d.quantile(float("nan")), r"\[0, 1\]"),
        (lambda d: d.quantile(torch.zeros(2, 2)), r"shape \[\] or \[T\], received \[2, 2\]"),
        (lambda d: d.entropic(float("inf")), "finite"),
        (lambda d: d.exponential(0.0), "positive"),
        (lambda d: d.exponential(-1.0), "positive"),
        (lambda d: d.cdf(torch.zeros(3)), r"shape \[\] or \[4\] or \[4, X\], received \[3\]"),
        (lambda d: d.cdf(float("nan")), "NaN"),
        (lambda d: d.cdf(torch.tensor([True])), "real numbers"),
        (lambda d: d.cdf("high"), "tensor of numbers, received str"),
        (lambda d: d.crps(torch.zeros(5)), "crps"),
        (lambda d: d.crps(torch.tensor([0.0, 1.0, float("nan"), 2.0])), "at least one rating"),
        (lambda d: d.scale_shift(0.0, 1.0), "scale must be positive"),
        (lambda d: d.scale_shift(1.0, float("inf")), "shift must be finite"),
        (lambda d: d.scale_shift(torch.ones(3), 1.0), "scale must have shape"),
        (lambda d: d.to(dtype=torch.float16), "float32 or float64"),
        (lambda d: d.prob_greater(Point([1.0])), r"\[4\] and \[1\]"),
        (lambda d: d.cvar("a"), r"\(0, 1\], received 'a'"),
        (lambda d: d.cvar(torch.tensor([0.1, 0.2])), r"\(0, 1\]"),
        (lambda d: d.entropic(None), "finite number, received None"),
        (lambda d: d.crps(torch.tensor([0.0, 1.0, float("inf"), 2.0])), "ratings must be finite"),
        (lambda d: d.sample(-1), "whole number of at least 0, received -1"),
        (lambda d: d.sample(1.5), "whole number of at least 0, received 1.5"),
        (lambda d: d.sample(2, generator=3), "torch.Generator, received int"),
        (lambda d: d.to("nosuch"), "unknown device 'nosuch'"),
        (lambda d: d[torch.tensor([True, False])], r"the mask must have shape \[4\], received \[2\]"),
        (lambda d: d[torch.tensor([0, 4])], r"rows \[0, 4\] of a batch of 4"),
        (lambda d: d[4], "row 4 of a batch of 4"),
        (lambda d: d[None], "received NoneType"),
        (lambda d: d[0, 0], "received tuple"),
        (lambda d: d[1.5], "received float"),
        (lambda d: d["a"], "received str"),
    ],
)
def test_bad_arguments_are_named(name, call, message):
    with pytest.raises(ArgumentError, match=message):
        call(build()[name])


EXTREMES = {
    "point": lambda s: Point([s]),
    "quantiles": lambda s: Quantiles([[s, 2 * s, 2 * s]], [0.2, 0.4, 0.9]),
    "ensemble": lambda s: GaussianEnsemble([[s, 2 * s]], [[s, 0.0]]),
    "categorical": lambda s: Categorical([[0.2, 0.5, 0.3]], [s, 2 * s, 0.0]),
    "empirical": lambda s: Empirical([[s, 3 * s, 3 * s]]),
    "members": lambda s: Ensemble([Quantiles([[s, 2 * s]], [0.2, 0.4]), Point([3 * s])]),
}


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_huge_and_tiny_rewards_scale_like_ordinary_ones(name, size):
    """In float32, where squares of 1e30 overflow and those of 1e-30 vanish."""
    distribution, unit = EXTREMES[name](size), EXTREMES[name](1.0)
    for method in (
        lambda d, s: d.mean(),
        lambda d, s: d.std(),
        lambda d, s: d.cvar(0.3),
        lambda d, s: d.quantile(0.3),
        lambda d, s: d.entropic(1.7 / s),
        lambda d, s: d.crps([0.7 * s]),
        lambda d, s: d.wasserstein(EXTREMES["quantiles"](s)),
    ):
        torch.testing.assert_close(method(distribution, size) / size, method(unit, 1.0), rtol=1e-5, atol=0)
    for other in EXTREMES:
        same = distribution.prob_greater(EXTREMES[other](size))
        torch.testing.assert_close(same, unit.prob_greater(EXTREMES[other](1.0)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("aversion", [1e-300, 1e-12, 1e-6, 1e-3])
def test_entropic_approaches_the_mean(name, aversion):
    """To first order it is mean - l variance / 2, with no digits lost to 1/l."""
    distribution = build(dtype=torch.float64)[name].to(dtype=torch.float64)
    want = distribution.mean() - aversion * distribution.std() ** 2 / 2
    torch.testing.assert_close(distribution.entropic(aversion), want, rtol=0, atol=1e-14 + 2 * aversion**2)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ensemble"])
@pytest.mark.parametrize("aversion", [1e3, 1e6, 1e12])
def test_entropic_approaches_the_minimum_and_the_maximum(name, aversion):
    distribution = build()[name]
    torch.testing.assert_close(
        distribution.entropic(aversion), distribution.quantile(0.0), rtol=0, atol=10 / aversion + 1e-6
    )
    torch.testing.assert_close(
        distribution.entropic(-aversion), distribution.quantile(1.0), rtol=0, atol=10 / aversion + 1e-6
    )


@pytest.mark.filterwarnings("ignore::pluralign.errors.TailWarning")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "ensemble"])
@pytest.mark.parametrize("tail", [1e-8, 1e-17, 1e-50, 1e-300])
def test_levels_that_float32_takes_for_0_or_1(name, tail):
    d = build()[name]
    for value, end in (
        (d.cvar(tail), d.quantile(0.0)),
        (d.quantile(tail), d.quantile(0.0)),
        (d.quantile(1 - tail), d.quantile(1.0)),
    ):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, end)


def test_point_masses_are_the_whole_distribution_or_there_are_none():
    for name, d in build(dtype=torch.float64).items():
        masses = d.point_masses()
        assert (masses is not None) == (name in ("point", "categorical", "empirical"))
        if masses is not None:
            rewards, probs = masses
            at = (rewards.unsqueeze(1) <= rewards.unsqueeze(2)).to(probs) @ probs.unsqueeze(-1)
            torch.testing.assert_close(d.cdf(rewards), at.squeeze(-1))
            torch.testing.assert_close(probs.sum(1), torch.ones(len(d), dtype=d.dtype))


def test_an_increasing_function_maps_quantiles_to_quantiles_where_the_class_can():
    for name, d in build(dtype=torch.float64).items():
        mapped = d.transformed(torch.exp)
        assert (mapped is None) == (name in ("ensemble", "members"))
        if mapped is not None:
            levels = torch.tensor([0.1, 0.2, 0.5, 0.7, 0.9], dtype=d.dtype)
            torch.testing.assert_close(mapped.quantile(levels), d.quantile(levels).exp())


def test_only_what_has_heads_names_them_and_only_a_point_is_one():
    for name, d in build().items():
        heads = d.heads()
        assert (heads is not None) == (name in ("ensemble", "members"))
        assert d.is_point == (name == "point")
        if heads is not None:
            torch.testing.assert_close((heads.weights * heads.means).sum(1), d.mean())
            assert heads.means.shape == heads.stds.shape == (4, 5 if name == "ensemble" else 2)
