"""The table of families, and a sixth one that nothing but this file names: it goes wherever the five go."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from torch import Tensor

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk, votes_rows
from http_server import running
from pluralign import backbones
from pluralign.cli.main import main
from pluralign.distributions import Heads
from pluralign.distributions.piecewise import PiecewiseLinear, Segments
from pluralign.errors import DataError, RiskError
from pluralign.families import CONFIGS, DEFAULT, FAMILIES, HEADS, RECIPES, Family, families_for, title_of
from pluralign.fitting import Fitted, Inputs, rated_table, rating_targets
from pluralign.fitting.linear.baselines import baselines_of
from pluralign.fitting.linear.ridge import ridge_path
from pluralign.fitting.mix.config import MixConfig
from pluralign.fitting.mix.mixing import add_mixing
from pluralign.heads import ColumnScaling, Head, schema
from pluralign.heads.mixed import MixedHead
from pluralign.model import Combination
from pluralign.report.content import build_content
from pluralign.report.evaluations import read_evaluation
from pluralign.report.page import render_page
from pluralign.server import create_app

# -- a family: rewards are uniform on a band around a linear centre --------------------------------


class Band(PiecewiseLinear):
    """Uniform on [low, high], [B] each."""

    _batched: ClassVar[tuple[str, ...]] = ("low", "high")

    def __init__(self, low: Tensor, high: Tensor) -> None:
        self.low, self.high = low, high
        self._validate = False

    def scale_shift(self, scale: Any, shift: Any) -> Self:
        scales, shifts = self._affine(scale, shift)
        return self._replace(lambda end: scales * end + shifts)

    def _segments(self) -> Segments:
        nothing, whole = torch.zeros_like(self.low), torch.ones_like(self.low)
        lower = torch.stack([self.low, self.low], 1)
        return Segments(lower, torch.stack([self.low, self.high], 1), torch.stack([nothing, whole], 1))


class BandHead(MixedHead):
    """Centres [A, D] and [A] on scaled embeddings, and half the width of each attribute's band, [A]."""

    family = "band"

    def __init__(self, scaling, weight, bias, half, attributes, reference, *, gate=None, debias=None) -> None:
        super().__init__(scaling, attributes, reference, gate, debias, "vincentize")
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())
        self.register_buffer("reach", half.float())

    def attribute_means(self, response, length=None):
        means = self.scaling(response) @ self.weight.T + self.bias
        return means if self.debias is None else means + self.debias.shift(means, length)

    def attribute_distributions(self, response):
        means = self.scaling(response) @ self.weight.T + self.bias
        return {
            a.name: _band(means[:, i], self.reach[i]).scale_shift(a.span, a.low)
            for i, a in enumerate(self.attributes)
        }

    def _mixed(self, response, length, weights, steering):
        means, weights = self.attribute_means(response, length), weights.to(self.reach)
        halves = self.reach.expand_as(means).clone()
        for i, measure in steering.measures.items():
            means[:, i], halves[:, i] = measure(_band(means[:, i], self.reach[i])), 0.0
        return _band((weights * means).sum(1), (weights * halves).sum(1))

    def spec(self):
        return self._base_spec(len(self.scaling.center)) | self._mixing_spec()

    @classmethod
    def check_spec(cls, spec, where):
        schema.record(cls._base_schema(1) | cls._mixing_schema())(spec, where)
        cls._check_mixing(spec, where)

    @classmethod
    def tensor_shapes(cls, spec):
        count = len(spec["attributes"])
        shapes = {"weight": (count, spec["width"]), "bias": (count,), "reach": (count,)}
        return cls._mixing_shapes(spec) | {name: (torch.float32, shape) for name, shape in shapes.items()}

    @classmethod
    def from_spec(cls, spec):
        base, mixing = cls._read_base(spec), cls._read_mixing(spec)
        count, width = len(base["attributes"]), spec["width"]
        parts = torch.zeros(count, width), torch.zeros(count), torch.zeros(count)
        gate, debias = mixing["gate"], mixing["debias"]
        return cls(ColumnScaling.empty(width), *parts, **base, gate=gate, debias=debias)


def _band(center: Tensor, half: Tensor) -> Band:
    return Band(center - half, center + half)


@dataclasses.dataclass(frozen=True)
class BandConfig(MixConfig):
    """Bands around ridge regressions.

    Attributes:
        band_l2: Penalty of the ridge.
        seed: Of the gate.
    """

    band_l2: float = 0.1
    seed: int = 0


