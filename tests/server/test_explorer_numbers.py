"""What the explorer computes, without HTTP: curves, ranks, parameters, what is kept, charts, commands."""

from __future__ import annotations

import json
import math
import shlex
from typing import Any

import pytest
import torch
from scipy import stats

import pluralign as pl
from explorer_client import exported, fields, post
from fake_backbone import FakeBackbone, ratings_rows, talk
from http_server import running
from pluralign.cli.main import main
from pluralign.distributions import Ensemble
from pluralign.heads import HeadInputs
from pluralign.risk.parsing import MEASURES
from pluralign.server.app import build
from pluralign.server.batching import Item
from pluralign.server.config import ServerConfig
from pluralign.server.explorer import repeat
from pluralign.server.explorer.charts import apart, charts, parameter_chart
from pluralign.server.explorer.choices import CHOICES, choice_of
from pluralign.server.explorer.facts import Facts, Scale
from pluralign.server.explorer.form import Settings
from pluralign.server.explorer.seen import LEVELS, along, density, ranks, seen
from pluralign.server.explorer.shelf import Shelf
from pluralign.server.explorer.words import persona_lines, ranking_words, spread_words
from pluralign.server.kept import Kept, Prediction, predicted
from pluralign.server.scoring import Predictor
from tiny_backbones import tiny_decoder

FACTS = Facts("runs/quality", "model", "mean", (Scale("a0", 1, 5), Scale("a 1", 1, 5)), True)
GAUSSIAN = pl.GaussianEnsemble([[0.0, 0.0], [1.0, 3.0]], [[1.0, 1.0], [0.5, 0.5]])


def of(*blocks: pl.distributions.RewardDistribution, **more: Any) -> Prediction:
    return Prediction(list(blocks), truncated=[False] * sum(map(len, blocks)), **more)


def test_curves_are_the_smoothed_density():
    """Of a Gaussian it is that of the Gaussian with the kernel's variance added."""
    found = density([pl.GaussianEnsemble([[0.5]], [[1.0]], validate=True)])
    x = found["x"]
    width = 0.012 * (x[-1] - x[0])
    expected = stats.norm(0.5, math.hypot(1.0, width)).pdf(x)
    assert found["curves"][0] == pytest.approx(expected.tolist(), abs=2e-4)


def test_curves_hold_all_of_the_probability_and_atoms_where_they_are():
    spread = pl.Quantiles([[-2.0, 0.0, 1.0], [4.0, 4.1, 9.0]], [0.1, 0.5, 0.9])
    atoms = pl.Categorical([[0.25, 0.0, 0.75]], [-1.0, 0.0, 2.0])
    found = density([spread, atoms])
    step = found["x"][1] - found["x"][0]
    for curve in found["curves"]:
        assert sum(curve) * step == pytest.approx(1.0, abs=1e-6)
    low = sum(y for x, y in zip(found["x"], found["curves"][2], strict=True) if x < 0.5)
    assert low * step == pytest.approx(0.25, abs=1e-6)


def test_blocks_do_not_matter():
    whole = pl.GaussianEnsemble(torch.randn(5, 2), torch.rand(5, 2) + 0.1)
    measure = pl.risk.parse("cvar:0.3")
    together = seen(of(whole), measure, FACTS)
    apart = seen(of(whole[:1], whole[1:4], whole[4:]), measure, FACTS)
    for one, other in zip(together["responses"], apart["responses"], strict=True):
        for name, value in one.items():
            assert other[name] == pytest.approx(value, abs=1e-6), name
    for one, other in zip(together["curves"]["curves"], apart["curves"]["curves"], strict=True):
        assert other == pytest.approx(one, abs=1e-6)


def test_numbers_are_those_of_the_distribution():
    found = seen(of(GAUSSIAN), pl.risk.parse("worst_case"), FACTS)
    assert [row["utility"] for row in found["responses"]] == [0.0, 1.0]
    assert [row["rank"] for row in found["responses"]] == [2, 1]
    assert found["order"] == [2, 1]
    assert found["responses"][0]["below_average"] == pytest.approx(0.5, abs=1e-6)
    assert found["responses"][1]["within_std"] == pytest.approx(0.5, abs=1e-6)
    assert found["responses"][1]["between_std"] == pytest.approx(1.0, abs=1e-6)
    median = found["responses"][0]["quantiles"][LEVELS.index(0.5)]
    assert median == pytest.approx(0.0, abs=1e-5)
    assert "0% to 80%" in spread_words(found)[0]
    assert {one["risk"] for one in found["winners"]} >= {"mean", "cvar:0.1", "worst_case", "uwo:1"}
    assert all(one["first"] == [2] for one in found["winners"])
    json.dumps(found, allow_nan=False)


