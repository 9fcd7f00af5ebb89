"""Tuning the backbone: where it starts, what it changes, how it is stored, and that nothing else matters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_tuning as tiny
import torch

import pluralign as pl
from pluralign.errors import (
    ArgumentError,
    ArtifactError,
    ConfigError,
    FingerprintError,
    MissingDependencyError,
    PluralignWarning,
    RunError,
    TuningWarning,
)
from pluralign.fitting import TuningConfig

SHORT: dict[str, Any] = {"max_steps": 4, "batch": 8, "lr": 1e-2, "head_lr": 1e-3, "rank": 4, "alpha": 8.0}

pytestmark = pytest.mark.filterwarnings(
    "ignore::pluralign.errors.PluralignWarning"  # of tiny data; what a test is about it asks for itself
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.decoder(tmp_path_factory.mktemp("decoder"))


def fit(family: str, backbone: Any, tune: str | None = "lora", *, data: Any, **settings: Any) -> Any:
    options = {name: settings.pop(name) for name in ("journal", "report") if name in settings}
    tuning = None if tune is None else TuningConfig(**(SHORT | settings))
    return pl.fit(
        family, backbone=backbone, config=tiny.FAST[family], tune=tune, tuning=tuning, cache=None,
        progress=False, **data, **options,
    )  # fmt: skip


def parameters(model: Any) -> dict[str, torch.Tensor]:
    """All that training may change."""
    from pluralign.backbones import tuned

    found = tuned.tensors_of(model.backbone.model, model.backbone.tuning)
    return found | {f"head.{name}": tensor for name, tensor in model.head.state_dict().items()}


def gap(one: Any, other: Any) -> float:
    a, b = parameters(one), parameters(other)
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a if a[name].numel())


def scores(model: Any) -> torch.Tensor:
    return model.score(tiny.conversations())


# -- the start -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frozen_models() -> dict[str, Any]:
    """By family; both ways of tuning begin at the same model."""
    return {}


@pytest.mark.parametrize("tune", ["lora", "full"])
@pytest.mark.parametrize("family", sorted(tiny.FAST))
def test_step_0_is_the_frozen_model(
    family: str, tune: str, encoder: str, frozen_models: dict[str, Any], tmp_path: Path
) -> None:
    pairs = family == "bradley_terry"
    data = {"pairs": tiny.pairs(tmp_path)} if pairs else {"ratings": tiny.ratings(tmp_path)}
    if family not in frozen_models:
        frozen_models[family] = fit(family, encoder, None, data=data)
    frozen = frozen_models[family]
    start = fit(family, encoder, tune, data=data, max_steps=0, held_out=0.0)
    torch.testing.assert_close(scores(start), scores(frozen), rtol=0, atol=1e-5)
    assert start.backbone.fingerprint != frozen.backbone.fingerprint  # another model, with the same numbers
    assert start.baselines.keys() == (frozen.baselines.keys() if not pairs else set())


def test_the_gate_is_trained_after_the_heads(encoder: str, tmp_path: Path) -> None:
    data = {"ratings": tiny.ratings(tmp_path), "pairs": tiny.pairs(tmp_path)}
    config = tiny.FAST["quantile"] | {"gate": True, "gate_steps": 20}
    frozen, start = (
        pl.fit("quantile", backbone=encoder, config=config, cache=None, progress=False, **data, **options)
        for options in ({}, {"tune": "lora", "tuning": {"max_steps": 0, "held_out": 0.0}})
    )
    assert start.fitted["gate"]["trained"]
    torch.testing.assert_close(scores(start), scores(frozen), rtol=0, atol=1e-5)


# -- what is trained -------------------------------------------------------------------------------


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_the_given_backbone_stays_as_it_is_and_a_saved_model_scores_as_before(
    tune: str, encoder: str, tmp_path: Path
) -> None:
    data = {"ratings": tiny.ratings(tmp_path)}
    backbone = pl.backbones.load(encoder)
    before = backbone.embed(tiny.conversations()).response
    model = fit("quantile", backbone, tune, data=data, held_out=0.0)
    assert backbone.embed(tiny.conversations()).response.equal(before)
    assert backbone.tuning is None
    moved = model.embed(tiny.conversations()).response - before
    assert float(moved.abs().max()) > 1e-2
    assert not any(p.requires_grad for p in model.backbone.model.parameters())
    saved = model.save_pretrained(tmp_path / "model")
    again = pl.RewardModel.from_pretrained(saved, cache=None)
    assert again.backbone.describe() == model.backbone.describe()
    assert again.backbone.tuning == model.backbone.tuning
    assert gap(again, model) == 0.0
    torch.testing.assert_close(scores(again), scores(model), rtol=0, atol=1e-6)
    assert not list(saved.rglob("*.bin")) + list(saved.rglob("*.pt"))
    once_more = again.save_pretrained(tmp_path / "again")
    assert pl.RewardModel.from_pretrained(once_more, cache=None).score(tiny.conversations()).isfinite().all()


def test_an_adapter_is_peft_s_own_file(encoder: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModel

    model = fit("bradley_terry", encoder, data={"pairs": tiny.pairs(tmp_path)}, held_out=0.0)
    saved = model.save_pretrained(tmp_path / "model")
    theirs = peft.PeftModel.from_pretrained(
        AutoModel.from_pretrained(encoder), str(saved / "backbone")
    ).eval()
    ids = torch.arange(5, 30)[None]
    with torch.no_grad():
        expected = theirs(input_ids=ids).last_hidden_state
        torch.testing.assert_close(model.backbone.model(input_ids=ids).last_hidden_state, expected)
        merged = pl.backbones.tuned.merged(model.backbone.model)
        torch.testing.assert_close(merged(input_ids=ids).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
    assert not any("lora" in name for name in merged.state_dict())


def test_training_lowers_the_loss_it_is_given(decoder: str, tmp_path: Path) -> None:
    data = {"pairs": tiny.pairs(tmp_path)}
    frozen = fit("bradley_terry", decoder, None, data=data)
    tuned = fit("bradley_terry", decoder, "lora", data=data, held_out=0.0, max_steps=30)
    rows = data["pairs"]
    sides = [
        [[*row["prompt"], {"role": "assistant", "content": row[side]}] for row in rows]
        for side in ("chosen", "rejected")
    ]
    loss = [float(-m.preference_probability(*sides).log().mean()) for m in (frozen, tuned)]
    assert loss[1] < 0.7 * loss[0]


def test_ensembles_learn_pairs_first_and_then_their_heads(encoder: str, tmp_path: Path) -> None:
    model = fit("gaussian_ensemble", encoder, data={"ratings": tiny.ratings(tmp_path)})
    stages = model.fitted["tuning"]["stages"]
    assert [stage["name"] for stage in stages] == ["bradley_terry", "gaussian_heads"]
    pairs = fit("gaussian_ensemble", encoder, data={"pairs": tiny.pairs(tmp_path)})
    assert [stage["name"] for stage in pairs.fitted["tuning"]["stages"]] == ["bradley_terry"]
    assert pairs.head.num_heads == 2


def test_comparisons_are_tuned(encoder: str, tmp_path: Path) -> None:
    model = fit("categorical", encoder, data={"votes": tiny.votes(tmp_path)}, held_out=0.0)
    a, b = (model.distribution(tiny.conversations()[i:][:4]) for i in (0, 4))
    torch.testing.assert_close(model.head.comparison_probs(a, b).flip(1), model.head.comparison_probs(b, a))


def test_a_residual_is_measured_on_held_out_groups(encoder: str, tmp_path: Path) -> None:
    data = {"ratings": tiny.ratings(tmp_path)}
    config = tiny.FAST["regression"] | {"residual": "gaussian"}
    options = {"backbone": encoder, "config": config, "cache": None, "progress": False, "tune": "lora"}
    model = pl.fit("regression", **data, **options, tuning=SHORT | {"held_out": 0.3})
    assert bool((model.head.residual_std > 0).all())
    with pytest.raises(ConfigError, match="held_out above 0"):
        pl.fit("regression", **data, **options, tuning=SHORT | {"held_out": 0.0})


# -- the same result by other ways -----------------------------------------------------------------


@pytest.mark.parametrize("family", ["regression", "bradley_terry"])
def test_eight_batches_of_one_are_one_of_eight(family: str, encoder: str, tmp_path: Path) -> None:
    """Smooth losses: quantiles start where their loss has kinks, and rounding decides a sign."""
    pairs = family == "bradley_terry"
    data = {"pairs": tiny.pairs(tmp_path)} if pairs else {"ratings": tiny.ratings(tmp_path)}
    whole = fit(family, encoder, data=data, held_out=0.0, dropout=False, batch=8)
    parts = fit(family, encoder, data=data, held_out=0.0, dropout=False, batch=1, accumulate=8, max_tokens=16)
    assert gap(whole, parts) < 2e-4  # Adam turns the rounding of tiny gradients into steps
    torch.testing.assert_close(scores(whole), scores(parts), rtol=0, atol=1e-3)


def test_an_interrupted_tuning_continues_as_if_it_had_not_been(encoder: str, tmp_path: Path) -> None:
    data = {"ratings": tiny.ratings(tmp_path)}
    options = {"held_out": 0.25, "eval_every": 2, "max_steps": 6, "lora_dropout": 0.2}
    whole = fit("quantile", encoder, data=data, **options)

    class Interrupted(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("step 4 of 6"):
            raise Interrupted

    journal = tmp_path / "run" / "search.jsonl"
    journal.parent.mkdir()
    with pytest.raises(Interrupted):
        fit("quantile", encoder, data=data, journal=journal, report=stop, **options)
    assert list(journal.parent.glob("search-tuning-quantile/checkpoint-2"))
    with pytest.raises(RunError, match=r"another tuning \(lr 0.01 instead of 0.5\)"):
        fit("quantile", encoder, data=data, journal=journal, **options | {"lr": 0.5})
    resumed = fit("quantile", encoder, data=data, journal=journal, **options)
    assert gap(whole, resumed) == 0.0
    assert resumed.fitted["tuning"]["stages"] == whole.fitted["tuning"]["stages"]
    assert not list(journal.parent.glob("search-tuning-*"))


def test_rates_fall_with_the_width_of_the_backbone() -> None:
    """Up to MiniLM's width the rates that were tried on it; one that is stated holds for any width."""
    config = TuningConfig()
    assert [config.rate("full", width) for width in (32, 384, 768, 4096)] == pytest.approx(
        [1e-4, 1e-4, 5e-5, 9.375e-6]
    )
    assert config.rate("lora", 384) == 1e-3
    assert TuningConfig(lr=0.5).rate("lora", 4096) == 0.5