def fit_bands(inputs: Inputs, config: BandConfig) -> Fitted:
    """Centres by ridge regression; a uniform band has sqrt(3) standard deviations to each side."""
    inputs = dataclasses.replace(inputs, ratings=rated_table(inputs, "band"))
    targets = rating_targets(inputs.ratings, seed=config.seed)
    embedded = inputs.embed(targets.conversations)
    scaling = ColumnScaling.fitted(embedded.response)
    features = scaling(embedded.response)
    weight, bias, half = [], [], []
    for rows in targets.attributes:
        x = features[rows.item]
        coef, intercept = ridge_path(x, rows.target, rows.weight, (config.band_l2,))
        spread = (rows.target - (x.double() @ coef[0] + intercept[0])).std()
        weight.append(coef[0])
        bias.append(intercept[0])
        half.append(math.sqrt(3) * spread)
    attributes = tuple(rows.attribute for rows in targets.attributes)
    parts = (torch.stack(part) for part in (weight, bias, half))
    head = BandHead(scaling, *parts, attributes, pl.heads.Reference())
    head, summary = add_mixing(head, inputs, config, targets.conversations, embedded, seed=config.seed)
    levels = torch.arange(1, 10, dtype=torch.float64) / 10
    baselines, facts = baselines_of(inputs, targets, scaling, levels, config.seed)
    return Fitted(head, baselines, summary | facts)


@pytest.fixture
def band(monkeypatch: pytest.MonkeyPatch) -> Family:
    """The one registration."""
    entry = Family("Uniform band", "a toy", ("ratings", "votes"), BandHead, fit_bands, BandConfig)
    monkeypatch.setitem(FAMILIES, "band", entry)
    return entry


# -- where it goes ---------------------------------------------------------------------------------

TEXTS = [talk(f"{x} {y} words") for x in (-1.5, 0.0, 0.25, 2.0) for y in (0.3, 1.2)]


def fitted(family: str = "band", config: Any = None, **tables: Any) -> pl.RewardModel:
    tables = tables or {
        "ratings": pl.load_ratings(ratings_rows(attributes=2)),
        "pairs": pl.load_pairs(pairs_rows()),
    }
    return pl.fit(family, **tables, backbone=FakeBackbone(), config=config, cache=None, progress=False)


def test_it_is_fitted_answers_and_comes_back_from_its_folder(band, tmp_path):
    model = fitted(config={"gate_steps": 40})
    assert (model.family, set(model.baselines)) == ("band", {"constant", "bradley_terry"})
    distributions = model.attribute_distributions(TEXTS)
    center = torch.tensor([3 + float(text[-1]["content"].split()[0]) for text in TEXTS])
    torch.testing.assert_close(distributions["a0"].mean(), center.clamp(1, 5), atol=0.6, rtol=0)
    torch.testing.assert_close(distributions["a1"].mean(), (6 - center).clamp(1, 5), atol=0.6, rtol=0)
    distribution = model.distribution(TEXTS)
    torch.testing.assert_close(
        distribution.quantile(0.25), 0.75 * distribution.low + 0.25 * distribution.high
    )
    torch.testing.assert_close(model.score(TEXTS, risk="cvar:0.5"), distribution.quantile(0.25))
    with pytest.raises(RiskError, match="worst_case compares heads, and Band has none"):
        model.score(TEXTS, risk="worst_case")
    steered = model.score(TEXTS, weights={"a0": 1.0}, steer={"a0": "quantile:0.5"})
    assert float(torch.corrcoef(torch.stack([steered, center]))[0, 1]) > 0.99
    both = [
        model.preference_probability(TEXTS, TEXTS[::-1]),
        model.preference_probability(TEXTS[::-1], TEXTS),
    ]
    torch.testing.assert_close(both[0] + both[1], torch.ones(len(TEXTS)))
    model.save_pretrained(tmp_path / "model")
    again = pl.RewardModel.from_pretrained(tmp_path / "model", backbone=FakeBackbone(), cache=None)
    assert isinstance(again.head, BandHead)
    torch.testing.assert_close(again.distribution(TEXTS).high, distribution.high)
    assert "A `band` reward model" in (tmp_path / "model" / "README.md").read_text()