def test_equal_utilities_share_a_rank():
    assert ranks([1.0, 1.0 + 1e-9, 0.0, 2.0]) == [2, 2, 4, 1]
    assert ranks([1e6, 1e6 + 0.1]) == [1, 1]
    found = seen(of(pl.Point([1.0, 1.0])), pl.risk.parse("mean"), FACTS)
    assert ranking_words(found).startswith("Ranked by mean: 1. Response 1 (1.00), 1. Response 2")


def test_the_first_of_all_are_those_of_rank_one():
    for values in ([1.0, 1.0 + 1e-9, 0.0], [1e6, 1e6 + 0.1, 5.0], [-3.0], [0.0, -1e-7, -1e-5]):
        found = seen(of(pl.Point(torch.tensor(values, dtype=torch.float64))), pl.risk.parse("mean"), FACTS)
        people = {"one": [pl.Point(torch.tensor(values, dtype=torch.float64))]}
        persona = seen(of(pl.Point(values), personas=people), pl.risk.parse("mean"), FACTS)["personas"][0]
        first = [row["number"] for row in found["responses"] if row["rank"] == 1]
        assert persona["favourites"] == first


def test_over_the_parameter_utilities_are_the_measures():
    found = along([GAUSSIAN], pl.risk.parse("cvar:0.005"), [1, 2])
    assert found is not None
    assert found["at"][0] == 0.005  # below the slider's own range, which is wider then
    assert found["at"][-1] == 1.0
    for row, values in enumerate(found["utilities"]):
        expected = [float(GAUSSIAN.cvar(at)[row]) for at in found["at"]]
        assert values == pytest.approx(expected, abs=1e-6)
    assert along([GAUSSIAN], pl.risk.parse("mean"), [1, 2]) is None
    assert along([GAUSSIAN], pl.risk.parse("worst_case(cvar:0.1)"), [1, 2]) is None


def test_labels_stand_apart_in_their_order():
    assert apart([0.5, 0.0, 0.52, 3.0, 0.54], 0.1) == pytest.approx([0.5, 0.0, 0.6, 3.0, 0.7])
    assert apart([2.0], 1.0) == [2.0]
    found = along([GAUSSIAN], pl.risk.parse("cvar:0.5"), [1, 2])
    found["utilities"][1] = found["utilities"][0]
    labels = parameter_chart(found)["layer"][-1]["data"]["values"]
    assert labels[0]["utility"] < labels[1]["utility"]


def test_every_measure_is_offered_and_its_slider_stays_where_it_applies():
    assert [choice.name for choice in CHOICES] == list(MEASURES)
    for choice in CHOICES:
        assert choice.compares_members == MEASURES[choice.name].compares_heads
        if choice.has_parameter:
            for value in (choice.low, choice.start, choice.high):
                pl.risk.parse(f"{choice.name}:{value}")
        else:
            pl.risk.parse(choice.name)
    assert choice_of("worst_case(cvar:0.1)") is None


def test_personas_object_below_zero():
    people = {"strict": [pl.Point([-0.5, 0.25])], "kind": [pl.Point([2.0]), pl.Point([1.0])]}
    found = seen(of(pl.Point([3.0, 1.0]), personas=people), pl.risk.parse("mean"), FACTS)
    strict, kind = found["personas"]
    assert [cell["objects"] for cell in strict["responses"]] == [True, False]
    assert (strict["favourites"], kind["favourites"]) == ([2], [1])
    (line,) = persona_lines(found)
    assert line == (
        "strict would object to response 1: to them it is worse than average (\N{MINUS SIGN}0.50). They like "
        "response 2 best."
    )
    nobody = seen(of(pl.Point([3.0]), personas={"kind": people["kind"][:1]}), pl.risk.parse("mean"), FACTS)
    assert persona_lines(nobody)[0].startswith("Nobody objects")


