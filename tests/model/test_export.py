"""Exported checkpoints, loaded as others load them: output + shift is our score, in whatever batch.

The oracle is transformers itself (its classes and its pipeline); sentence-transformers and TRL in
`test_export_peers`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import pluralign as pl
from fake_backbone import FakeBackbone
from pluralign.conversations import tokenize
from pluralign.errors import ArgumentError, ArtifactError
from pluralign.heads import (
    Attribute,
    BradleyTerryHead,
    ColumnScaling,
    Gate,
    GateShape,
    GaussianEnsembleHead,
    Head,
    QuantileHead,
    Reference,
    RegressionHead,
)
from pluralign.heads.debias import Debias
from pluralign.heads.ensemble_members import Members
from pluralign.model.export import export
from pluralign.model.export.chat_text import exported_tokenizer, save_tokenizer
from tiny_backbones import tiny_decoder
from tiny_encoders import encoder_config
from tiny_tokenizers import FAMILIES, make_tokenizer

CLOSE = 1e-4
TALKS = [
    [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
    for ask, answer in (
        ("hello", "Paris is the capital of France."),
        ("A question, please", "no"),
        ("how are you today?", "I am fine thanks. The quick brown fox jumps over the lazy dog.\n2+2=4"),
        ("yes", "naïve café: a b c"),
    )
] + [
    [
        {"role": "user", "content": "tell me"},
        {"role": "assistant", "content": "what?"},
        {"role": "user", "content": "anything."},
        {"role": "assistant", "content": "Bonjour! Es-tu là?"},
    ]
]
ONE = (Attribute("quality", 1.0, 5.0, 1.0),)
TWO = (Attribute("clarity", 1.0, 5.0), Attribute("tone", 0.0, 10.0))
WIDTH = 32


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scaling(width: int = WIDTH) -> ColumnScaling:
    inverse = noise(width, seed=1).abs() + 0.5
    inverse[0] = 0.0  # a dead column
    return ColumnScaling(0.3 * noise(width, seed=2), inverse)


def linear_head(width: int = WIDTH) -> BradleyTerryHead:
    return BradleyTerryHead(scaling(width), 0.3 * noise(width, seed=3), Reference(0.3, 1.7))


def quantiles(levels: list[float], spread: float = 0.0, **parts: Any) -> QuantileHead:
    """Quantiles of two attributes; with a spread, the levels' slopes differ, so that they cross."""
    num = len(levels)
    slopes = 0.05 * noise(2, 1, WIDTH, seed=4) + spread * noise(2, num, WIDTH, seed=5)
    bias = torch.linspace(0.2, 0.8, num).expand(2, -1)
    tensor = torch.tensor(levels)
    return QuantileHead(scaling(), slopes, bias, tensor, TWO, Reference(0.4, 0.2), **parts)


def gaussians(num_heads: int, hidden: int = 0, **parts: Any) -> GaussianEnsembleHead:
    members = Members(2 * num_heads, WIDTH, 2, hidden)
    for place, parameter in enumerate(members.parameters()):
        parameter.data = 0.1 * noise(*parameter.shape, seed=place)
    head = GaussianEnsembleHead(scaling(), members, TWO, Reference(0.1, 0.5), **parts)
    head.head_scale += 0.1 * noise(num_heads)
    return head