def test_evaluations_are_an_eighth_of_the_training_apart(tmp_path: Path) -> None:
    """So patience is the same share of a training, however small the data."""
    from pluralign.fitting.tuning.trainer import arguments

    for units, settings, every in (
        (6400, {"epochs": 2.0}, 50),  # 400 steps
        (180, {"epochs": 5.0}, 4),  # 28
        (180, {"max_steps": 80}, 10),
        (8, {"epochs": 1.0}, 1),
        (6400, {"eval_every": 7}, 7),
    ):
        config = TuningConfig(**settings)
        made = arguments(config, "full", str(tmp_path), units, 20, width=384, on_cpu=True, bar=False)
        assert made.eval_steps == made.save_steps == every


def test_gradient_checkpointing_changes_nothing(decoder: str, tmp_path: Path) -> None:
    data = {"pairs": tiny.pairs(tmp_path)}
    plain, less = (
        fit("bradley_terry", decoder, data=data, held_out=0.0, gradient_checkpointing=on)
        for on in (False, True)
    )
    assert gap(plain, less) < 1e-6


def test_the_start_is_kept_where_nothing_is_better(encoder: str, tmp_path: Path) -> None:
    data = {"ratings": tiny.ratings(tmp_path)}
    with pytest.warns(TuningWarning, match="the start is kept"):
        model = fit("quantile", encoder, data=data, held_out=0.25, eval_every=2, lr=3.0, head_lr=0.3)
    stage = model.fitted["tuning"]["stages"][0]
    assert stage["best_step"] == 0
    assert stage["held_out_loss"]["best"] > stage["held_out_loss"]["start"]
    assert any("the start is kept" in line for line in model.fitted["warnings"])
    response = pl.backbones.load(encoder).embed(tiny.conversations()).response
    torch.testing.assert_close(model.embed(tiny.conversations()).response, response)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tune": "qlora"}, ArgumentError, "allowed: lora, full, None"),
        ({"tune": None, "tuning": {"lr": 1e-3}}, ArgumentError, "tune is None"),
        ({"tune": "lora", "tuning": {"learning_rate": 1e-3}}, ConfigError, "unknown key 'learning_rate'"),
        (
            {"tune": "lora", "tuning": {"targets": "q_proj"}},
            ConfigError,
            "it has the linear layers dense, key",
        ),
        ({"tune": "lora", "tuning": {"batch": 0}}, ConfigError, "batch = 0"),
        ({"tune": "lora", "tuning": {"held_out": 1.0}}, ConfigError, "held_out = 1.0"),
        ({"tune": "lora", "tuning": {"lr": float("nan")}}, ConfigError, "lr"),
        ({"tune": "lora", "tuning": {"margin_scale": 1.0}}, ConfigError, "add a column margin"),
    ],
)
def test_bad_settings_are_named(
    options: dict[str, Any], error: type[Exception], message: str, encoder: str, tmp_path: Path
) -> None:
    data = {"pairs": tiny.pairs(tmp_path)}
    with pytest.raises(error, match=message):
        pl.fit("bradley_terry", backbone=encoder, config={"l2": 0.1}, cache=None, **data, **options)