def test_it_is_evaluated_and_reported(band, tmp_path):
    test = {
        "ratings": pl.load_ratings(ratings_rows(attributes=2, seed=1)),
        "pairs": pl.load_pairs(pairs_rows(seed=1)),
        "votes": pl.load_comparisons(votes_rows(seed=1)),
    }
    results = pl.evaluation.evaluate(fitted(config={"gate_steps": 40}), **test, out=tmp_path)
    for attribute in ("a0", "a1"):
        assert (
            results["ratings"][attribute]["crps"]["difference"]["high"] < 0
        )  # better than the constant model
    assert results["gate"]["pairs"]["weights"].keys() == {"a0", "a1"}
    assert results["pairs"]["votes"]["accuracy"]["model"]["estimate"] > 0.6
    assert results["ensemble"] == {}
    page = render_page(build_content([read_evaluation(tmp_path)]))
    assert "Uniform band on fake" in page


def test_it_is_served(band):
    model = fitted(config={"gate_steps": 40})
    law = model.distribution(TEXTS)
    with running(create_app(model)) as server:
        scores = server.post("/v1/score", {"conversations": TEXTS, "risk": "cvar:0.5"}).json["scores"]
        steered = server.post(
            "/v1/score", {"conversations": TEXTS, "weights": {"a0": 1}, "steer": {"a0": "median"}}
        ).json["scores"]
        rows = server.post("/v1/distribution", {"conversations": TEXTS}).json["distributions"]
        refused = server.post("/v1/score", {"conversations": TEXTS, "risk": "worst_case"})
    assert scores == pytest.approx(law.quantile(0.25).tolist(), abs=1e-5)
    expected = model.score(TEXTS, weights={"a0": 1}, steer={"a0": "median"})
    assert steered == pytest.approx(expected.tolist(), abs=1e-5)
    assert {row["kind"] for row in rows} == {"Band"}
    assert [row["parameters"]["high"] for row in rows] == pytest.approx(law.high.tolist(), abs=1e-5)
    assert (refused.status, "compares heads" in refused.json["error"]["message"]) == (422, True)


def test_an_ensemble_is_made_of_it(band, tmp_path):
    ratings = pl.load_ratings(ratings_rows(attributes=2))
    options = {"backbone": FakeBackbone(), "cache": None}
    model = pl.fit("band", ratings=ratings, ensemble=3, **options)
    distribution = model.distribution(TEXTS)
    worst = torch.stack([one.quantile(0.25) for one in distribution.members()]).amin(0)
    torch.testing.assert_close(model.score(TEXTS, risk="worst_case(cvar:0.5)"), worst)
    model.save_pretrained(tmp_path / "model")
    again = pl.RewardModel.from_pretrained(tmp_path / "model", backbone=FakeBackbone(), cache=None)
    torch.testing.assert_close(again.distribution(TEXTS).std(), distribution.std())
    results = pl.evaluation.evaluate(again, ratings=pl.load_ratings(ratings_rows(attributes=2, seed=1)))
    assert results["ensemble"]["ratings"]["a0"]["heads"] == 3


@pytest.mark.parametrize("how", ["mixture", "vincentize"])
def test_it_is_combined_with_another_family(band, tmp_path, how):
    ratings = pl.load_ratings(ratings_rows())
    ours, other = (
        fitted(ratings=ratings),
        fitted(DEFAULT, {"l1": 0.003, "levels": [0.1, 0.5, 0.9]}, ratings=ratings),
    )
    reference = [talk(f"{x / 10} {y}") for x in range(-20, 21) for y in (0.3, 1.2)]
    both = pl.combine([ours, other], reference, how=how)
    score = both.score(TEXTS, risk="cvar:0.2")
    assert float(torch.corrcoef(torch.stack([score, ours.score(TEXTS)]))[0, 1]) > 0.9
    both.save_pretrained(tmp_path / "both")
    again = Combination.from_pretrained(tmp_path / "both", backbone=FakeBackbone(), cache=None)
    torch.testing.assert_close(again.score(TEXTS, risk="cvar:0.2"), score)