@pytest.mark.parametrize(
    "reward",
    [
        pl.Point([0.5, -1.0]),
        pl.Categorical([[0.5, 0.5], [0.1, 0.9]], [-1.0, 1.0]),
        GAUSSIAN,
        Ensemble([pl.Quantiles([[0.0, 1.0], [2.0, 2.0]], [0.1, 0.9])] * 2),
        pl.Empirical([[0.0, 1.0, 5.0], [1.0, 1.0, 1.0]]),
        pl.Point([0.0] * 30),
        pl.Quantiles([[float(n), n + 1.0] for n in range(30)], [0.1, 0.9]),
    ],
)
@pytest.mark.parametrize("measure", ["mean", "cvar:0.1", "entropic:1", "exponential:0.5"])
def test_charts_are_finite_json_for_every_kind_of_distribution(reward, measure):
    found = seen(of(reward), pl.risk.parse(measure), FACTS)
    made = charts(found)
    text = json.dumps(made, allow_nan=False)
    low, high = made["rewards"]["encoding"]["x"]["scale"]["domain"]
    assert low < 0 < high
    assert "NaN" not in text
    drawn = {one["mark"]["type"] for one in made["rewards"]["layer"]}
    assert ("area" in drawn) == (not reward.is_point and len(reward) <= 12)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def row(size: int) -> Kept:
    return Kept(HeadInputs(torch.zeros(1, size), torch.zeros(1, 0)), None)


def test_a_shelf_keeps_what_is_used_within_its_limits():
    clock = Clock()
    shelf = Shelf(2000, 60, clock)
    first, second = shelf.put([row(200)]), shelf.put([row(200)])
    assert shelf.num_bytes == 1600
    assert shelf.get(first) is not None  # now the second is the one that was used longest ago
    third = shelf.put([row(200)])
    assert shelf.get(second) is None
    assert shelf.get(first) is not None
    assert shelf.get(third) is not None
    clock.now = 59
    assert shelf.get(third) is not None
    clock.now = 61
    assert shelf.get(first) is None
    assert shelf.get(third) is not None
    clock.now = 200
    assert shelf.get(third) is None
    assert len(shelf) == shelf.num_bytes == 0


def test_one_reading_that_is_too_large_is_kept_alone():
    shelf = Shelf(100, 60, Clock())
    first = shelf.put([row(200), row(300)])
    assert shelf.get(first) is not None
    second = shelf.put([row(1)])
    assert shelf.get(first) is None
    assert shelf.get(second) is not None


def test_tensors_that_parts_share_count_once():
    inputs = HeadInputs(torch.zeros(1, 100), torch.zeros(1, 50))
    assert Kept(inputs, None, {"p": inputs}).num_bytes == 600
    quantiles = pl.Quantiles([[0.0, 1.0]], [0.1, 0.9])
    assert Kept(None, Ensemble([quantiles, quantiles])).num_bytes > 0


def test_keys_cannot_be_guessed():
    shelf = Shelf(10_000, 60, Clock())
    keys = {shelf.put([row(1)]) for _ in range(50)}
    assert len(keys) == 50
    assert min(map(len, keys)) >= 22  # 132 bits and more


@pytest.fixture(scope="module")
def model() -> pl.RewardModel:
    return pl.fit(
        "quantile",
        ratings=pl.load_ratings(ratings_rows(attributes=2)),
        backbone=FakeBackbone(),
        config={"l1": 0.003, "levels": [0.1, 0.5, 0.9], "baselines": False},
        cache=None,
        progress=False,
    )


def test_kept_rows_predict_as_the_model_does(model):
    talks = [talk(f"{n} 0.5 words") for n in range(4)]
    predictor = Predictor(model, "mean", {"twin": model})
    question = predictor.question("mean", keeps=True)
    items = [Item(n, one, 1, question) for n, one in enumerate(talks)]
    kept = [one.kept for one in predictor.answer(items)]
    for options in ({}, {"weights": {"a1": 1.0}}, {"steer": {"a0": "quantile:0.1"}}):
        asked = predictor.question("mean", **options)
        found = predicted(model, predictor.personas, kept, asked.steering)
        torch.testing.assert_close(found.reward[0].mean(), model.distribution(talks, **options).mean())
        assert (found.gate is None) == ("weights" in options)
    attributes = model.attribute_distributions(talks, on_grid=True)
    assert found.attributes.keys() == attributes.keys()
    for name, one in attributes.items():
        torch.testing.assert_close(found.attributes[name].mean(), one.mean())
    torch.testing.assert_close(found.personas["twin"][0].mean(), model.distribution(talks).mean())