def test_weights_that_cannot_be_trained(encoder: str, tmp_path: Path) -> None:
    data = {"pairs": tiny.pairs(tmp_path)}
    half = pl.backbones.load(encoder, dtype="float16")
    with pytest.raises(ConfigError, match="float16, whose gradients underflow"):
        fit("bradley_terry", half, "lora", data=data)
    brain = pl.backbones.load(encoder, dtype="bfloat16")
    with pytest.raises(ConfigError, match="needs them in float32"):
        fit("bradley_terry", brain, "full", data=data)
    model = fit("bradley_terry", brain, "lora", data=data, held_out=0.0)
    assert {p.dtype for n, p in model.backbone.model.named_parameters() if "lora" in n} == {torch.float32}
    assert model.backbone.model.embeddings.word_embeddings.weight.dtype == torch.bfloat16


def test_quantised_weights_are_not_all_trained(encoder: str, tmp_path: Path) -> None:
    backbone = pl.backbones.load(encoder)
    backbone.model.hf_quantizer = object()
    with pytest.raises(ConfigError, match="received quantised weights"):
        fit("bradley_terry", backbone, "full", data={"pairs": tiny.pairs(tmp_path)})


def test_texts_beyond_the_context_are_tuned_on_what_fits(decoder: str, tmp_path: Path) -> None:
    """A tokenizer without a pad token, sides that begin alike, and more tokens than the model takes."""
    rows = [
        {"id": str(i), "prompt": "q", "chosen": f"a{i} " + "x" * 300, "rejected": f"b{i}", "group": f"g{i}"}
        for i in range(8)
    ]
    backbone = pl.backbones.load(decoder, max_length=32)
    assert backbone.tokenizer.pad_token is None
    model = fit("bradley_terry", backbone, data={"pairs": pl.load_pairs(rows)}, held_out=0.0)
    sides = [
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": rows[0][side]}]
        for side in ("chosen", "rejected")
    ]
    assert model.score(sides).isfinite().all()
    assert model.embed(sides).truncated.tolist() == [True, False]