def gate() -> Gate:
    return Gate.from_spec(Gate(GateShape(WIDTH, 2, hidden=4, layers=1)).spec())


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_decoder(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    from transformers import AutoModel

    folder = tmp_path_factory.mktemp("bert")
    tokenizer = make_tokenizer("words")
    tokenizer.model_max_length = 64
    torch.manual_seed(0)
    AutoModel.from_config(encoder_config("bert", len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": "<unk>"}))
    return folder


def texts_of(folder: Path) -> tuple[Any, list[str]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer, [tokenizer.apply_chat_template(one, tokenize=False) for one in TALKS]


def assert_scores(
    folder: Path, model: pl.RewardModel, shift: float, risk: str = "mean", **options: Any
) -> None:
    """Padded on either side, in a batch and alone."""
    from transformers import AutoModelForSequenceClassification

    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert loaded.config.num_labels == 1
    assert loaded.score.bias is None
    ours = model.score(TALKS, risk=risk, **options)
    tokenizer, texts = texts_of(folder)
    batches = [tokenizer(texts, padding=True, return_tensors="pt", padding_side=s) for s in ("right", "left")]
    batches += [tokenizer(text, return_tensors="pt") for text in texts]
    with torch.inference_mode():
        # Absolute positions count from the first token, which the padding side must not move.
        right, left, *alone = (
            loaded(**one, position_ids=(one["attention_mask"].cumsum(1) - 1).clamp(min=0)).logits[:, 0]
            for one in batches
        )
    for found in (right, left, torch.cat(alone)):
        torch.testing.assert_close(found + shift, ours, atol=CLOSE, rtol=0)


SLOW = [
    pytest.param(kind, marks=pytest.mark.slow)
    for kind in ("qwen2", "qwen3", "gpt_neox", "gemma", "gemma3_text", "mistral", "qwen3_moe", "opt", "phi3")
]


@pytest.mark.parametrize("kind", ["llama", "gpt2", *SLOW])
def test_architectures_score_as_we_do(kind, tmp_path):
    backbone = tiny_decoder(tmp_path / "backbone", kind)
    model = pl.RewardModel(backbone, linear_head(backbone.response_size))
    shift = model.export(tmp_path / "out", reference=TALKS)
    assert_scores(tmp_path / "out", model, shift)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["problem_type"] == "regression"
    assert config["architectures"][0].endswith("ForSequenceClassification")
    assert config["pluralign"]["shift"] == shift
    assert repr(shift) in (tmp_path / "out" / "README.md").read_text()
    assert not [file for file in (tmp_path / "out").rglob("*") if file.suffix in (".bin", ".pt", ".py")]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_folders_tokenizer_reads_what_the_backbone_reads(name, tmp_path):
    """With and without a template, a first token in it, a line break or an end token behind the last turn."""
    given = make_tokenizer(name)
    before = given.chat_template
    save_tokenizer(exported_tokenizer(given, TALKS[:1], 128), tmp_path)
    assert given.chat_template == before
    tokenizer, texts = texts_of(tmp_path)
    for one, text in zip(TALKS, texts, strict=True):
        ids = tokenize(one, given).ids
        assert tokenizer(text)["input_ids"] == ids
        assert list(tokenizer.apply_chat_template(one, return_dict=False)) == ids
    prompts = [tokenizer.apply_chat_template(one[:-1], tokenize=False) for one in TALKS]
    if before is not None:  # what trainers that tokenize prompts apart rely on
        assert prompts == [given.apply_chat_template(one[:-1], tokenize=False) for one in TALKS]
    options = {"tokenize": False, "add_generation_prompt": True}
    asked = tokenizer.apply_chat_template(TALKS[0][:1], **options)
    if before is not None:
        assert asked == given.apply_chat_template(TALKS[0][:1], **options)
    else:
        assert asked.endswith("hello")


@pytest.mark.parametrize(
    "name", ["llama-3", *(pytest.param(one, marks=pytest.mark.slow) for one in ("chatml", "base-first"))]
)
def test_templates_of_all_kinds_score_as_we_do(name, tmp_path):
    backbone = tiny_decoder(tmp_path / "backbone", tokenizer=name)
    model = pl.RewardModel(backbone, linear_head())
    assert_scores(tmp_path / "out", model, model.export(tmp_path / "out", reference=TALKS))
    assert texts_of(tmp_path / "out")[0].pad_token_id != tokenize(TALKS[0], backbone.tokenizer).ids[-1]


def test_the_pipeline_applies_no_sigmoid(llama, tmp_path):
    from transformers import pipeline

    model = pl.RewardModel(llama, linear_head())
    shift = model.export(tmp_path / "out")
    _, texts = texts_of(tmp_path / "out")
    found = pipeline("text-classification", str(tmp_path / "out"), device="cpu")(texts, batch_size=3)
    scores = torch.tensor([one["score"] for one in found]) + shift
    torch.testing.assert_close(scores, model.score(TALKS), atol=CLOSE, rtol=0)
    assert {one["label"] for one in found} == {"reward"}


MIDPOINTS = [0.1, 0.3, 0.5, 0.7, 0.9]
TENTHS = [0.1, 0.2, 0.5, 0.8, 0.9]
LINEAR: dict[str, tuple[Any, str]] = {
    "point": (lambda: RegressionHead(scaling(), 0.1 * noise(2, WIDTH), noise(2), TWO), "mean_std:2"),
    "gaussian": (
        lambda: RegressionHead(
            scaling(), 0.1 * noise(2, WIDTH), noise(2), TWO, residual_std=torch.tensor([0.2, 0.4])
        ),
        "cvar:0.1",
    ),
    "debiased": (
        lambda: RegressionHead(
            scaling(), 0.1 * noise(2, WIDTH), noise(2), TWO, debias=Debias(torch.eye(2) - 0.2)
        ),
        "mean",
    ),
    "midpoints": (lambda: quantiles(MIDPOINTS, spread=0.1), "mean"),
    "heads": (lambda: gaussians(3), "mean"),
}


@pytest.mark.parametrize("name", LINEAR)
def test_what_is_linear_for_every_text_needs_no_reference(name, llama, tmp_path):
    make, risk = LINEAR[name]
    model = pl.RewardModel(llama, make())
    assert_scores(tmp_path / "out", model, model.export(tmp_path / "out", risk), risk)


def test_fixed_attribute_weights_replace_the_gate(llama, tmp_path):
    model = pl.RewardModel(llama, quantiles(MIDPOINTS, gate=gate()))
    with pytest.raises(ArgumentError, match="gate"):
        model.export(tmp_path / "out", reference=TALKS)
    weights = {"clarity": 3.0, "tone": 1.0}
    shift = model.export(tmp_path / "out", weights=weights)
    assert_scores(tmp_path / "out", model, shift, weights=weights)


def test_quantiles_that_do_not_cross_have_a_linear_cvar(llama, tmp_path):
    model = pl.RewardModel(llama, quantiles(TENTHS))
    with pytest.raises(ArgumentError, match="reference"):
        model.export(tmp_path / "out", "cvar:0.2")
    shift = model.export(tmp_path / "out", "cvar:0.2", reference=TALKS)
    assert_scores(tmp_path / "out", model, shift, "cvar:0.2")


@pytest.mark.parametrize(
    ("head", "risk"),
    [
        (quantiles(TENTHS, spread=0.2), "mean"),  # sorted, and the levels are no midpoints
        (quantiles(MIDPOINTS, spread=0.2), "cvar:0.2"),
        (quantiles(MIDPOINTS), "exponential:1"),
        (gaussians(3), "worst_case"),
        (gaussians(1), "mean_std:1"),
    ],
)
def test_a_gap_above_the_tolerance_is_refused_with_its_size(head: Head, risk, llama, tmp_path):
    model = pl.RewardModel(llama, head)
    with pytest.raises(ArgumentError, match="RewardFunction") as caught:
        model.export(tmp_path / "out", risk, reference=TALKS)
    assert not (tmp_path / "out").exists()
    gap = float(str(caught.value).split("up to ")[1].split(";")[0])
    result = export(model, tmp_path / "out", risk, reference=TALKS, tolerance=2 * gap)
    assert 1e-4 < result.gap <= 1.01 * gap
    assert result.difference <= 1.01 * gap
    assert f"{result.gap:.2g}" in (tmp_path / "out" / "README.md").read_text()


def test_crossing_is_what_makes_the_gap(llama, tmp_path):
    """The same slopes for every level: no crossing, and the mean at any levels is linear."""
    model = pl.RewardModel(llama, quantiles(TENTHS))
    assert float(model.head.distribution(*model.read(TALKS)).crossing_rate.max()) == 0
    assert export(model, tmp_path / "out", reference=TALKS).gap < 1e-5


def softmax_head() -> Head:
    from pluralign.heads import CategoricalHead, Categories
    from pluralign.heads.categorical import CategoryLogits

    categories = Categories(("bad", "good"), (1.0, 5.0), (0.0, 1.0))
    return CategoricalHead(scaling(), [CategoryLogits(WIDTH, 2)], (categories,), ONE)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (softmax_head(), "softmax"),
        (gaussians(2, hidden=3), "hidden layer"),
        (
            quantiles(
                MIDPOINTS,
                debias=Debias(torch.eye(2), length_slope=torch.ones(2), length_unit="characters"),
            ),
            "characters",
        ),
    ],
)
def test_parts_that_are_not_linear_are_refused_with_the_reason(head, said, llama, tmp_path):
    with pytest.raises(ArgumentError, match=f"{said}.*RewardFunction"):
        pl.RewardModel(llama, head).export(tmp_path / "out", reference=TALKS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"pooling": "mean"}, "pooling='last'"), ({"length": True}, "length"), ({"surface": True}, "surface")],
)
def test_backbones_that_no_stock_checkpoint_pools_as_are_refused(options, said, tmp_path):
    backbone = tiny_decoder(tmp_path / "backbone", **options)
    model = pl.RewardModel(backbone, linear_head(backbone.response_size))
    with pytest.raises(ArgumentError, match=said):
        model.export(tmp_path / "out")