TEXTS = [
    "plain",
    "with 'quotes' and \"more\"",
    "lines\nand\ttabs \u2028 \x1b[31m",
    "emoji \U0001f600 \\n {x}",
]
SETTINGS = [
    Settings(),
    Settings("cvar:0.1", {"a0": 0.25, "a 1": 0.75}),
    Settings("worst_case(cvar:0.1)", {"a0": 1.0}, {"a0": "quantile:0.05"}),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_lines_of_python_hold_the_texts(settings):
    prompt = [{"role": "system", "content": TEXTS[2]}, {"role": "user", "content": TEXTS[1]}]
    source = repeat.python(FACTS, settings, prompt, TEXTS)
    asked: list[Any] = []

    class Model:
        @classmethod
        def from_pretrained(cls, folder: str) -> Model:
            assert folder == "runs/quality"
            return cls()

        def score(self, talks: Any, **options: Any) -> torch.Tensor:
            asked.append((talks, options))
            return torch.zeros(len(talks))

    lines = source.replace("import pluralign as pl\n", "")
    exec(lines, {"pl": type("pl", (), {"RewardModel": Model}), "print": lambda shown: None})
    ((talks, options),) = asked
    assert talks == [[*prompt, {"role": "assistant", "content": text}] for text in TEXTS]
    given = {"risk": settings.risk or "mean", "weights": settings.weights, "steer": settings.steer}
    assert options == {name: value for name, value in given.items() if value is not None}


def test_rows_are_read_as_they_were_typed(tmp_path):
    prompt = [{"role": "user", "content": TEXTS[1]}, {"role": "assistant", "content": TEXTS[3]}]
    prompt.append({"role": "user", "content": "and?"})
    (tmp_path / repeat.ROWS).write_text(repeat.rows(prompt, TEXTS), encoding="utf-8")
    table = pl.data.load_responses(tmp_path / repeat.ROWS)
    assert table["response"] == TEXTS
    assert [[dict(m) for m in one] for one in table["prompt"]] == [prompt] * 4


def test_a_scorer_in_no_folder_has_no_command():
    assert repeat.command(Facts(None, "model", "mean"), Settings()) is None
    assert repeat.command(Facts("x", "scorer", "mean"), Settings()) is None
    assert "Combination" in repeat.python(Facts("both", "combination", "mean"), Settings(), [], ["a"])


def test_the_command_gives_the_same_utilities(tmp_path, capsys, monkeypatch):
    """The command of the page, run as it stands beside the file of the page."""
    backbone = tiny_decoder(tmp_path / "backbone")
    rows = ratings_rows(10, attributes=2)
    for one in rows:
        one["attribute"] = {"a0": "helpful", "a1": "safe, they say"}[one["attribute"]]
    fitted = pl.fit(
        "quantile",
        ratings=pl.load_ratings(rows),
        backbone=backbone,
        config={"l1": 0.003, "levels": [0.25, 0.5, 0.75], "baselines": False},
        cache=None,
        progress=False,
    )
    folder = tmp_path / "my model"
    fitted.save_pretrained(folder)
    monkeypatch.chdir(tmp_path)
    prompt = [("system", "be brief"), ("user", "hello\nthere"), ("assistant", "yes?"), ("user", "it's late")]
    responses = ["first $(touch broken)", "second `x` \"y\" 'z'", "third\nline"]
    with running(build(fitted, ServerConfig(risk="median"), folder="my model")) as server:
        for more in (
            {},
            {"risk": "cvar:0.3", "weigh": "on", "weight-0": 0.2, "weight-1": 0.8},
            {"risk": "entropic:1", "steer-1": "quantile:0.25", "weigh": "on", "weight-0": 1, "weight-1": 0.5},
        ):
            found = exported(server, fields(responses, prompt, **more))
            table = post(server, "export?what=rows", fields(responses, prompt, **more))
            (tmp_path / repeat.ROWS).write_bytes(table.body)
            program, *words = shlex.split(found["command"])
            assert program == "pluralign"
            capsys.readouterr()
            assert main([*words, "--cache", "none"]) == 0
            scored = [json.loads(line)["utility"] for line in capsys.readouterr().out.splitlines()]
            assert scored == pytest.approx([one["utility"] for one in found["responses"]], abs=1e-5)
    assert not (tmp_path / "broken").exists()