def test_a_loss_that_is_not_finite_stops_with_its_rows(encoder: str, tmp_path: Path) -> None:
    data = {"ratings": tiny.ratings(tmp_path)}
    with pytest.raises(RunError, match=r"not finite in step \d.*groups 'g\d'.*smaller lr"):
        fit("quantile", encoder, "full", data=data, held_out=0.0, lr=1e25, max_grad_norm=0.0)


def test_an_adapter_without_peft(encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError, match="pip install peft"):
        fit("bradley_terry", encoder, data={"pairs": tiny.pairs(tmp_path)})


def test_a_saved_folder_that_was_changed_is_refused(encoder: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = fit("bradley_terry", encoder, data={"pairs": tiny.pairs(tmp_path)}, held_out=0.0)
    saved = model.save_pretrained(tmp_path / "model")
    with pytest.raises(FingerprintError):
        pl.RewardModel.from_pretrained(saved, backbone=pl.backbones.load(encoder), cache=None)
    file = saved / "backbone" / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, file)
    with pytest.raises(ArtifactError, match="not the file that was saved"):
        pl.RewardModel.from_pretrained(saved, cache=None)
    config = json.loads((saved / "config.json").read_text())
    config["sha256"].pop("backbone/adapter_model.safetensors")
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(FingerprintError, match="not those that the head was fitted on"):
        pl.RewardModel.from_pretrained(saved, cache=None)
    file.unlink()
    with pytest.raises(ArtifactError, match="missing or damaged"):
        pl.RewardModel.from_pretrained(saved, cache=None)


def test_every_warning_here_is_of_this_package() -> None:
    assert issubclass(TuningWarning, PluralignWarning)


def test_columns_of_no_size_do_not_drown_the_gradient(tmp_path: Path) -> None:
    from transformers import BertModel

    folder = tiny.encoder(tmp_path / "encoder")
    model = BertModel.from_pretrained(folder)
    with torch.no_grad():  # as in MiniLM
        last = model.encoder.layer[-1].output.LayerNorm
        last.weight[:2] = 1e-28
        last.bias[:2] = 0.0
    model.save_pretrained(folder)
    data = {"ratings": tiny.ratings(tmp_path)}
    frozen = fit("regression", folder, None, data=data)
    assert float(frozen.head.scaling.inverse_scale.max()) > 1e20
    tuned = fit("regression", folder, "full", data=data, held_out=0.0)
    assert (
        float(
            (tuned.embed(tiny.conversations()).response - frozen.embed(tiny.conversations()).response)
            .abs()
            .max()
        )
        > 1e-2
    )