def test_other_refusals(llama, tmp_path):
    model = pl.RewardModel(llama, linear_head())
    for tolerance in (0, -1, float("nan"), "much"):
        with pytest.raises(ArgumentError, match="tolerance"):
            model.export(tmp_path / "out", tolerance=tolerance)
    with pytest.raises(ArgumentError, match="no conversations"):
        model.export(tmp_path / "out", reference=[])
    long = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "a b c " * 200}]
    with pytest.raises(ArgumentError, match="longer than"):
        model.export(tmp_path / "out", reference=[long])
    with pytest.raises(ArgumentError, match="FakeBackbone"):
        pl.RewardModel(FakeBackbone(), linear_head(6)).export(tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(ArtifactError, match="something else"):
        model.export(tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_packed_weights_are_refused(llama, tmp_path, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr(llama, "config", replace(llama.config, quantization="4bit"))
    with pytest.raises(ArgumentError, match="4bit.*unquantised"):
        pl.RewardModel(llama, linear_head()).export(tmp_path / "out")


def test_a_folder_that_scores_otherwise_is_not_kept(tmp_path):
    """In half precision stock classifiers round; with the tolerance for it the folder stands."""
    backbone = tiny_decoder(tmp_path / "backbone", dtype="bfloat16")
    model = pl.RewardModel(backbone, linear_head())
    with pytest.raises(ArtifactError, match="half precision"):
        model.export(tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["backbone"]
    assert export(model, tmp_path / "out", tolerance=0.2).difference > 1e-4


def test_conversations_that_the_template_changes_are_named(tmp_path):
    """A template that leaves reasoning out of a finished turn, which this package reads."""
    backbone = tiny_decoder(tmp_path / "backbone", tokenizer="r1")
    model = pl.RewardModel(backbone, linear_head())
    thought = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "a</think>b c"}]
    with pytest.raises(ArtifactError, match="chat template.*'a</think>b c'"):
        model.export(tmp_path / "out", reference=[*TALKS, thought])
    assert not (tmp_path / "out").exists()


def test_the_backbone_is_as_it_was(llama, tmp_path):
    before = {name: one.clone() for name, one in llama.model.state_dict().items()}
    config, pad = llama.model.config.to_dict(), llama.tokenizer.pad_token
    pl.RewardModel(llama, linear_head()).export(tmp_path / "out")
    assert all(torch.equal(one, before[name]) for name, one in llama.model.state_dict().items())
    assert llama.model.config.to_dict() == config
    assert llama.tokenizer.pad_token == pad


@pytest.mark.parametrize("way", ["around", "inside"])
def test_an_adapter_is_merged(way, tmp_path):
    """Around the model, as peft makes it, or in its layers, as it is after `inject_adapter_in_model`."""
    peft = pytest.importorskip("peft")
    backbone = tiny_decoder(tmp_path / "backbone")
    plain = pl.RewardModel(backbone, linear_head()).score(TALKS)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    make = peft.get_peft_model if way == "around" else lambda m, c: peft.inject_adapter_in_model(c, m)
    backbone.model = backbone._forward.model = make(backbone.model, config).eval()
    model = pl.RewardModel(backbone, linear_head())
    scores = model.score(TALKS)
    assert float((scores - plain).abs().max()) > 1e-3
    assert_scores(tmp_path / "out", model, model.export(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("adapter*"))
    assert torch.equal(model.score(TALKS), scores)  # the model itself keeps its adapter


@pytest.mark.parametrize("tune", ["lora", "full"])
@pytest.mark.filterwarnings("ignore::pluralign.errors.PluralignWarning")  # of twelve pairs
def test_a_tuned_model_exports_what_it_scores(tune, tmp_path):
    """From the fit over the saved folder to the stock checkpoint."""
    if tune == "lora":
        pytest.importorskip("peft")
    backbone = tiny_decoder(tmp_path / "backbone")
    rows = [
        {"prompt": f"question {i}", "chosen": "yes " * (1 + i % 3), "rejected": f"no {i}", "group": f"g{i}"}
        for i in range(12)
    ]
    tuning = {"max_steps": 6, "batch": 4, "lr": 0.02, "head_lr": 0.01, "held_out": 0.0, "rank": 2}
    pairs, options = pl.load_pairs(rows), {"backbone": backbone, "config": {"l2": 0.1}, "cache": None}
    frozen = pl.fit("bradley_terry", pairs=pairs, **options)
    tuned = pl.fit("bradley_terry", pairs=pairs, tune=tune, tuning=tuning, progress=False, **options)
    tuned.save_pretrained(tmp_path / "model")
    model = pl.RewardModel.from_pretrained(tmp_path / "model", cache=None)
    torch.testing.assert_close(model.score(TALKS), tuned.score(TALKS))
    assert float((model.score(TALKS) - frozen.score(TALKS)).abs().max()) > 0.01
    shift = model.export(tmp_path / "out")
    assert_scores(tmp_path / "out", model, shift)
    assert not list((tmp_path / "out").glob("adapter*"))


@pytest.mark.parametrize("pooling", ["mean", "last", "last_mean"])
def test_encoders_become_folders_of_sentence_transformers(bert, pooling, tmp_path):
    backbone = pl.backbones.load(str(bert), pooling=pooling, max_length=16)
    model = pl.RewardModel(backbone, linear_head(backbone.response_size))
    assert model.export(tmp_path / "out") == 0.0
    pooled = json.loads((tmp_path / "out" / "1_Pooling" / "config.json").read_text())
    modes = [name for name, chosen in pooled.items() if chosen is True]
    assert len(modes) == 1 + (pooling == "last_mean")
    modules = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert [one["path"] for one in modules] == ["", "1_Pooling", "2_Dense"]


def test_a_model_that_reads_its_padding_is_refused(tmp_path):
    from transformers import AutoModel

    tokenizer = make_tokenizer("words")
    tokenizer.model_max_length = 64
    torch.manual_seed(0)
    model = AutoModel.from_config(encoder_config("fnet", len(tokenizer)))
    model.save_pretrained(tmp_path / "fnet")
    tokenizer.save_pretrained(tmp_path / "fnet")
    backbone = pl.backbones.load(str(tmp_path / "fnet"))
    with pytest.raises(ArgumentError, match="does not ignore padding"):
        pl.RewardModel(backbone, linear_head(backbone.response_size)).export(tmp_path / "out")


def test_what_cannot_be_loaded_again_is_not_kept(llama, tmp_path, monkeypatch):
    from transformers import AutoModelForSequenceClassification

    def broken(*_args: Any, **_options: Any) -> Any:
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", broken)
    with pytest.raises(ArtifactError, match="not kept.*size mismatch"):
        pl.RewardModel(llama, linear_head()).export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pair_is_refused(bert, tmp_path):
    backbone = pl.backbones.load(str(bert), context="pair")
    with pytest.raises(ArgumentError, match="context='response'"):
        pl.RewardModel(backbone, linear_head(backbone.response_size)).export(tmp_path / "out")


def test_a_saved_model_exports_the_same(llama, tmp_path):
    folder = llama.config.name_or_path
    saved = tmp_path / "model"
    pl.RewardModel(llama, linear_head()).save_pretrained(saved)
    loaded = pl.RewardModel.from_pretrained(saved, cache=None)
    assert loaded.backbone.config.name_or_path == folder
    first = loaded.export(tmp_path / "one")
    second = loaded.export(tmp_path / "two")
    assert first == second
    shutil.rmtree(saved)