def test_every_command_takes_it(band, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    backbone = FakeBackbone()
    monkeypatch.setattr(backbones, "load", lambda *_args, **_options: backbone)
    for name, rows in {"ratings": ratings_rows(20), "pairs": pairs_rows(40)}.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shard = [{"prompt": f"p{i}", "completion": f"{i + j}.5 1 w"} for i in range(4) for j in range(3)]
    Path("shard.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shard))

    with pytest.raises(SystemExit):
        main(["fit", "--family", "band", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "band (ratings, votes): a toy" in shown
    assert "--band_l2" in shown
    status, out, err = command("fit --family band --ratings ratings.jsonl --band_l2 0.2 --out fitted")
    assert (status, out.strip()) == (0, "fitted/model"), err
    status, _, err = command("fit --ratings ratings.jsonl --band_l2 0.2")
    assert (status, "--band_l2: it is valid only with --family band" in err) == (2, True)
    assert command("evaluate --model fitted --ratings ratings.jsonl --out judged")[0] == 0
    status, out, err = command("evaluate --folds 2 --family band --ratings ratings.jsonl --out crossed")
    assert (status, "band" in out) == (0, True), err
    status, _, err = command("report judged crossed --out page.html")
    assert status == 0, err
    assert "Uniform band" in Path("page.html").read_text()
    status, out, err = command("score --model fitted --data ratings.jsonl --risk cvar:0.2")
    assert (status, len(out.splitlines())) == (0, 80), err
    combined = "score --model fitted --combine [fitted] --reference ratings.jsonl --data ratings.jsonl"
    assert command(combined)[0] == 0
    rewarded = "sample --shards shard.jsonl --reward_model fitted --cache none"
    status, _, err = command(f"{rewarded} --risk worst_case --out never")
    assert (status, "fitted/model is of the family band" in err) == (2, True)
    status, _, err = command(f"{rewarded} --risk cvar:0.5 --table pairs --out rewarded")
    assert status == 0, err


def test_measures_of_heads_ask_for_heads_and_not_for_a_class():
    class TwoBands(Band):
        """Of two bands that always stand 1 apart, the lower one."""

        def heads(self) -> Heads:
            center, half = 0.5 * (self.low + self.high), 0.5 * (self.high - self.low)
            means = torch.stack([center, center + 1], 1)
            return Heads(means, half[:, None].expand_as(means), torch.full_like(means, 0.5))

    distribution = TwoBands(torch.tensor([0.0, 3.0]), torch.tensor([2.0, 5.0]))
    assert pl.risk.parse("worst_case")(distribution).tolist() == [1.0, 4.0]
    assert pl.risk.parse("best_case")(distribution).tolist() == [2.0, 5.0]


# -- the table -------------------------------------------------------------------------------------

QUICK: dict[str, dict[str, Any]] = {
    "bradley_terry": {"l2": 0.01},
    "categorical": {"l2": 0.003, "steps": 5, "baselines": False},
    "gaussian_ensemble": {"l2": 0.1, "std_l2": 0.1, "heads": 2, "steps": 5, "baselines": False},
    "quantile": {"l1": 0.003, "levels": [0.3, 0.7], "baselines": False},
    "regression": {"l2": 0.1, "baselines": False},
}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_entry_finds_its_parts(name):
    assert issubclass(HEADS[name], Head)
    assert HEADS[name].family == name
    assert callable(RECIPES[name])
    assert dataclasses.is_dataclass(CONFIGS[name]())  # every field has a default
    assert title_of(name) == FAMILIES[name].title


def test_names_and_columns_of_the_table(band):
    assert DEFAULT in FAMILIES
    assert list(HEADS) == list(FAMILIES)
    assert len(CONFIGS) == len(FAMILIES)
    assert "band" in HEADS
    assert "tape" not in HEADS
    assert (title_of("band"), title_of("older_family")) == ("Uniform band", "older family")
    assert "band" in families_for("votes")
    assert "band" not in families_for("pairs")


@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")
@pytest.mark.parametrize("kind", ["ratings", "pairs", "votes"])
def test_the_table_says_which_data_a_family_can_be_fitted_on(kind):
    table: Any = {
        "ratings": lambda: pl.load_ratings(ratings_rows(10)),
        "pairs": lambda: pl.load_pairs(pairs_rows(20)),
        "votes": lambda: pl.load_comparisons(votes_rows(20)),
    }[kind]()
    for name in QUICK:
        if name in families_for(kind):
            assert fitted(name, QUICK[name], **{kind: table}).family == name
        else:
            with pytest.raises(DataError, match=f"the {name} family needs ratings.*Use bradley_terry or"):
                fitted(name, QUICK[name], **{kind: table})
